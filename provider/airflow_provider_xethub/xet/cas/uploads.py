"""Uploads to CAS: files and streams, each read once, within a bound on memory."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from airflow_provider_xethub.exceptions import XetCancelledError, XetSourceError
from airflow_provider_xethub.xet import native_client, progress, tracing
from airflow_provider_xethub.xet.cas import cache as cas_cache
from airflow_provider_xethub.xet.cas import errors as cas_errors
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas.slowdown import Crawling, Slowdown, at_most, settle
from airflow_provider_xethub.xet.message_text import counted, os_reason
from airflow_provider_xethub.xet.process import memory, threads
from airflow_provider_xethub.xet.records import XetTransfer

log = logging.getLogger(__name__)


class Ahead(NamedTuple):
    """How many bytes may be written before CAS has stored them.

    :param always: bytes passed to the client that are not yet in CAS.
    :param filling: beyond that, bytes that are in no xorb yet, while memory allows.
    """

    always: int
    filling: int


SEVERAL = Ahead(136_000_000, 136_000_000)
"""For several streams: a little more than two xorbs. More would only use memory. With less, the upload would block:
each large file fills a xorb of its own, and the ends of finished files fill another."""

ONE = Ahead(0, 136_000_000)
"""For a single stream: one xorb, and what the client examines before it adds it, while it waits for a deduplication
query, too. With 80 MB and two xorbs in flight, 768 MiB took 4.5 s instead of 4.2 s at a latency of 50 ms."""

FILES = (104_000_000, 136_000_000)
LEAN_FILES = (80_000_000, 80_000_000)
"""The least and the most for small files, which the client reads later, by itself: the memory that is free then is not
known now. Lean, a little more than a xorb: the client then assembles hardly anything while CAS receives one. With 104
MB, 10,000 files, 4 GiB in all, took 6 % less time; with 136 MB, 3,000 files over 50 ms 7.2 s instead of 10.4 s."""

FILES_ROOM = 324_000_000
"""Bytes of memory below which small files are lean: several may take 80 MB more than the limit, and take 404 MB."""

FILES_MEMORY = (100_000_000, 3)
"""Bytes that an upload of small files takes in any case, and for each byte that is written ahead: as content, in a
xorb, and in what is sent. It took 331 MB with 80 MB, and 404 MB with 104 MB."""

STREAMS = ((32 << 20, 1), (cas_session.SMALL_FILE, 2), (0, 16))
"""Smallest size in bytes, and the number of concurrent streams of at least that size. What these hold back until a xorb
is full, together with the rest of earlier streams, fits into :data:`SEVERAL`, so that the upload never blocks."""

BLOCK = 1 << 20
"""Bytes of a large local file that are read at a time."""

SLACK = 32 << 20
"""Bytes by which the process may still grow after it was measured: xorbs that are being assembled then, and the heap.
Without it, uploads of 4 GiB that were held at 450 MB grew to 451 MB, and to 469 MB from S3."""

_MOST_FORGOTTEN = 2
_POLL_SECONDS = 0.01
_STALL_SECONDS = 10.0


@dataclass(frozen=True)
class Uploaded:
    """What CAS reports about an uploaded file: Xet hash and sha256 in hex, size in bytes."""

    xet_hash: str
    sha256: str
    size: int


class StreamSource(Protocol):
    """A source that is not a local file."""

    def blocks(self) -> Iterator[bytes]:
        """Read the content from the beginning."""


class _ShardRefusedError(Exception):
    """CAS refused the shard; ``error`` is that of the client."""

    def __init__(self, error: OSError | RuntimeError | ValueError) -> None:
        super().__init__(error)
        self.error = error


EMPTY = Uploaded("0" * 64, hashlib.sha256().hexdigest(), 0)


def upload(
    access: cas_session.CasAccess,
    sources: Sequence[Path | StreamSource],
    sizes: Sequence[int],
    deduplicate: bool | None = None,
    digests: Sequence[str | None] = (),
    held: int = 0,
) -> tuple[list[Uploaded], XetTransfer]:
    """Upload files and streams, each read once; where the sha256 is unknown, it is computed in that pass.

    :param sources: existing regular files, or streams.
    :param sizes: their sizes in bytes. Empty files are not sent: the client gives them a sha256 of zeros.
    :param deduplicate: as for :func:`airflow_provider_xethub.xet.cas.session.settings`.
    :param digests: the sha256 of each in hex, as far as it is known.
    :param held: bytes that the streams read ahead themselves and have in memory.
    :returns: one entry for each source in the same order, and the transfer in figures.
    :raises XetHubError: nothing that was sent can be published; see :mod:`airflow_provider_xethub.exceptions`.
    """
    about = f"the upload of {counted(len(sources), 'file')} to {access.token.repo}"
    for source in sources:
        if isinstance(source, Path):
            native_client.native_path(source)
    started = time.monotonic()
    with_content = sum(1 for size in sizes if size)
    config = cas_session.settings(with_content, sum(sizes), deduplicate, xorbs=access.xorbs_at_once())
    slowdown = Slowdown(about, access, config, upload=True)
    forgotten = 0
    with tracing.operation("xethub.upload", access.token.repo, direction="upload", files=len(sources)) as traced:
        while True:
            sent_before = slowdown.moved
            try:
                uploaded, transfer = _upload_once(access, sources, sizes, digests, held, about, config, slowdown)
                break
            except Crawling:
                continue
            except _ShardRefusedError as refused:
                # The xorb that CAS names may not be the only one.
                named = None if forgotten else cas_errors.xorb_named_in(refused.error)
                has_forgotten = forgotten < _MOST_FORGOTTEN and (
                    cas_cache.forget(access.cache_folder, named) or (named and cas_cache.forget(access.cache_folder))
                )
                if not has_forgotten:
                    with cas_session.translated_errors(access, about, upload=True):
                        raise refused.error from None
                forgotten += 1
                tracing.count_retry()
                log.warning(
                    "CAS lacks content that this worker has recorded as stored. Sending it again for %s.", about
                )
        # The last attempt counts what earlier ones sent as deduplicated: CAS has it already.
        transfer["bytes_sent"] += sent_before
        transfer["bytes_deduplicated"] = max(0, transfer["bytes_deduplicated"] - sent_before)
        transfer["seconds"] = round(time.monotonic() - started, 3)
        traced.moved(transfer)
    return uploaded, transfer


def _upload_once(
    access: cas_session.CasAccess,
    sources: Sequence[Path | StreamSource],
    sizes: Sequence[int],
    digests: Sequence[str | None],
    held: int,
    about: str,
    config: Mapping[str, Any],
    slowdown: Slowdown,
) -> tuple[list[Uploaded], XetTransfer]:
    """Upload everything in one session of the client.

    :raises Crawling: start again; xorbs that CAS has already are not sent again.
    :raises _ShardRefusedError: CAS may lack content that the client did not send, because it has a record of it.
    """
    started = time.monotonic()
    stopped = threading.Event()
    full = [number for number in range(len(sources)) if sizes[number]]
    known = {number: digest for number, digest in enumerate(digests) if digest}
    with cas_session.translated_errors(access, about, upload=True):
        session = cas_session.start(access, at_most(config, slowdown.concurrency))
        commit = cas_session.begin(access, session.new_upload_commit)
        handles: dict[int, Any] = {}
        sent: dict[int, Any] = {}
        streams: dict[int, StreamSource] = {}
        for number in full:
            source = sources[number]
            if not isinstance(source, Path):
                streams[number] = source
            elif sizes[number] > cas_session.SMALL_FILE:
                # Of a file that it reads itself, the client reads far more than it can send.
                streams[number] = _LargeFile(source, sizes[number])

        ceiling = access.memory_ceiling()
        ahead = (SEVERAL if len(full) > 1 else ONE) if streams else ahead_of_files(ceiling - memory.resident())
        pace = Pace(commit, stopped, ahead, ceiling - held - SLACK)

        def send(number: int) -> None:
            with cas_session.translated_errors(access, about, upload=True):
                sent[number] = _send(commit, streams[number], sizes[number], pace, known.get(number))

        def work() -> tuple[dict[int, Uploaded], Any]:
            waiting = list(streams)
            for least, most in STREAMS:
                threads.each(send, [number for number in waiting if sizes[number] >= least], most, stopped)
                waiting = [number for number in waiting if sizes[number] < least]
            for number in full:
                if number not in streams:
                    pace.wait(sizes[number])
                    handles[number] = _start_file(commit, sources[number], known.get(number))
            try:
                report = commit.wait_to_finish()
            except (OSError, RuntimeError, ValueError) as error:
                if cas_errors.refuses_shard(error):
                    raise _ShardRefusedError(error) from error
                raise
            by_task = report.uploads  # a new copy at each access
            infos = {number: by_task[handle.task_id()].xet_info for number, handle in handles.items()}
            infos |= {number: meta.xet_info for number, meta in sent.items()}
            done = {number: Uploaded(info.hash, info.sha256, info.file_size) for number, info in infos.items()}
            return done, report.dedup_metrics

        def watch(report: Any) -> None:
            moved, total = int(report.total_transfer_bytes_completed), sum(sizes)
            waits = report.total_transfer_bytes > moved
            if slowdown.should_restart(moved, int(report.total_bytes_completed), total, waits=waits):
                settle(session)
                raise Crawling

        with cas_session.abort_on_failure(commit.abort, stopped):
            meter = progress.Meter(about, sum(sizes), commit.progress, access.stall_timeout, watch)
            uploaded, metrics = threads.interruptible(work, meter)
    return [uploaded.get(number, EMPTY) for number in range(len(sources))], {
        "files": len(sources),
        "bytes": metrics.total_bytes,
        "bytes_sent": metrics.total_bytes_uploaded,
        "bytes_deduplicated": metrics.deduped_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


@dataclass(frozen=True)
class _LargeFile:
    """A local file that is streamed, up to the size it had: another process may keep appending to it."""

    path: Path
    size: int

    def blocks(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb", buffering=0) as stream:
                left = self.size
                while left and (block := stream.read(min(BLOCK, left))):
                    left -= len(block)
                    yield block
        except OSError as error:
            raise _unreadable(self.path, error) from error


def ahead_of_files(room: int) -> Ahead:
    """Return how much may be written of small files, in ``room`` bytes of memory."""
    always, for_each = FILES_MEMORY
    least, most = FILES if room >= FILES_ROOM else LEAN_FILES
    return Ahead(min(most, max(least, (room - always) // for_each)), 0)


def _start_file(commit: Any, path: Any, digest: str | None) -> Any:
    try:
        return commit.start_upload_file(native_client.native_path(path), sha256=digest)
    except ConnectionError:
        raise
    except OSError as error:
        # The client does not say which file it could not open.
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> XetSourceError:
    return XetSourceError(f"{path} can no longer be read: {os_reason(error)}. Nothing was published.")


class Pace:
    """Limit the memory of an upload to what keeps the connection to CAS busy.

    By itself, the client accepts 200 MB of one stream before it blocks the writer, and 64 MB of each file. A xorb is in
    memory as raw content until it is full, then in the form that is sent, until CAS has responded.

    :param commit: the client's upload.
    :param stopped: set when the upload is stopped.
    :param ahead: how much may be written before CAS has stored it.
    :param ceiling: resident size of the process in bytes below which another xorb is assembled while earlier ones are
        in flight. A process that is larger anyway assembles one at a time.
    """

    def __init__(self, commit: Any, stopped: threading.Event, ahead: Ahead, ceiling: int) -> None:
        self._commit = commit
        self._ahead = ahead
        self._ceiling = ceiling
        self._written = 0
        self._seen = (-1, -1)
        self._moved = time.monotonic()
        self._turn = threading.Lock()
        self.stopped = stopped

    def wait(self, count: int) -> None:
        """Wait until ``count`` more bytes may be written, or nothing has moved for a while: the client may need them.

        One writer at a time; the others wait for their turn.

        :raises XetCancelledError: the upload was stopped.
        """
        with self._turn:
            while not self.stopped.is_set():
                if self._may_continue(count):
                    self._written += count
                    return
                time.sleep(_POLL_SECONDS)
        raise XetCancelledError("The upload was stopped from outside.")

    def _may_continue(self, count: int) -> bool:
        report = self._commit.progress()
        done = int(report.total_bytes_completed)
        # Bytes in xorbs; the client counts the last bytes of a xorb as done only when CAS has responded.
        in_flight = int(report.total_transfer_bytes - report.total_transfer_bytes_completed)
        if (done, in_flight) != self._seen:
            self._seen, self._moved = (done, in_flight), time.monotonic()
        ahead = self._written + min(count, BLOCK) - done
        if ahead <= self._ahead.always or time.monotonic() - self._moved > _STALL_SECONDS:
            return True
        filling = ahead - in_flight
        if filling > self._ahead.filling:
            return False
        # A block that crosses the end of a xorb makes the client assemble that xorb at once.
        is_full = self._written + count - done - in_flight >= cas_session.XORB - BLOCK
        return not in_flight or memory.resident() + count + (cas_session.XORB if is_full else 0) <= self._ceiling


def _send(commit: Any, source: StreamSource, size: int, pace: Pace, digest: str | None) -> Any:
    """Stream one source into CAS, and return what CAS reports about it."""
    stream = commit.start_upload_stream(sha256=digest)
    blocks = source.blocks()
    # A small source is read at once.
    for block in threads.read_ahead(blocks, pace.stopped) if size > cas_session.SMALL_FILE else blocks:
        pace.wait(len(block))
        stream.write(block)
    return stream.finish()
