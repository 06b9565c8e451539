"""Digests that downloads are verified by: a file without any is not downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetNotFoundError,
    XetSourceError,
)
from airflow_provider_xethub.xet.files.object_targets import StoredTarget
from airflow_provider_xethub.xet.files.targets import Target, digest_of
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import named
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo

T = TypeVar("T")
R = TypeVar("R")
AnyTarget = TypeVar("AnyTarget", Target, StoredTarget)

VERIFIERS = 4
"""Files whose digests are computed at the same time."""

_EMPTY = "0" * 64


def is_verifiable(file: XetFile) -> bool:
    """Whether the content can be verified by the record.

    In a repository, by its sha256 or git blob id. The Hub reports neither for bucket files, but their Xet hash is
    computed over all bytes too. For an empty file the size is enough.
    """
    if not file["size"] or digest_of(file):
        return True
    return bool(file["xet_hash"]) and Repo.from_uri(file["repo"]).is_bucket


def check(files: Iterable[XetFile]) -> None:
    """Refuse files that cannot be verified.

    :raises XetInputError: names one of them. Nothing was downloaded.
    """
    for file in files:
        if file["size"] and file["xet_hash"] == _EMPTY:
            raise XetInputError(
                f"The record of {file['path']} of {file['repo']} has {file['size']} bytes and the Xet hash of an empty "
                "file. Nothing was downloaded. Pass records as XetListOperator returns them."
            )
        if not is_verifiable(file):
            raise XetInputError(_unverifiable(file))


def _unverifiable(file: XetFile) -> str:
    return (
        f"The record of {file['path']} of {file['repo']} has no sha256 and no blob_id, so the file cannot be "
        "verified. Nothing was downloaded. Pass records as XetListOperator returns them, or give the task a connection "
        "(xethub_conn_id) that can look them up."
    )


def completed(targets: Sequence[AnyTarget], hub: Callable[[], Hub] | None) -> list[AnyTarget]:
    """Return the targets with missing digests filled in from the Hub.

    :param hub: opens the Hub; ``None`` without a connection.
    :raises XetInputError: a digest is missing, and there is no connection to ask the Hub.
    :raises XetSourceError: the Hub now has another file under that path.
    """
    lacking = [target.file for target in targets if not is_verifiable(target.file)]
    if not lacking or hub is None:
        check(lacking)
        return list(targets)
    by_repo: dict[str, list[str]] = {}
    for file in lacking:
        by_repo.setdefault(file["repo"], []).append(file["path"])
    try:
        opened = hub()
    except XetAirflowConnectionError as error:
        raise XetAirflowConnectionError(f"{_unverifiable(lacking[0])} {error}") from error
    known = {
        (uri, file["path"]): file
        for uri, paths in by_repo.items()
        for file in opened.get_files(Repo.from_uri(uri), paths)
    }

    def full(target: AnyTarget) -> AnyTarget:
        file = target.file
        if is_verifiable(file):
            return target
        return replace(target, file=_with_digest(file, known.get((file["repo"], file["path"]))))

    return [full(target) for target in targets]


def _with_digest(file: XetFile, known: XetFile | None) -> XetFile:
    if known is None:
        raise XetNotFoundError(f"{file['path']} is no longer in {file['repo']}. It was not downloaded.", status=404)
    if known["size"] != file["size"] or (file["xet_hash"] and known["xet_hash"] != file["xet_hash"]):
        raise changed(file)
    digest: XetFile = {**file, "sha256": known["sha256"], "xet_hash": known["xet_hash"]}
    if "blob_id" in known:
        digest["blob_id"] = known["blob_id"]
    return digest


def is_other(file: XetFile, now: XetFile | None) -> bool:
    """Whether the Hub now has another file than the record describes."""
    if now is None or now["size"] != file["size"]:
        return True
    return any(
        file.get(name) and now.get(name) and file[name] != now[name] for name in ("sha256", "blob_id", "xet_hash")
    )


def changed(file: XetFile) -> XetSourceError:
    """Return the error for a file that changed at the Hub since it was listed."""
    return XetSourceError(
        f"{file['path']} of {named(file['repo'])} changed since it was listed. List it again, or list and download a "
        "commit (revision), which does not change. Nothing of it was kept."
    )


def each(work: Callable[[T], R], files: Sequence[T]) -> list[R]:
    """Do work that reads whole files, a few files at a time.

    The first error is raised after the work on the other files has finished, so that their results are kept.
    """
    return threads.stoppable(lambda stopped: threads.each(work, files, VERIFIERS, stopped, go_on=True))
