"""Batches of files to map over: whole folders, because the Hub lists a folder at a time and limits its files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.manifest import Totals
from airflow_provider_xethub.xet.manifests import listing
from airflow_provider_xethub.xet.manifests.spool import Spool
from airflow_provider_xethub.xet.records import XetManifest
from airflow_provider_xethub.xet.repo import Repo

MAX_BYTES = 512 << 10
"""Bytes that the names of all folders of a result may have together."""

_AT_ONCE = 200
"""Files that are open at the same time."""


@dataclass
class Batch:
    """Some folders and their files.

    :param folders: as a manifest has them: one with a slash at the end includes its subfolders.
    """

    folders: list[str] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)

    def manifest(self, repo: Repo, patterns: Sequence[str] | None) -> XetManifest:
        """Return the listing of these folders.

        :param repo: the repository at the commit that was listed.
        """
        chosen = listing.manifest_of(repo, self.totals, None, patterns)
        return {**chosen, "folders": list(self.folders)}


def plan(
    hub: Hub, repo: Repo, path: str | None, patterns: Sequence[str] | None, batch_files: int, *, keep: bool
) -> tuple[list[Batch], Spool | None]:
    """Divide files into batches.

    :param repo: the repository at a commit.
    :param path: only the files in this folder.
    :param batch_files: about how many files a batch has.
    :param keep: whether to return the records, too.
    :raises XetInputError: ``path`` is a file, or the folders are too many to name.
    """
    own: dict[str, Totals] = {}
    spool = Spool() if keep else None
    root = path.strip("/") if path is not None else ""
    for page in listing.pages(hub, repo, path, patterns):
        if root and any(file["path"] == root for file in page):
            raise XetInputError(f"batch_files divides folders, but {root} is a file of {repo}. Leave batch_files out.")
        for file in page:
            folder = posixpath.dirname(file["path"])
            if folder not in own:
                own[folder] = Totals()
            own[folder].add([file])
        if spool is not None:
            spool.add(page)
    batches = list(_packed(own, root, batch_files))
    named = sum(len(name.encode()) + 4 for batch in batches for name in batch.folders)
    if spool is None and named > MAX_BYTES:
        raise XetInputError(
            f"batch_files={batch_files} names folders of {named} bytes: choose a larger one, or set [xethub] "
            f"manifest_storage. XCom should hold no more than {MAX_BYTES}. {repo} has {len(own)} folders with files."
        )
    return batches, spool.finish() if spool is not None else None


def divided(spool: Spool, batches: Sequence[Batch]) -> Iterator[Spool]:
    """Yield the records of each batch.

    :param spool: the records of all batches.
    """
    for start in range(0, len(batches), _AT_ONCE):
        some = batches[start : start + _AT_ONCE]
        place = {name: number for number, batch in enumerate(some) for name in batch.folders}
        spools = [Spool() for _ in some]
        for file in spool:
            if (number := _batch_of(posixpath.dirname(file["path"]), place)) is not None:
                spools[number].add([file])
        yield from (each.finish() for each in spools)


def _batch_of(folder: str, place: dict[str, int]) -> int | None:
    if folder in place:  # only the files directly in it
        return place[folder]
    while f"{folder}/" not in place:
        if not folder:
            return None
        folder = posixpath.dirname(folder)
    return place[f"{folder}/"]


def _packed(own: dict[str, Totals], root: str, batch_files: int) -> Iterator[Batch]:
    """Yield batches of neighbouring folders."""
    batch = Batch()
    for name, totals in _units(own, root, batch_files):
        if batch.folders and batch.totals.file_count + totals.file_count > batch_files:
            yield batch
            batch = Batch()
        batch.folders.append(name)
        batch.totals.merge(totals)
    if batch.folders:
        yield batch


def _units(own: dict[str, Totals], root: str, batch_files: int) -> Iterator[tuple[str, Totals]]:
    """Yield folders that are not divided further: those with few files as a whole, of the others each by itself."""
    whole: dict[str, Totals] = {}
    children: dict[str, list[str]] = {}
    # The deepest first, so that each is complete when it is added to the one above.
    for folder in sorted(_with_parents(own, root), key=lambda each: -each.count("/") if each else 1):
        whole.setdefault(folder, Totals()).merge(own.get(folder, Totals()))
        if folder != root:
            above = posixpath.dirname(folder)
            children.setdefault(above, []).append(folder)
            whole.setdefault(above, Totals()).merge(whole[folder])
    todo = [root] if whole else []
    while todo:
        folder = todo.pop()
        if whole[folder].file_count <= batch_files:
            yield f"{folder}/", whole[folder]
            continue
        if folder in own:
            yield folder, own[folder]
        todo += sorted(children.get(folder, ()), reverse=True)


def _with_parents(folders: dict[str, Totals], root: str) -> set[str]:
    found: set[str] = set()
    for each in folders:
        folder = each
        while folder not in found:
            found.add(folder)
            if folder == root or not folder:
                break
            folder = posixpath.dirname(folder)
    return found
