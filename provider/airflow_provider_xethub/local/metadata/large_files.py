"""Find files with content in CAS in all revisions of a repository, and delete them permanently."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from airflow_provider_xethub.local.metadata import trees
from airflow_provider_xethub.local.metadata.history import HEADS
from airflow_provider_xethub.local.metadata.repositories import Repositories
from airflow_provider_xethub.local.metadata.trees import Entry
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION


@dataclass(frozen=True)
class LargeFile:
    """A file, with the reference and the time (UNIX seconds) of its first commit."""

    entry: Entry
    ref: str
    pushed: float


def find(repositories: Repositories, name: str) -> list[LargeFile]:
    """Return each distinct file once, those of ``main`` first."""
    found: dict[str, LargeFile] = {}
    seen: set[str] = set()
    references = sorted(repositories.refs(name), key=lambda ref: (ref.ref != HEADS + DEFAULT_REVISION, ref.ref))
    for reference in references:
        for commit in reversed(repositories.commits(name, reference.ref)):
            if commit.tree in seen:
                continue
            seen.add(commit.tree)
            for entry in repositories.entries(name, commit):
                if entry.kind == "xet" and entry.oid not in found:
                    found[entry.oid] = LargeFile(entry, reference.ref, commit.created)
    return [*found.values()]


def remove_from_history(repositories: Repositories, name: str, oids: Collection[str]) -> None:
    """Remove files from every commit. Commits keep their ids; on the real Hub they get new ones.

    :param oids: git ids of the files' LFS pointers.
    """
    with repositories.db.write() as connection:
        rows = connection.execute("SELECT id, tree FROM hub_commit WHERE repository = ?", (name,)).fetchall()
        for commit_id, tree in rows:
            editor = trees.TreeEditor(connection, tree)
            doomed = _paths(trees.walk(connection, tree, recursive=True), oids)
            for path in doomed:
                editor.delete_file(path)
            if doomed:
                connection.execute(
                    "UPDATE hub_commit SET tree = ? WHERE repository = ? AND id = ?",
                    (editor.save(commit_id), name, commit_id),
                )


def _paths(entries: Iterable[Entry], oids: Collection[str]) -> list[str]:
    return [entry.path for entry in entries if entry.kind == "xet" and entry.oid in oids]
