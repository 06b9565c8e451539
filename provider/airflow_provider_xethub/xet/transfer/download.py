"""Uploads and downloads as tasks know them: files and records on one side, CAS and the Hub on the other."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetIntegrityError,
    XetTokenExpiredError,
    XetTransferError,
)
from airflow_provider_xethub.xet import temporary_names as part_files
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.cas import downloads as cas_downloads
from airflow_provider_xethub.xet.cas import session as cas
from airflow_provider_xethub.xet.cas import streams as cas_streams
from airflow_provider_xethub.xet.cas import uploads as cas_uploads
from airflow_provider_xethub.xet.files import object_sources as stored_sources
from airflow_provider_xethub.xet.files import object_targets as stored_downloads
from airflow_provider_xethub.xet.files import targets as downloads
from airflow_provider_xethub.xet.files import xet_hash as xet_hash_downloads
from airflow_provider_xethub.xet.files.object_sources import StoredFile
from airflow_provider_xethub.xet.files.object_targets import StoredTarget
from airflow_provider_xethub.xet.files.sources import LocalFile, SourceFile, check_unchanged, read_unchanged
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.records import XetDownloadResult, XetFile, XetTransfer, XetUploadResult
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.task_state import TaskState
from airflow_provider_xethub.xet.transfer import digests

T = TypeVar("T")
R = TypeVar("R")

Place = TypeVar("Place", downloads.Target, StoredTarget)

VERIFIERS = 4
"""Files whose digests are computed at the same time."""

INLINE_AT_A_TIME = 8
"""Files that are read from the Hub at the same time: as many as its connections are kept open for."""

log = logging.getLogger(__name__)


class WithCasAccess(Protocol):
    """Runs a transfer with an open token, and once more with another one if CAS does not accept it."""

    def __call__(self, work: Callable[[cas.CasAccess], int]) -> int:
        """Return what ``work`` returns."""


def upload(
    access: cas.CasAccess,
    files: Sequence[SourceFile],
    deduplicate: bool | None = None,
    digests: Mapping[str, str] | None = None,
) -> XetUploadResult:
    """Upload files to CAS and return their records, ready for a commit.

    :param deduplicate: as for :func:`airflow_provider_xethub.xet.cas.session.settings`.
    :param digests: the sha256 of files, by path in the repository, where it is known; it is not computed again.
    :raises XetSourceError: a file changed while it was read.
    """
    repo = access.token.repo.uri
    sources = [file.path if isinstance(file, LocalFile) else file for file in files]
    known = [(digests or {}).get(file.path_in_repo) for file in files]
    sizes = [file.size for file in files]
    try:
        uploaded, transfer = cas_uploads.upload(access, sources, sizes, deduplicate, known)
    except XetTransferError as error:
        if type(error) is XetTransferError:
            # CAS refuses what is not as its digest of before says.
            workers.stoppable(lambda stopped: check_unchanged(files, sizes, stopped))
        raise
    workers.stoppable(lambda stopped: check_unchanged(files, [each.size for each in uploaded], stopped))
    records: list[XetFile] = []
    for file, each in zip(files, uploaded, strict=True):
        uploaded_file: XetFile = {**record(file, repo), "sha256": each.sha256, "xet_hash": each.xet_hash}
        if isinstance(file, StoredFile):
            uploaded_file["storage_uri"] = str(file)
        records.append(uploaded_file)
    return {"files": records, "transfer": transfer}


def fetch_samples(files: Sequence[SourceFile]) -> None:
    """Read the first bytes of what is in object storage; those of local files are known.

    :raises XetSourceError: one cannot be read.
    """
    stored = [file for file in files if isinstance(file, StoredFile)]
    workers.stoppable(lambda stopped: stored_sources.fetch_samples(stored, stopped))


def read_inline(files: Sequence[SourceFile]) -> dict[str, bytes]:
    """Return the content of small files, by path in the repository.

    :raises XetSourceError: one changed, or cannot be read any more.
    """
    contents = workers.stoppable(lambda stopped: read_unchanged(files, stopped))
    return {file.path_in_repo: content for file, content in zip(files, contents, strict=True)}


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


def record_of_content(path: str, content: bytes, repo: str) -> XetFile:
    """Return the record of a file that is in memory, before it is in CAS."""
    known = cas_uploads.Uploaded("", hashlib.sha256(content).hexdigest(), len(content))
    return {**record_of_stream(path, known, content, repo), "xet_hash": None}


def record_of_stream(path: str, uploaded: cas_uploads.Uploaded, head: bytes, repo: str) -> XetFile:
    """Return the record of a file that is in CAS, and that nobody has on disk.

    :param head: its first bytes.
    """
    return {
        "path": path,
        "size": uploaded.size,
        "sha256": uploaded.sha256,
        "xet_hash": uploaded.xet_hash,
        "repo": repo,
        "sample": base64.b64encode(head[: stored_sources.SAMPLE_BYTES]).decode(),
    }


def nothing() -> XetTransfer:
    """Return the figures of a transfer in which nothing had to move."""
    return {"files": 0, "bytes": 0, "bytes_sent": 0, "bytes_deduplicated": 0, "seconds": 0.0}


def download(
    targets: Sequence[downloads.Target],
    with_cas_access: WithCasAccess,
    hub: Callable[[], Hub] | None,
    attempt: part_files.Attempt = part_files.UNKNOWN,
) -> XetDownloadResult:
    """Download, verify and keep files; those already there and equal are left alone.

    :param with_cas_access: does the transfer with a token.
    :param hub: gives the Hub, for files that the repository stores inline; ``None`` without a connection.
    :param attempt: of the task that downloads: what earlier ones have left is removed.
    :raises XetInputError: an inline file is wanted, and there is no connection.
    :raises XetIntegrityError: what arrived is not the file. No damaged file is kept; good ones are.
    """
    started = time.monotonic()
    digests.check([target.file for target in targets])
    there = xet_hash_downloads.are_there(targets)
    equal = each(lambda target: target.path in there or downloads.is_there(target), targets)
    todo = [target for target, is_equal in zip(targets, equal, strict=True) if not is_equal]
    inline = [target for target in todo if not target.file["xet_hash"] or not target.file["size"]]
    _check_inline([target.file for target in inline if target.file["size"]], hub)
    done: set[Path] = set()

    def receive_inline(target: downloads.Target, content: bytes) -> None:
        downloads.write(target, content)
        downloads.keep(target)
        done.add(target.path)

    def work(access: cas.CasAccess) -> int:
        # The second time, only what is missing.
        missing = [target for target in todo if target.path not in done]

        def receive(number: int, pieces: Iterator[bytes]) -> None:
            target = missing[number]
            if downloads.digest_of(target.file):
                downloads.receive(target, pieces)
            else:
                xet_hash_downloads.receive(target, pieces)
            done.add(target.path)

        wanted = [
            cas_downloads.Wanted(target.file["path"], target.file["xet_hash"] or "", target.file["size"], target.part)
            for target in missing
        ]
        return cas_downloads.fetch(access, wanted, receive)

    others = [target for target, is_equal in zip(targets, equal, strict=True) if is_equal]
    with downloads.parts(todo, others, attempt):
        received = _fetch_inline(inline, hub, receive_inline)
        if len(done) < len(todo):
            with _telling_how_far(done, todo):
                received += with_cas_access(work)
    records = [_placed(target.file, "local_path", str(target.path)) for target in targets]
    return _result(records, [target.file for target in todo], received, started)


def download_to_storage(
    targets: Sequence[StoredTarget], with_cas_access: WithCasAccess, hub: Callable[[], Hub] | None, state: TaskState
) -> XetDownloadResult:
    """Stream files into object storage, verified while they pass; what the storage knows to be equal is left alone.

    :param with_cas_access, hub: as for :func:`download`.
    :param state: remembers for a retry what it has to clear away.
    :raises XetHubError: as for :func:`download`.
    """
    started = time.monotonic()
    digests.check([target.file for target in targets])
    unfinished = stored_downloads.Unfinished(state)
    workers.stoppable(lambda stopped: stored_downloads.clear_left(targets, unfinished, stopped))
    todo = workers.stoppable(lambda stopped: stored_downloads.missing(targets, stopped))
    inline = [target for target in todo if not target.file["xet_hash"] or not target.file["size"]]
    _check_inline([target.file for target in inline if target.file["size"]], hub)
    done: set[str] = set()

    def receive(target: StoredTarget, pieces: Iterator[bytes]) -> None:
        stored_downloads.receive(target, pieces, unfinished)
        done.add(target.path)

    def work(access: cas.CasAccess) -> int:
        # The second time, only what is missing.
        missing = [target for target in todo if target.path not in done]
        wanted = [(target.file["xet_hash"] or "", target.file["size"]) for target in missing]
        paths = [target.file["path"] for target in missing]
        return cas_streams.fetch(access, wanted, lambda number, pieces: receive(missing[number], pieces), paths)

    received = _fetch_inline(inline, hub, lambda target, content: receive(target, iter([content])))
    if len(done) < len(todo):
        with _telling_how_far(done, todo):
            received += with_cas_access(work)
    records = [_placed(target.file, "storage_uri", target.uri) for target in targets]
    return _result(records, [target.file for target in todo], received, started)


@contextmanager
def _telling_how_far(done: Collection[object], todo: Collection[object]) -> Iterator[None]:
    """Have the error of a token that expired meanwhile say how much of the work it was good for."""
    try:
        yield
    except XetTokenExpiredError as error:
        text = f"{error} {len(done)} of {len(todo)} files are complete; nothing of the others was kept."
        raise XetTokenExpiredError(text) from None


def _check_inline(files: Sequence[XetFile], hub: Callable[[], Hub] | None) -> None:
    if not files:
        return
    text = (
        f"{files[0]['path']} of {files[0]['repo']} is stored inline in the repository, not in CAS: "
        "reading it needs a connection on this worker (xethub_conn_id)."
    )
    if hub is None:
        raise XetInputError(text)
    try:
        hub()
    except XetAirflowConnectionError as error:
        raise XetAirflowConnectionError(f"{text} {error}") from error


def _fetch_inline(
    targets: Sequence[Place], hub: Callable[[], Hub] | None, receive: Callable[[Place, bytes], None]
) -> int:
    """Read files that the repository stores inline, and empty ones, several at a time; return the bytes received.

    :param receive: verifies and keeps the content. What it finds damaged is read once more.
    :raises XetIntegrityError: a file arrived damaged both times. All others were received.
    :raises XetSourceError: a file changed at the Hub since it was listed. All others were received.
    """
    read = hub() if hub and any(target.file["size"] for target in targets) else None
    wrong: list[XetTransferError] = []

    def fetch(target: Place) -> int:
        file = target.file
        repo = Repo.from_uri(file["repo"])
        for is_last in (False, True):
            content = read.read_inline(repo, file["path"]) if read and file["size"] else b""
            try:
                receive(target, content)
                break
            except XetIntegrityError as error:
                now = read.get_files(repo, [file["path"]]) if read else []
                if read and digests.is_other(file, now[0] if now else None):
                    wrong.append(digests.changed(file))
                    break
                if is_last:
                    wrong.append(XetIntegrityError(f"{error} It was fetched twice; let the task retry."))
                else:
                    log.warning("%s Fetching it once more.", error)
        return len(content)

    received = sum(workers.stoppable(lambda stopped: workers.each(fetch, targets, INLINE_AT_A_TIME, stopped)))
    if wrong:
        raise wrong[0]
    return received


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


def upload_contents(
    files: Sequence[XetFile], read: Callable[[XetFile], bytes], with_cas_access: WithCasAccess
) -> list[XetFile]:
    """Put small files into CAS, and return their records with digest and Xet hash.

    :param read: returns the content of a file; asked for one at a time.
    :param with_cas_access: does the transfer with a token.
    """
    uploaded: list[cas_uploads.Uploaded] = []

    def work(access: cas.CasAccess) -> int:
        sent, transfer = cas_uploads.upload(access, paths, [file["size"] for file in files])
        uploaded[:] = sent
        return transfer["bytes_sent"]

    if not files:
        return []
    with TemporaryDirectory(prefix="xethub-") as folder:
        paths = [Path(folder, str(number)) for number in range(len(files))]
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(read(file))
        with_cas_access(work)
    return [
        {**file, "sha256": each.sha256, "xet_hash": each.xet_hash} for file, each in zip(files, uploaded, strict=True)
    ]


def each(work: Callable[[T], R], targets: Sequence[T]) -> list[R]:
    """Do something with each target, a few at a time.

    The first error is raised after the others are done: what is good is kept.
    """
    return workers.stoppable(lambda stopped: workers.each(work, targets, VERIFIERS, stopped, go_on=True))
