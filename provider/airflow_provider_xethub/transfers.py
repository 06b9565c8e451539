"""Uploads and downloads as tasks know them: local files and records on one side, CAS and the Hub on the other."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from airflow_provider_xethub import cas, downloads
from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hub import Hub
from airflow_provider_xethub.records import XetDownloadResult, XetFile, XetTransfer, XetUploadResult
from airflow_provider_xethub.repo import Repo
from airflow_provider_xethub.sources import LocalFile, check_unchanged

Item = TypeVar("Item")
Result = TypeVar("Result")

VERIFIERS = 4
"""Files whose digests are computed at the same time."""


class InCas(Protocol):
    """Runs a transfer with an open token, and once more with another one if CAS does not accept it."""

    def __call__(self, work: Callable[[cas.CasAccess], int]) -> int:
        """Return what ``work`` returns."""


def upload(access: cas.CasAccess, files: Sequence[LocalFile]) -> XetUploadResult:
    """Upload files to CAS and return their records, ready for a commit.

    :raises XetSourceError: a file changed while it was read.
    """
    repo = access.token.repo.uri
    uploaded, transfer = cas.upload(access, [file.path for file in files], [file.size for file in files])
    check_unchanged(files, [each.size for each in uploaded])
    records = [
        {**record(file, repo), "sha256": each.sha256, "xet_hash": each.xet_hash}
        for file, each in zip(files, uploaded, strict=True)
    ]
    return {"files": records, "transfer": transfer}  # type: ignore[typeddict-item]


def record(file: LocalFile, repo: str) -> XetFile:
    """Return the record of a local file, before it is in CAS."""
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
    if inline and hub is None:
        raise XetInputError(
            f"{inline[0].file['path']} of {inline[0].file['repo']} is stored inline in the repository, not in CAS: "
            "reading it needs a connection on this worker (xethub_conn_id)."
        )
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
            cas.Wanted(target.file["xet_hash"], target.file["size"], target.part)
            for target in todo
            if target.file["xet_hash"] and target.file["size"]
        ]
        if wanted:
            received += in_cas(lambda access: cas.fetch(access, wanted))
        each(downloads.keep, todo)
    return {
        "files": [{**target.file, "local_path": str(target.path)} for target in targets],
        "transfer": {
            "files": len(todo),
            "bytes": sum(target.file["size"] for target in todo),
            "bytes_received": received,
            "skipped": len(targets) - len(todo),
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


def each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do something with each item, a few at a time, so that it stops at once when the task is stopped.

    The first error is raised after the others are done: what is good is kept.
    """
    results: dict[int, Result] = {}
    errors: dict[int, Exception] = {}
    todo = iter(enumerate(items))
    turn = threading.Lock()
    stopped = threading.Event()

    def take() -> None:
        while not stopped.is_set():
            with turn:
                taken = next(todo, None)
            if taken is None:
                return
            number, item = taken
            try:
                results[number] = work(item)
            except Exception as error:
                errors[number] = error

    # Not a ThreadPoolExecutor: the end of the process waits for its threads, and so for the digest of a large file.
    threads = [threading.Thread(target=take, name="xethub-verify", daemon=True) for _ in items[:VERIFIERS]]

    def work_on_all() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    try:
        cas.interruptible(work_on_all)
    finally:
        stopped.set()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(items))]
