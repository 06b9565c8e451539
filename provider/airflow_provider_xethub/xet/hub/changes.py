"""Find out which files differ between two commits, by listing no more folders than necessary.

The Hub has no documented way to compare two commits. But its listings contain the git id of each folder
(``RepoFolder.tree_id`` of ``huggingface_hub`` 2.4), which is the same as long as nothing in the folder has changed, so
that only changed folders have to be listed. A request lists up to 1,000 entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.pages import common_folder
from airflow_provider_xethub.xet.records import XetChanges, XetFile
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

MAX_FOLDERS = 16
"""Folders on one level that are listed one by one. If more have changed, the folder that contains all is listed."""

_Entries = Mapping[tuple[str, str], Any]
"""The Hub's entries by kind and path."""


def changes(hub: Hub, repo: Repo, since: str | None, path: str = "") -> XetChanges:
    """Return the files that are new or different in a commit, and the paths of those that are gone.

    :param repo: the repository at that commit. A branch may move between two requests.
    :param since: ID of the commit to compare with. ``None``: with an empty repository.
    :param path: only this file, or the files in this folder. Default: all.
    :raises XetInputError: the repository is a bucket, which has no commits.
    :raises XetNotFoundError: one of the commits does not exist.
    """
    if repo.is_bucket:
        raise XetInputError(f"{repo} is a bucket: it has no commits to compare.")
    comparison = _Comparison(hub, repo.at(since) if since else None, repo)
    comparison.compare(path.strip("/"))
    return {
        "files": [comparison.files[each] for each in sorted(comparison.files)],
        "deleted": sorted(comparison.deleted),
    }


class _Comparison:
    def __init__(self, hub: Hub, before: Repo | None, after: Repo) -> None:
        self._hub = hub
        self._before = before
        self._after = after
        self.files: dict[str, XetFile] = {}
        self.deleted: set[str] = set()

    def compare(self, path: str) -> None:
        """Compare a folder level by level."""
        if path:
            changed = self._add(self._info(self._before, path), self._info(self._after, path))
        else:
            changed = self._add(self._folder(self._before, ""), self._folder(self._after, ""))
        while changed:
            if len(changed) > MAX_FOLDERS:
                top = common_folder(list(changed))
                self._add(
                    self._folder(self._before, top, recursive=True), self._folder(self._after, top, recursive=True)
                )
                return
            deeper: dict[str, set[Repo | None]] = {}
            for folder, sides in changed.items():
                # A folder that only one of the commits has is new or gone with everything in it.
                listed = [
                    self._folder(side, folder, recursive=len(sides) == 1) if side in sides else {}
                    for side in (self._before, self._after)
                ]
                below = self._add(*listed)
                deeper |= below if len(sides) == 2 else {}
            changed = deeper

    def _add(self, was: _Entries, now: _Entries) -> dict[str, set[Repo | None]]:
        """Keep the files that differ, and return the folders that do, with the sides that have them."""
        folders: dict[str, set[Repo | None]] = {}
        for key in was.keys() | now.keys():
            kind, path = key
            before, after = was.get(key), now.get(key)
            if before is not None and after is not None and before.get("oid") and before["oid"] == after.get("oid"):
                continue
            if kind == "directory":
                sides = ((self._before, before), (self._after, after))
                folders[path] = {side for side, entry in sides if entry is not None}
            elif kind == "file" and after is not None:
                self.files[path] = self._record(after)
            elif kind == "file":
                self.deleted.add(path)
        return folders

    def _record(self, entry: Any) -> XetFile:
        with self._hub.reading(f"the listing of {self._after}"):
            return answers.file_record(entry, self._after.uri)

    def _info(self, repo: Repo | None, path: str) -> _Entries:
        return self._by_path(repo, self._hub.paths_info(repo, [path]) if repo else [])

    def _folder(self, repo: Repo | None, path: str, *, recursive: bool = False) -> _Entries:
        return self._by_path(repo, self._hub.tree(repo, path or None, recursive=recursive) if repo else [])

    def _by_path(self, repo: Repo | None, entries: Iterable[Any]) -> _Entries:
        with self._hub.reading(f"the listing of {repo}"):
            return {(answers.kind(entry), answers.path(entry.get("path")).rstrip("/")): entry for entry in entries}
