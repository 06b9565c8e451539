"""Uploads to CAS: files and streams, each read once, and no faster than memory allows."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from airflow_provider_xethub.exceptions import XetCancelledError, XetSourceError
from airflow_provider_xethub.xet import native_client, progress
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.cas import session as cas
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.records import XetTransfer

MEMORY = 390_000_000
"""Bytes of memory of the process within which an upload prepares one more xorb while others are on their way. A process
that has more without it gets by with one at a time."""

XORB = 64 << 20
"""Bytes of content in a full xorb; its data section in CAS has no more (xet-core ``MAX_XORB_BYTES``)."""


class Ahead(NamedTuple):
    """How far an upload may be ahead of CAS.

    :param always: bytes handed to the client that are not in CAS.
    :param filling: with more than that, bytes that are in no xorb yet, while there is memory.
    """

    always: int
    filling: int


SEVERAL = Ahead(136_000_000, 136_000_000)
"""For several streams: two xorbs and a little more. More would only be memory. Fewer, and nothing would move any more:
each large file fills a xorb of its own, and the ends of those that are done fill another."""

ONE = Ahead(0, 80_000_000)
"""For a single stream: one xorb and what the client looks at before it adds it."""

FILES = Ahead(80_000_000, 0)
"""For small files, which the client reads when it comes to them: a xorb and a little more. What memory there is now
says nothing about then."""

STREAMS = ((32 << 20, 1), (cas.SMALL_FILE, 2), (0, 16))
"""Of streams with so many bytes and more, how many at the same time. What they hold back until a xorb is full, and what
those before them have left, fits into :data:`SEVERAL`: so something always moves."""

BLOCK = 1 << 20
"""Bytes read of a large local file at a time."""

_PACE_SECONDS = 0.01
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Uploaded:
    """What CAS knows about one uploaded file: Xet hash and sha256 in hex, size in bytes."""

    xet_hash: str
    sha256: str
    size: int


class Streamed(Protocol):
    """A source that is no local file."""

    def blocks(self) -> Iterator[bytes]:
        """Read it from the beginning."""


EMPTY = Uploaded("0" * 64, hashlib.sha256().hexdigest(), 0)


def upload(
    access: cas.CasAccess,
    sources: Sequence[Path | Streamed],
    sizes: Sequence[int],
    deduplicate: bool | None = None,
    digests: Sequence[str | None] = (),
) -> tuple[list[Uploaded], XetTransfer]:
    """Upload files and streams, each read once; their sha256 is computed in that pass, where it is not known.

    :param sources: existing regular files, or what is streamed.
    :param sizes: their sizes in bytes. Empty files are not sent: the client gives them a sha256 of zeros.
    :param deduplicate: as for :func:`airflow_provider_xethub.xet.cas.session.settings`.
    :param digests: the sha256 of each in hex, as far as it is known.
    :returns: one entry for each source in the same order, and the transfer in figures.
    :raises XetHubError: nothing can be published of what was sent; see :mod:`airflow_provider_xethub.exceptions`.
    """
    about = f"the upload of {len(sources)} file(s) to {access.token.repo}"
    for source in sources:
        if isinstance(source, Path):
            native_client.native_path(source)
    started = time.monotonic()
    stopped = threading.Event()
    full = [number for number in range(len(sources)) if sizes[number]]
    known = {number: digest for number, digest in enumerate(digests) if digest}
    with cas.errors(access, about, upload=True):
        session = cas.session(access, cas.settings(len(full), sum(sizes), deduplicate))
        commit = cas.begin(access, session.new_upload_commit)
        handles: dict[int, Any] = {}
        sent: dict[int, Any] = {}
        streams: dict[int, Streamed] = {}
        for number in full:
            source = sources[number]
            if not isinstance(source, Path):
                streams[number] = source
            elif sizes[number] > cas.SMALL_FILE:
                # Of a file that the client reads itself, it takes in far more than it can send.
                streams[number] = _LargeFile(source, sizes[number])

        pace = Pace(commit, stopped, (SEVERAL if len(full) > 1 else ONE) if streams else FILES)

        def send(number: int) -> None:
            with cas.errors(access, about, upload=True):
                sent[number] = _send(commit, streams[number], sizes[number], pace, known.get(number))

        def work() -> tuple[dict[int, Uploaded], Any]:
            left = list(streams)
            for least, most in STREAMS:
                workers.each(send, [number for number in left if sizes[number] >= least], most, stopped)
                left = [number for number in left if sizes[number] < least]
            for number in full:
                if number not in streams:
                    pace.before(sizes[number])
                    handles[number] = _start_file(commit, sources[number], known.get(number))
            report = commit.wait_to_finish()
            by_task = report.uploads  # made anew at each look
            infos = {number: by_task[handle.task_id()].xet_info for number, handle in handles.items()}
            infos |= {number: meta.xet_info for number, meta in sent.items()}
            done = {number: Uploaded(info.hash, info.sha256, info.file_size) for number, info in infos.items()}
            return done, report.dedup_metrics

        with cas.aborting(commit.abort, stopped):
            meter = progress.Meter(about, sum(sizes), commit.progress, access.stall_timeout)
            uploaded, metrics = workers.interruptible(work, meter)
    return [uploaded.get(number, EMPTY) for number in range(len(sources))], {
        "files": len(sources),
        "bytes": metrics.total_bytes,
        "bytes_sent": metrics.total_bytes_uploaded,
        "bytes_deduplicated": metrics.deduped_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


@dataclass(frozen=True)
class _LargeFile:
    """A local file that is streamed: at most the bytes it had, should somebody be appending to it for ever."""

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


def _start_file(commit: Any, path: Any, digest: str | None) -> Any:
    try:
        return commit.start_upload_file(native_client.native_path(path), sha256=digest)
    except ConnectionError:
        raise
    except OSError as error:
        # The client does not say which file it could not open.
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> XetSourceError:
    return XetSourceError(f"{path} cannot be read any more: {os_reason(error)}. Nothing was published.")


class Pace:
    """Keeps an upload from taking more memory than it needs to keep the way to CAS busy.

    Left to itself, the client takes 200 MB of one stream before it lets the writer wait, and 64 MB of each file. A xorb
    is in memory as content until it is full, and from then on as it is sent, until CAS has answered.
    """

    def __init__(self, commit: Any, stopped: threading.Event, ahead: Ahead) -> None:
        self._commit = commit
        self._ahead = ahead
        self._written = 0
        self._seen = (-1, -1)
        self._moved = time.monotonic()
        self._turn = threading.Lock()
        self.stopped = stopped

    def before(self, count: int) -> None:
        """Wait until ``count`` bytes more may be written, though not where nothing moves: what waits may need them.

        One writer at a time: the others wait for their turn.

        :raises XetCancelledError: the upload was stopped.
        """
        with self._turn:
            while not self.stopped.is_set():
                if self._may_go_on(count):
                    self._written += count
                    return
                time.sleep(_PACE_SECONDS)
        raise XetCancelledError("stopped from outside.")

    def _may_go_on(self, count: int) -> bool:
        report = self._commit.progress()
        done = int(report.total_bytes_completed)
        # What is in xorbs; the client counts the last bytes of one as done only when CAS has answered.
        on_its_way = int(report.total_transfer_bytes - report.total_transfer_bytes_completed)
        if (done, on_its_way) != self._seen:
            self._seen, self._moved = (done, on_its_way), time.monotonic()
        ahead = self._written + min(count, BLOCK) - done
        if ahead <= self._ahead.always or time.monotonic() - self._moved > _PATIENCE_SECONDS:
            return True
        filling = ahead - on_its_way
        if filling > self._ahead.filling:
            return False
        # With a block that goes over the end of a xorb, that is prepared at once.
        is_full = self._written + count - done - on_its_way >= XORB - BLOCK
        return not on_its_way or _memory() + count + (XORB if is_full else 0) <= MEMORY


def _memory() -> int:
    """Return how many bytes of memory this process has."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _send(commit: Any, source: Streamed, size: int, pace: Pace, digest: str | None) -> Any:
    """Stream one source into CAS, and return what CAS knows about it."""
    stream = commit.start_upload_stream(sha256=digest)
    blocks = source.blocks()
    # A small one is read at once.
    for block in workers.read_ahead(blocks, pace.stopped) if size > cas.SMALL_FILE else blocks:
        pace.before(len(block))
        stream.write(block)
    return stream.finish()
