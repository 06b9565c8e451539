"""The extra of an asset event that describes a commit: plain JSON of limited size. Pure values: no I/O.

Airflow never deletes the extra of an event from its database, and passes it to every DAG run that the event starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from airflow_provider_xethub.xet.asset_uri import AssetPlace
from airflow_provider_xethub.xet.hub.pages import common_folder
from airflow_provider_xethub.xet.records import XetAssetEvent, XetCommitResult, XetFile, changed_files, pinned_record
from airflow_provider_xethub.xet.repo import Repo

MAX_FILES = 100
"""The most files that an event lists."""

MAX_DELETED = 100
"""The most deleted paths that an event lists."""

MAX_PATH_BYTES = 16_384
"""The most bytes that the paths of the listed files may have together; the same for the deleted paths."""

MAX_COMMITS = 1000
"""The most commits that an event lists. It lists none if there are more."""

T = TypeVar("T")


def event_extra(result: XetCommitResult, path: str = "") -> XetAssetEvent:
    """Return the extra of an asset event that describes a commit.

    :param result: the commit, as ``XetUploadOperator``, ``XetCommitOperator``, ``XetCopyOperator`` and the hook return
        it.
    :param path: describe only changes of this file, or in this folder. Default: all changes.
    """
    repo = Repo.from_uri(result["repo"])
    place = AssetPlace(repo, path)
    pinned = repo.at(result["oid"]).uri if result["oid"] else repo.uri
    files = _Totals()
    for file in changed_files(result):
        if place.has(file["path"]):
            files.add(file)
    deleted = [each for each in result["deleted"] if _concerns(place, each)]
    listed = _bounded(((pinned_record(file, pinned), file["path"]) for file in files.first), MAX_FILES)
    listed_deleted = _bounded(((each, each) for each in deleted), MAX_DELETED)
    folder = common_folder([*files.ends, *deleted])
    commits = [commit["oid"] for commit in result["commits"]]
    return {
        "oid": result["oid"],
        "url": result["url"],
        "repo": result["repo"],
        "created": result["created"],
        "pull_request": result["pull_request"],
        "files": listed,
        "file_count": files.count,
        "bytes": files.bytes,
        "deleted": listed_deleted,
        "deleted_count": len(deleted),
        "complete": (len(listed), len(listed_deleted)) == (files.count, len(deleted)),
        "path": folder if place.has(folder) else path,
        "commits": commits if len(commits) <= MAX_COMMITS else [],
    }


class _Totals:
    """The files of an event, of which there may be more than memory should hold.

    :ivar first: the first of them, more than an event lists.
    :ivar ends: the paths that sort first and last.
    """

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.first: list[XetFile] = []
        self.ends: list[str] = []

    def add(self, file: XetFile) -> None:
        """Add a file."""
        self.count += 1
        self.bytes += file["size"]
        if len(self.first) <= MAX_FILES:
            self.first.append(file)
        ends = [*self.ends, file["path"]]
        self.ends = [min(ends), max(ends)]


def _concerns(place: AssetPlace, deleted: str) -> bool:
    """Return whether a deleted file, or a folder with a trailing slash, is in the place or contains it."""
    return place.has(deleted.rstrip("/")) or (deleted.endswith("/") and f"{place.path}/".startswith(deleted))


def _bounded(items: Iterable[tuple[T, str]], most: int) -> Sequence[T]:
    """Return the first items, up to ``most`` and :data:`MAX_PATH_BYTES`."""
    kept: list[T] = []
    room = MAX_PATH_BYTES
    for item, path in items:
        room -= len(path.encode("utf-8", "replace"))
        if len(kept) == most or room < 0:
            break
        kept.append(item)
    return kept
