"""Find files with content in CAS in all revisions of a repository, and delete them permanently."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xethub_local.metadata import trees
from xethub_local.metadata.history import HEADS, Commit
from xethub_local.metadata.repositories import Repositories
from xethub_local.metadata.trees import Entry
from xethub_local.repo import DEFAULT_REVISION


@dataclass(frozen=True)
class LargeFile:
    """A file, with the reference and the time (UNIX seconds) of its first commit.

    :param ref: ``None`` where no reference can reach the file any more.
    """

    entry: Entry
    ref: str | None
    pushed: float


def find(repositories: Repositories, name: str) -> list[LargeFile]:
    """Return each distinct file once: those of ``main`` first, and last those that no reference can reach.

    The Hub keeps the latter after a squash or the deletion of a branch; that it lists them is why its documentation
    recommends this list for freeing storage.
    """
    found: dict[str, LargeFile] = {}
    seen: set[str] = set()
    references = sorted(repositories.refs(name), key=lambda ref: (ref.ref != HEADS + DEFAULT_REVISION, ref.ref))

    def add(commit: Commit, ref: str | None) -> None:
        if commit.tree in seen:
            return
        seen.add(commit.tree)
        for entry in repositories.entries(name, commit):
            if entry.kind == "xet" and entry.oid not in found:
                found[entry.oid] = LargeFile(entry, ref, commit.created)

    for reference in references:
        for commit in reversed(repositories.commits(name, reference.ref)):
            add(commit, reference.ref)
    for commit in repositories.all_commits(name):
        add(commit, None)
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
