"""Uploads and downloads as tasks know them: files and records on one side, CAS and the Hub on the other."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from airflow_provider_xethub import cas, cas_downloads, cas_uploads, downloads, stored_downloads, workers
from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hub import Hub
from airflow_provider_xethub.records import XetDownloadResult, XetFile, XetTransfer, XetUploadResult
from airflow_provider_xethub.repo import Repo
from airflow_provider_xethub.sources import LocalFile, SourceFile, check_unchanged, read_unchanged
from airflow_provider_xethub.stored_downloads import StoredTarget
from airflow_provider_xethub.stored_sources import AT_A_TIME, StoredFile

T = TypeVar("T")
R = TypeVar("R")

VERIFIERS = 4
"""Files whose digests are computed at the same time."""


class InCas(Protocol):
    """Runs a transfer with an open token, and once more with another one if CAS does not accept it."""

    def __call__(self, work: Callable[[cas.CasAccess], int]) -> int:
        """Return what ``work`` returns."""


def upload(access: cas.CasAccess, files: Sequence[SourceFile], deduplicate: bool | None = None) -> XetUploadResult:
    """Upload files to CAS and return their records, ready for a commit.

    :param deduplicate: as for :func:`airflow_provider_xethub.cas.settings`.
    :raises XetSourceError: a file changed while it was read.
    """
    repo = access.token.repo.uri
    sources = [file.path if isinstance(file, LocalFile) else file for file in files]
    uploaded, transfer = cas_uploads.upload(access, sources, [file.size for file in files], deduplicate)
    stoppable(lambda stopped: check_unchanged(files, [each.size for each in uploaded], stopped))
    records = [
        {**record(file, repo), "sha256": each.sha256, "xet_hash": each.xet_hash}
        for file, each in zip(files, uploaded, strict=True)
    ]
    return {"files": records, "transfer": transfer}  # type: ignore[typeddict-item]


def fetch_samples(files: Sequence[SourceFile]) -> None:
    """Read the first bytes of what is in object storage; those of local files are known.

    :raises XetSourceError: one cannot be read.
    """
    stored = [file for file in files if isinstance(file, StoredFile)]
    stoppable(lambda stopped: workers.each(StoredFile.fetch_sample, stored, AT_A_TIME, stopped))


def read_stored(files: Sequence[SourceFile]) -> dict[str, bytes]:
    """Return the content of small files in object storage, by path in the repository.

    :raises XetSourceError: one changed, or cannot be read any more.
    """
    stored = [file for file in files if isinstance(file, StoredFile)]
    contents = stoppable(lambda stopped: workers.each(read_unchanged, stored, AT_A_TIME, stopped))
    return {file.path_in_repo: content for file, content in zip(stored, contents, strict=True)}


def record(file: SourceFile, repo: str) -> XetFile:
    """Return the record of a file, before it is in CAS."""
    return {
        "path": file.path_in_repo,
        "size": file.size,
        "sha256": None,
        "xet_hash": None,
        "repo": repo,
        "sample": base64.b64encode(file.sample).decode(),
    }


def nothing() -> XetTransfer:
    """Return the figures of a transfer in which nothing had to move."""
    return {"files": 0, "bytes": 0, "bytes_sent": 0, "bytes_deduplicated": 0, "seconds": 0.0}


def download(targets: Sequence[downloads.Target], in_cas: InCas, hub: Callable[[], Hub] | None) -> XetDownloadResult:
    """Download, verify and keep files; those already there and equal are left alone.

    :param in_cas: does the transfer with a token.
    :param hub: gives the Hub, for files that the repository stores inline; ``None`` without a connection.
    :raises XetInputError: an inline file is wanted, and there is no connection.
    :raises XetIntegrityError: what arrived is not the file. No damaged file is kept; good ones are.
    """
    started = time.monotonic()
    received = 0
    todo = [target for target, there in zip(targets, each(downloads.is_there, targets), strict=True) if not there]
    inline = [target for target in todo if not target.file["xet_hash"] and target.file["size"]]
    _check_inline([target.file for target in inline], hub)
    with downloads.parts(todo):
        for target in todo:
            if not target.file["size"]:
                target.part.touch()
        for target in inline:
            assert hub is not None  # noqa: S101 - checked above
            content = hub().read_inline(Repo.from_uri(target.file["repo"]), target.file["path"])
            target.part.write_bytes(content)
            received += len(content)
        wanted = [
            cas_downloads.Wanted(target.file["xet_hash"], target.file["size"], target.part)
            for target in todo
            if target.file["xet_hash"] and target.file["size"]
        ]
        if wanted:
            received += in_cas(lambda access: cas_downloads.fetch(access, wanted))
        each(downloads.keep, todo)
    records = [_placed(target.file, "local_path", str(target.path)) for target in targets]
    return _result(records, [target.file for target in todo], received, started)


def download_to_storage(
    targets: Sequence[StoredTarget], in_cas: InCas, hub: Callable[[], Hub] | None
) -> XetDownloadResult:
    """Stream files into object storage, verified while they pass; what the storage knows to be equal is left alone.

    :param in_cas, hub: as for :func:`download`.
    :raises XetHubError: as for :func:`download`.
    """
    started = time.monotonic()
    received = 0
    there = stoppable(lambda stopped: workers.each(stored_downloads.is_there, targets, AT_A_TIME, stopped))
    todo = [target for target, is_there in zip(targets, there, strict=True) if not is_there]
    inline = [target for target in todo if not target.file["xet_hash"] or not target.file["size"]]
    _check_inline([target.file for target in inline if target.file["size"]], hub)
    done: set[str] = set()

    def receive(target: StoredTarget, pieces: Iterator[bytes]) -> None:
        stored_downloads.receive(target, pieces)
        done.add(target.path)

    for target in inline:
        content = b""
        if target.file["size"]:
            assert hub is not None  # noqa: S101 - checked above
            content = hub().read_inline(Repo.from_uri(target.file["repo"]), target.file["path"])
        stoppable(lambda _, target=target, content=content: receive(target, iter([content])))  # type: ignore[misc]
        received += len(content)

    def work(access: cas.CasAccess) -> int:
        # The second time, only what is missing.
        missing = [target for target in todo if target.path not in done]
        wanted = [(target.file["xet_hash"] or "", target.file["size"]) for target in missing]
        return cas_downloads.fetch_streams(access, wanted, lambda number, pieces: receive(missing[number], pieces))

    if len(done) < len(todo):
        received += in_cas(work)
    records = [_placed(target.file, "storage_uri", target.uri) for target in targets]
    return _result(records, [target.file for target in todo], received, started)


def _check_inline(files: Sequence[XetFile], hub: Callable[[], Hub] | None) -> None:
    if files and hub is None:
        raise XetInputError(
            f"{files[0]['path']} of {files[0]['repo']} is stored inline in the repository, not in CAS: "
            "reading it needs a connection on this worker (xethub_conn_id)."
        )


def _placed(file: XetFile, name: str, place: str) -> XetFile:
    kept = {key: value for key, value in file.items() if key not in ("local_path", "storage_uri")}
    return {**kept, name: place}  # type: ignore[typeddict-item]


def _result(files: list[XetFile], fetched: Sequence[XetFile], received: int, started: float) -> XetDownloadResult:
    return {
        "files": files,
        "transfer": {
            "files": len(fetched),
            "bytes": sum(file["size"] for file in fetched),
            "bytes_received": received,
            "skipped": len(files) - len(fetched),
            "seconds": round(time.monotonic() - started, 3),
        },
    }


def read_back(files: Sequence[XetFile], in_cas: InCas) -> dict[str, bytes]:
    """Return the content of files that are in CAS, by path, verified.

    :raises XetIntegrityError: what arrived is not the file.
    """
    with TemporaryDirectory(prefix="xethub-") as folder:
        targets = [
            downloads.Target(file, Path(folder, str(number)), Path(folder, f"{number}.part"))
            for number, file in enumerate(files)
        ]
        download(targets, in_cas, None)
        return {target.file["path"]: target.path.read_bytes() for target in targets}


def stoppable(work: Callable[[threading.Event], R]) -> R:
    """Do blocking work so that it stops at once when the task is stopped: the event it is given is then set."""
    stopped = threading.Event()
    try:
        return workers.interruptible(lambda: work(stopped))
    finally:
        stopped.set()


def each(work: Callable[[T], R], targets: Sequence[T]) -> list[R]:
    """Do something with each target, a few at a time.

    The first error is raised after the others are done: what is good is kept.
    """
    return stoppable(lambda stopped: workers.each(work, targets, VERIFIERS, stopped, go_on=True))
