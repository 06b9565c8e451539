"""Downloads from CAS to temporary files. The caller verifies them: the client does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetCancelledError, XetIntegrityError
from airflow_provider_xethub.xet import native_client, progress, tracing
from airflow_provider_xethub.xet.cas import crawl, streams
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas.slowdown import Crawling, Slowdown, at_most, settle
from airflow_provider_xethub.xet.message_text import counted, os_reason
from airflow_provider_xethub.xet.process import temporary_names, threads

if TYPE_CHECKING:
    from hf_xet import XetFileDownload

log = logging.getLogger(__name__)


READ_WHILE_WRITTEN = 16 << 20
"""Size in bytes from which a file is read while the client writes it, so that its digest is ready at its end."""

FILES_AT_A_TIME = 8
"""Files that are awaited, read and verified at the same time: as many large ones as the client fetches at once."""

_BLOCK = 256 << 10
"""Bytes that are read of a file at a time; of each file that is verified, two such blocks are in memory."""

_POLL_SECONDS = 0.01
_MAX_LOGGED = 10

_MOST_SMALL = 64
_SMALL_BYTES = 16 << 20
"""Small files that are fetched at the same time, and the bytes that they may have together, as each is in memory.

Each of them waits for two responses, and the client starts with four concurrent requests: at a latency of 50 ms, 400
files take 1.0 s instead of 5.5 s."""

Consume = Callable[[int, Iterator[bytes]], None]
"""Takes the number of a file and its content in pieces, and verifies it."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: its path in the repository, Xet hash, size in bytes, and the temporary path that it gets.

    The client writes it under another, random name beside that path. The client follows symbolic links, so no one may
    guess the name before the file exists, and an aborted attempt that still writes has a file of its own.
    """

    path: str
    xet_hash: str
    size: int
    part: Path


def fetch(access: cas_session.CasAccess, files: Sequence[Wanted], consume: Consume) -> int:
    """Fetch files to their temporary paths, and pass each to ``consume`` as soon as it is complete.

    :param consume: called with the content on disk, read while it is written. It must verify the content: the client
        checks only lengths. Files that it or the client finds damaged are fetched once more, from scratch, after all
        others, and passed to it again.
    :returns: bytes received over the network.
    :raises XetIntegrityError: a file arrived damaged both times. All others were passed to ``consume``.
    :raises XetHubError: the content of files that were not passed to ``consume`` is undefined.
    """
    about = f"the download of {counted(len(files), 'file')} from {access.token.repo}"
    config = _config(access, [file.size for file in files])
    slowdown = Slowdown(about, access, config, upload=False)
    unfinished = _Unfinished()
    try:
        try:
            first = at_most(config, slowdown.concurrency)
            received, damaged = _fetch_once(access, files, consume, first, unfinished, slowdown)
        except Crawling:
            damaged = None
        # Outside of the except clause: the traceback would keep the old session of the client, with its connections.
        if damaged is None:
            _continue(access, files, consume, unfinished, slowdown)
            return slowdown.moved
    finally:
        unfinished.remove()
    if not damaged:
        return received
    for error in list(damaged.values())[:_MAX_LOGGED]:
        log.warning("%s Fetching it again.", error)
    tracing.count_retry()
    numbers = sorted(damaged)
    again = [files[each] for each in numbers]
    config = _config(access, [file.size for file in again])
    more, still = _fetch_once(access, again, lambda at, some: consume(numbers[at], some), config, _Unfinished())
    if still:
        others = f" {counted(len(still) - 1, 'other file')} arrived damaged as well." if len(still) > 1 else ""
        raise XetIntegrityError(f"{still[min(still)]} It was fetched twice.{others}")
    return received + more


def _config(access: cas_session.CasAccess, sizes: Sequence[int]) -> dict[str, Any]:
    config = cas_session.settings(len(sizes), sum(sizes), buffer=access.download_buffer())
    if len(sizes) > 1 and (mean := sum(sizes) // len(sizes)) < cas_session.SMALL_FILE:
        at_a_time = min(_MOST_SMALL, max(FILES_AT_A_TIME, _SMALL_BYTES // max(1, mean)))
        config["data.max_concurrent_file_downloads"] = at_a_time
        config["client.ac_initial_download_concurrency"] = max(cas_session.FIRST_REQUESTS, at_a_time // 2)
    return config


class _Unfinished:
    """The files that a download which crawls has not finished: the next attempt continues them."""

    def __init__(self) -> None:
        self.finished: set[int] = set()
        self.scratch: dict[int, Path] = {}
        self._left: list[Path] = []

    def begin(self, number: int, part: Path) -> Path:
        """Create another temporary file; the client may still create the one before."""
        if number in self.scratch:
            self._left.append(self.scratch[number])
        scratch = self.scratch[number] = temporary_names.another(part)
        scratch.touch(exist_ok=False)
        return scratch

    def remove(self) -> None:
        """Remove what is left of the temporary files."""
        _remove([*self._left, *self.scratch.values()])


def _continue(
    access: cas_session.CasAccess,
    files: Sequence[Wanted],
    consume: Consume,
    unfinished: _Unfinished,
    slowdown: Slowdown,
) -> None:
    """Fetch the rest of a download that crawls, with fewer requests at a time: streams can begin anywhere in a file.

    The client of the aborted attempt has ended with its session: it writes nothing more.
    """
    numbers = sorted(set(range(len(files))) - unfinished.finished)
    rest = [files[number] for number in numbers]
    begun = []
    for number in numbers:
        path = unfinished.scratch.get(number)
        begun.append(min(path.stat().st_size, files[number].size) if path and path.exists() else 0)

    def take(at: int, arriving: Iterator[bytes]) -> None:
        number = numbers[at]
        part = files[number].part
        scratch = unfinished.scratch[number] if begun[at] else unfinished.begin(number, part)
        consume(number, _appended(files[number], scratch, begun[at], arriving))

    content = [(file.xet_hash, file.size) for file in rest]
    streams.fetch(access, content, take, [file.path for file in rest], begun, slowdown)


def _appended(file: Wanted, scratch: Path, begun: int, arriving: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of a temporary file and what arrives after it, which is written first; then rename it."""
    with scratch.open("r+b") as stream:
        left = begun
        while left and (block := stream.read(min(_BLOCK, left))):
            left -= len(block)
            yield block
        stream.seek(begun)
        for piece in arriving:
            stream.write(piece)
            yield piece
    scratch.replace(file.part)


def _fetch_once(
    access: cas_session.CasAccess,
    files: Sequence[Wanted],
    consume: Consume,
    config: Mapping[str, Any],
    unfinished: _Unfinished,
    slowdown: Slowdown | None = None,
) -> tuple[int, dict[int, XetIntegrityError]]:
    """Return the bytes received, and the errors of damaged files by number. Any other error aborts the download.

    :raises Crawling: continue with what ``unfinished`` then says.
    """
    about = f"the download of {counted(len(files), 'file')} from {access.token.repo}"
    total = sum(file.size for file in files)
    stopped = threading.Event()
    damaged: dict[int, XetIntegrityError] = {}
    verifying: set[int] = set()
    left = set(range(len(files)))
    ended = threading.Event()
    checks = 0
    with cas_session.translated_errors(access, about, upload=False):
        session = cas_session.start(access, config)
        from hf_xet import XetFileInfo

        group = cas_session.begin(access, session.new_file_download_group)
        handles: list[XetFileDownload] = []
        scratch: list[Path] = []

        def written(number: int) -> None:
            file = files[number]
            about_it = f"the download of {file.path} ({file.size} bytes) from {access.token.repo}"
            with cas_session.translated_errors(access, about_it, upload=False):
                handles[number].result()
            verifying.add(number)

        def take(number: int) -> None:
            try:
                consume(number, _pieces(files[number], scratch[number], partial(written, number)))
                unfinished.finished.add(number)
            except XetIntegrityError as error:
                damaged[number] = error
            finally:
                verifying.discard(number)
                left.discard(number)

        def work() -> None:
            try:
                for file in files:
                    if stopped.is_set():  # the temporary files are already removed
                        raise XetCancelledError(f"{about} was stopped from outside.")
                    scratch.append(temporary_names.another(file.part))
                    info = XetFileInfo(file.xet_hash, file.size)
                    handles.append(group.start_download_file(info, native_client.native_path(scratch[-1])))
                threads.each(take, range(len(files)), FILES_AT_A_TIME, stopped, abort=group.abort)
            finally:
                ended.set()

        def report() -> _Report:
            # While only the digest of a file is outstanding, the client makes no progress, but the transfer does.
            nonlocal checks
            checks += bool(verifying)
            now = group.progress()
            return _Report(now.total_bytes_completed, now.total_transfer_bytes_completed + checks)

        def watch(_: _Report) -> None:
            now = group.progress()
            moved, done = int(now.total_transfer_bytes_completed), int(now.total_bytes_completed)
            waits = crawl.is_bound_by_bandwidth([files[number].size for number in [*left]])
            if slowdown and slowdown.should_restart(moved, done, total, waits=waits):
                settle(session)  # the group's own abort may leave requests open, which keep the link crowded
                raise Crawling

        kept: set[Path] = set()
        try:
            with cas_session.abort_on_failure(group.abort, stopped):
                threads.interruptible(work, progress.Meter(about, total, report, access.stall_timeout, watch))
        except Crawling:
            ended.wait()  # for files that are complete and are still being verified
            begun = {number: path for number, path in enumerate(scratch) if number not in damaged}
            unfinished.scratch = begun
            kept = set(begun.values())
            raise
        except BaseException:
            _remove(scratch)  # at once: Airflow may kill the process while the client ends
            # An aborted group begins with files that waited for their turn, and creates them. This ends its threads.
            session.sigint_abort()
            raise
        finally:
            _remove(set(scratch) - kept)
        return int(group.progress().total_transfer_bytes_completed), damaged


def _remove(paths: Iterable[Path]) -> None:
    """Remove temporary files; one that cannot be removed must not hide why the download failed."""
    for path in list(paths):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("The temporary file %s cannot be removed: %s. A retry removes it.", path, os_reason(error))


def _pieces(file: Wanted, scratch: Path, written: Callable[[], None]) -> Iterator[bytes]:
    """Yield the content of the temporary file, then rename it. A large file is read while the client writes it.

    The client only appends (hf-xet 1.8: one ``writev`` after another, none at an offset), so what was read once does
    not change. If that ever changes, the digest is wrong, and the verification reads the file again.

    :param scratch: where the client writes the file.
    :param written: returns when the client has written the whole file; raises the error otherwise.
    """
    over = threading.Event()
    failure: list[BaseException] = []

    def wait() -> None:
        # Only this blocking call reports the end: try_result() and status() of hf-xet do not update by themselves.
        try:
            written()
        except BaseException as error:
            failure.append(error)
        finally:
            over.set()

    if file.size < READ_WHILE_WRITTEN:
        wait()
    else:
        threads.begin(threading.Thread(target=wait, name="xethub-written", daemon=True))
    while not over.is_set() and not scratch.exists():  # the client creates it with the first bytes
        over.wait(_POLL_SECONDS)
    if not failure:
        with scratch.open("rb", buffering=0) as stream:
            while not failure:
                # Checked before the read, so that nothing written in between is missed.
                is_over = over.is_set()
                if block := stream.read(_BLOCK):
                    yield block
                elif is_over:
                    break
                else:
                    over.wait(_POLL_SECONDS)
    if failure:
        raise failure[0]
    scratch.replace(file.part)


@dataclass
class _Report:
    """A report for :class:`progress.Meter`."""

    total_bytes_completed: int
    total_transfer_bytes_completed: int
