"""What an asset event says about a commit: plain JSON, and never much of it. Pure values: no I/O.

Airflow keeps the extra of each event in its database for ever, and hands it to every DAG run that the event starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from airflow_provider_xethub.xet.asset_uri import AssetPlace
from airflow_provider_xethub.xet.records import XetAssetEvent, XetCommitResult
from airflow_provider_xethub.xet.repo import Repo

MAX_FILES = 100
"""Files that an event lists at most."""

MAX_DELETED = 100
"""Deleted paths that an event lists at most."""

MAX_PATH_BYTES = 16_384
"""Bytes of all paths together that an event lists at most, of files and of deleted paths each."""

T = TypeVar("T")


def event_extra(result: XetCommitResult, path: str = "") -> XetAssetEvent:
    """Return what an asset event says about a commit.

    :param result: as ``XetUploadOperator``, ``XetCommitOperator``, ``XetCopyOperator`` and the hook return it.
    :param path: only what is this file, or in this folder; empty for all of it.
    """
    place = AssetPlace(Repo.from_uri(result["repo"]), path)
    unchanged = set(result["unchanged"])
    files = [file for file in result["files"] if file["path"] not in unchanged and place.has(file["path"])]
    deleted = [path for path in result["deleted"] if _is_or_holds(place, path)]
    return {
        "oid": result["oid"],
        "url": result["url"],
        "repo": result["repo"],
        "created": result["created"],
        "pull_request": result["pull_request"],
        "files": _bounded(((file, file["path"]) for file in files), MAX_FILES),
        "file_count": len(files),
        "bytes": sum(file["size"] for file in files),
        "deleted": _bounded(((each, each) for each in deleted), MAX_DELETED),
        "deleted_count": len(deleted),
    }


def _is_or_holds(place: AssetPlace, deleted: str) -> bool:
    """Whether a deleted path, or a folder with a slash at its end, has to do with the place."""
    return place.has(deleted.rstrip("/")) or (deleted.endswith("/") and f"{place.path}/".startswith(deleted))


def _bounded(items: Iterable[tuple[T, str]], most: int) -> Sequence[T]:
    """Return the first items, as many as fit."""
    kept: list[T] = []
    room = MAX_PATH_BYTES
    for item, path in items:
        room -= len(path.encode("utf-8", "replace"))
        if len(kept) == most or room < 0:
            break
        kept.append(item)
    return kept
