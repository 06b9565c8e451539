"""Uploads to CAS: local files as they are, and streams, each read once."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from airflow_provider_xethub import cas, progress, workers
from airflow_provider_xethub.exceptions import XetCancelledError
from airflow_provider_xethub.records import XetTransfer

AHEAD_OF_CAS = 72_000_000
"""Bytes that the first stream writes before they are in CAS: a little more than one xorb."""

_XORB = 64_000_000
_PACE_SECONDS = 0.02
_PATIENCE_SECONDS = 0.5


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
    access: cas.CasAccess, sources: Sequence[Path | Streamed], sizes: Sequence[int]
) -> tuple[list[Uploaded], XetTransfer]:
    """Upload files and streams, each read once; their sha256 is computed in that pass.

    :param sources: existing regular files, or what is streamed.
    :param sizes: their sizes in bytes. Empty files are not sent: the client gives them a sha256 of zeros.
    :returns: one entry for each source in the same order, and the transfer in figures.
    :raises XetHubError: nothing can be published of what was sent; see :mod:`airflow_provider_xethub.exceptions`.
    """
    about = f"the upload of {len(sources)} file(s) to {access.token.repo}"
    started = time.monotonic()
    stopped = threading.Event()
    full = [(number, source) for number, source in enumerate(sources) if sizes[number]]
    streams = [(number, source) for number, source in full if not isinstance(source, Path)]
    with cas.errors(access, about, upload=True):
        at_once = min(cas.LARGE_STREAMS, sum(sizes[number] >= cas.SMALL_FILE for number, _ in streams))
        # One large stream alone never has more than one xorb to send.
        bounds = {"client.ac_max_upload_concurrency": at_once or cas.LARGE_STREAMS} if len(streams) == len(full) else {}
        session = cas.session(access, cas.settings(len(full), sum(sizes)) | bounds)
        commit = cas.begin(access, session.new_upload_commit)

        pace = _Pace(commit, AHEAD_OF_CAS + _XORB * max(0, at_once - 1), stopped)

        sent: dict[int, Any] = {}

        def send(stream: tuple[int, Streamed]) -> None:
            with cas.errors(access, about, upload=True):
                sent[stream[0]] = _send(commit, stream[1], sizes[stream[0]], pace)

        def work() -> tuple[dict[int, Uploaded], Any]:
            handles = {n: commit.start_upload_file(str(source)) for n, source in full if isinstance(source, Path)}
            for together, most in cas.batches([sizes[number] for number, _ in streams]):
                workers.each(send, [streams[each] for each in together], most, stopped)
            report = commit.wait_to_finish()
            infos = {number: report.uploads[handle.task_id()].xet_info for number, handle in handles.items()}
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


class _Pace:
    """Keeps the streams of an upload from running far ahead of what is in CAS.

    The client takes 200 MB before it lets a writer wait.
    """

    def __init__(self, commit: Any, most: int, stopped: threading.Event) -> None:
        self._commit = commit
        self._most = most
        self._written = 0
        self._lock = threading.Lock()
        self.stopped = stopped

    def before(self, count: int) -> None:
        """Wait until ``count`` bytes more may be written, though not where nothing moves: what waits may need them.

        :raises XetCancelledError: the upload was stopped.
        """
        with self._lock:
            self._written += count
            written = self._written
        done, since = -1, time.monotonic()
        while not self.stopped.is_set():
            now = int(self._commit.progress().total_bytes_completed)
            if written - now <= self._most or time.monotonic() - since > _PATIENCE_SECONDS:
                return
            if now != done:
                done, since = now, time.monotonic()
            time.sleep(_PACE_SECONDS)
        raise XetCancelledError("stopped from outside.")


def _send(commit: Any, source: Streamed, size: int, pace: _Pace) -> Any:
    """Stream one source into CAS, and return what CAS knows about it."""
    stream = commit.start_upload_stream()
    blocks = source.blocks()
    # A small one is read at once.
    for block in workers.read_ahead(blocks, pace.stopped) if size > cas.SMALL_FILE else blocks:
        pace.before(len(block))
        stream.write(block)
    return stream.finish()
