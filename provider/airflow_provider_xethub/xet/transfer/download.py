"""Downloads: files from CAS and the Hub to local folders and object storage, each verified before it is kept."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetCancelledError,
    XetInputError,
    XetIntegrityError,
    XetTokenExpiredError,
    XetTransferError,
)
from airflow_provider_xethub.xet import native_client, tracing
from airflow_provider_xethub.xet.cas import downloads, streams
from airflow_provider_xethub.xet.cas.limits import STORAGE_WINDOW
from airflow_provider_xethub.xet.cas.session import LARGE_STREAMS, SMALL_FILE, CasAccess, WithCasAccess
from airflow_provider_xethub.xet.files import object_targets, xet_hash
from airflow_provider_xethub.xet.files import targets as local_targets
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.files.object_targets import StoredTarget
from airflow_provider_xethub.xet.files.s3.window import Window
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import counted, shortened
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.process.temporary_names import UNKNOWN, Attempt
from airflow_provider_xethub.xet.records import XetDownloadResult, XetFile
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.task_state import TaskState
from airflow_provider_xethub.xet.transfer import digests, existing

AnyTarget = TypeVar("AnyTarget", Target, StoredTarget)

INLINE_AT_A_TIME = 8
"""Inline files read from the Hub at the same time: as many as its connections are kept open for."""

_MAX_NAMED = 10
_TRIMMED_BYTES = 64 << 20

log = logging.getLogger(__name__)


class Contents(Protocol):
    """The content of inline files that comes with their records, for a worker without a connection."""

    def check(self, files: Sequence[XetFile]) -> None:
        """Refuse these files, before anything is written, unless :meth:`read` may return their content."""

    def read(self, file: XetFile) -> bytes:
        """Return the content of a file."""


def download_each(
    targets: Sequence[AnyTarget],
    access_to: Callable[[str], WithCasAccess],
    receive: Callable[[Sequence[AnyTarget], WithCasAccess], XetDownloadResult],
) -> XetDownloadResult:
    """Download the files of each revision on their own, because a token is for one revision.

    :param access_to: returns what runs a transfer with a token for the repository and revision of a URI.
    :param receive: downloads files of one revision.
    """
    results = {
        uri: receive([target for target in targets if target.file["repo"] == uri], access_to(uri))
        for uri in dict.fromkeys(target.file["repo"] for target in targets)
    }
    if len(results) == 1:
        return next(iter(results.values()))
    files = {file["path"]: file for each in results.values() for file in each["files"]}
    figures = [each["transfer"] for each in results.values()]
    return {
        "files": [files[target.file["path"]] for target in targets],
        "transfer": {
            "files": sum(each["files"] for each in figures),
            "bytes": sum(each["bytes"] for each in figures),
            "bytes_received": sum(each["bytes_received"] for each in figures),
            "skipped": sum(each["skipped"] for each in figures),
            "seconds": round(sum(each["seconds"] for each in figures), 3),
        },
    }


Download = TypeVar("Download", bound=Callable[..., XetDownloadResult])


def _traced(download: Download) -> Download:
    """Trace a function that downloads files of one revision."""

    @functools.wraps(download)
    def traced(targets: Sequence[Target | StoredTarget], *others: Any, **named: Any) -> XetDownloadResult:
        if not targets:
            return download(targets, *others, **named)
        repo = Repo.from_uri(targets[0].file["repo"])
        with tracing.operation("xethub.download", repo, direction="download") as operation:
            result = download(targets, *others, **named)
            operation.moved(result["transfer"])
        return result

    return cast("Download", traced)


@_traced
def download(
    targets: Sequence[Target],
    with_cas_access: WithCasAccess,
    hub: Callable[[], Hub] | None,
    attempt: Attempt = UNKNOWN,
    contents: Contents | None = None,
    kept: Callable[[Target], None] = lambda _: None,
    memory: DigestMemory | None = None,
) -> XetDownloadResult:
    """Download and verify files; files that are already there and equal are skipped.

    :param with_cas_access: runs the transfer with a token.
    :param hub: opens the Hub, for files that the repository stores inline; ``None`` without a connection.
    :param attempt: of the task that downloads; files left by earlier attempts are removed.
    :param contents: inline content that came with the records, instead of ``hub``; ``None`` with a connection.
    :param kept: called in a thread for each file that was downloaded, as soon as it has its final name.
    :param memory: remembers digests of existing files that did not change; ``None``: all are read.
    :raises XetInputError: a file is stored inline, and there is neither a connection nor its content.
    :raises XetIntegrityError: a file arrived damaged. Damaged files are not kept; good ones are.
    """
    started = time.monotonic()
    digests.check([target.file for target in targets])
    there = existing.equal(targets, memory)
    todo = [target for target in targets if target.path not in there]
    inline = [target for target in todo if not target.file["xet_hash"] or not target.file["size"]]
    check_inline([target.file for target in inline if target.file["size"]], hub, contents)
    done: set[Path] = set()

    def receive_inline(target: Target, content: bytes) -> None:
        local_targets.write(target, content)
        local_targets.complete_from_disk(target)
        done.add(target.path)
        kept(target)

    def work(access: CasAccess) -> int:
        # A second attempt transfers only what is missing.
        missing = [target for target in todo if target.path not in done]

        def receive(number: int, pieces: Iterator[bytes]) -> None:
            target = missing[number]
            if local_targets.digest_of(target.file):
                local_targets.complete(target, pieces)
            else:
                xet_hash.complete(target, pieces)
            done.add(target.path)
            kept(target)

        wanted = [
            downloads.Wanted(target.file["path"], target.file["xet_hash"] or "", target.file["size"], target.part)
            for target in missing
        ]
        return downloads.fetch(access, wanted, receive)

    others = [target for target in targets if target.path in there]
    with local_targets.temporary_files(todo, others, attempt):
        received = _fetch_inline(inline, hub, receive_inline, contents)
        if len(done) < len(todo):
            with _reporting_progress(done, todo):
                received += with_cas_access(work)
    records = [_placed(target.file, "local_path", str(target.path)) for target in targets]
    return _result(records, [target.file for target in todo], received, started)


@_traced
def download_to_storage(
    targets: Sequence[StoredTarget],
    with_cas_access: WithCasAccess,
    hub: Callable[[], Hub] | None,
    state: TaskState,
    contents: Contents | None = None,
) -> XetDownloadResult:
    """Stream files into object storage, verified on the way; files that the storage reports as equal are skipped.

    :param with_cas_access, hub, contents: as for :func:`download`.
    :param state: stores for a retry what it has to remove.
    :raises XetHubError: as for :func:`download`.
    """
    started = time.monotonic()
    digests.check([target.file for target in targets])
    unfinished = object_targets.Unfinished(state)
    threads.stoppable(lambda stopped: object_targets.remove_abandoned(targets, unfinished, stopped))
    todo = threads.stoppable(lambda stopped: object_targets.missing(targets, stopped))
    inline = [target for target in todo if not target.file["xet_hash"] or not target.file["size"]]
    check_inline([target.file for target in inline if target.file["size"]], hub, contents)
    done: set[str] = set()

    def receive(target: StoredTarget, pieces: Iterator[bytes]) -> None:
        object_targets.write(target, _trimmed(pieces), unfinished)
        done.add(target.path)

    def work(access: CasAccess) -> int:
        # A second attempt transfers only what is missing.
        missing = [target for target in todo if target.path not in done]
        wanted = [(target.file["xet_hash"] or "", target.file["size"]) for target in missing]
        paths = [target.file["path"] for target in missing]
        at_a_time = min(LARGE_STREAMS, sum(size >= SMALL_FILE for _, size in wanted)) or 1
        most = min(access.storage_window(), STORAGE_WINDOW // 2)
        window = Window(most // at_a_time, access.limits.concurrency, access.stall_timeout * 0.8)
        for storage in {target.storage for target in missing}:
            storage.window = window
        return streams.fetch(access, wanted, lambda number, pieces: receive(missing[number], pieces), paths)

    received = _fetch_inline(inline, hub, lambda target, content: receive(target, iter([content])), contents)
    if len(done) < len(todo):
        with _reporting_progress(done, todo):
            received += with_cas_access(work)
    records = [_placed(target.file, "storage_uri", target.uri) for target in targets]
    return _result(records, [target.file for target in todo], received, started)


def _trimmed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces, and return freed memory to the system now and then: pieces and parts leave gaps in the heap."""
    passed = 0
    for piece in pieces:
        yield piece
        passed += len(piece)
        if passed >= _TRIMMED_BYTES:
            passed = 0
            native_client.release_memory()


@contextmanager
def _reporting_progress(done: Collection[object], todo: Collection[object]) -> Iterator[None]:
    """Add to the error of an expired token how many files are complete."""
    try:
        yield
    except XetTokenExpiredError as error:
        text = f"{error} {len(done)} of {len(todo)} files are complete; nothing of the others was kept."
        raise XetTokenExpiredError(text) from None


def check_inline(files: Sequence[XetFile], hub: Callable[[], Hub] | None, contents: Contents | None) -> None:
    """Refuse inline files whose content this worker can neither read from the Hub nor from their records."""
    lacking = [file for file in files if contents is None or "sealed_content" not in file]
    if lacking and hub is None:
        raise XetInputError(_lacking(lacking))
    if lacking and hub is not None:
        try:
            hub()
        except XetAirflowConnectionError as error:
            raise XetAirflowConnectionError(f"{_lacking(lacking)} {error}") from error
    if contents is not None:
        contents.check(files)


def _lacking(files: Sequence[XetFile]) -> str:
    names = shortened([file["path"] for file in files], _MAX_NAMED)
    # The records of a listing have it for every inline file, those of an upload do not.
    in_lfs = [file["path"] for file in files if not file.get("blob_id")]
    only = f"If {shortened(in_lfs, 1)} is in LFS but not in CAS, only a connection helps. " if in_lfs else ""
    return (
        f"{counted(len(files), 'inline file')} without content: list with inline_content=True, or set xethub_conn_id. "
        f"In {files[0]['repo']}, the repository itself stores {names}, not CAS, so a token alone cannot read them. "
        "Either the task that lists them, with the connection, puts the content into the records, or this task gets a "
        f"connection. {only}None of these was downloaded."
    )


def _fetch_inline(
    targets: Sequence[AnyTarget],
    hub: Callable[[], Hub] | None,
    receive: Callable[[AnyTarget, bytes], None],
    contents: Contents | None,
) -> int:
    """Read inline and empty files, several at a time; return the bytes received.

    :param receive: verifies and keeps the content. A damaged file is read once more.
    :param contents: what came with the records; nothing is received then.
    :raises XetIntegrityError: a file arrived damaged twice. All others were kept.
    :raises XetSourceError: a file changed at the Hub since it was listed. All others were kept.
    """
    read = hub() if hub and contents is None and any(target.file["size"] for target in targets) else None
    wrong: list[XetTransferError] = []

    def fetch(target: AnyTarget, stopped: threading.Event) -> int:
        file = target.file
        if contents is not None and file["size"]:
            receive(target, contents.read(file))
            return 0
        repo = Repo.from_uri(file["repo"])
        for is_last in (False, True):
            content = read.read_inline(repo, file["path"]) if read and file["size"] else b""
            if stopped.is_set():  # the temporary files are already removed
                raise XetCancelledError(f"The download of {file['path']} from {repo} was stopped from outside.")
            try:
                receive(target, content)
                break
            except XetIntegrityError as error:
                now = read.get_files(repo, [file["path"]]) if read else []
                if read and digests.is_other(file, now[0] if now else None):
                    wrong.append(digests.changed(file))
                    break
                if is_last:
                    wrong.append(XetIntegrityError(f"{error} It was fetched twice."))
                else:
                    log.warning("%s Fetching it once more.", error)
        return len(content)

    received = sum(
        threads.stoppable(
            lambda stopped: threads.each(lambda target: fetch(target, stopped), targets, INLINE_AT_A_TIME, stopped)
        )
    )
    if wrong:
        raise wrong[0]
    return received


def _placed(file: XetFile, name: str, place: str) -> XetFile:
    kept = {key: value for key, value in file.items() if key not in ("local_path", "storage_uri", "sealed_content")}
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
