"""Bytes in and out of CAS, over ``hf_xet``: the one place that knows how that client wants to be treated.

``hf_xet`` is imported when the first transfer starts, never before: it starts threads and opens a log file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_xethub import cas_errors, progress, workers
from airflow_provider_xethub.exceptions import XetCancelledError, XetHubError, XetIntegrityError
from airflow_provider_xethub.records import XetTransfer
from airflow_provider_xethub.token import XetToken

if TYPE_CHECKING:
    from hf_xet import XetSession

log = logging.getLogger(__name__)

T = TypeVar("T")

SMALL_FILE = 4 << 20
"""Mean size in bytes below which an upload is bound by one deduplication query per file instead of by bandwidth."""

RETRIES = 4
RETRY_DELAY = "2s"
"""Tries after the first, and the wait before them, which doubles each time; the client's own defaults take minutes."""

STOP_SECONDS = 0.4
"""How long a stopped transfer is waited for before the task goes on; the client needs 0.1 s."""

LARGE_STREAMS = 2
SMALL_STREAMS = 16
"""Streams at the same time, of large and of small files: each holds a xorb in memory, or waits for one request."""

AHEAD_OF_CAS = 72_000_000
"""Bytes that the first stream writes before they are in CAS: a little more than one xorb."""

_XORB = 64_000_000
_PACE_SECONDS = 0.02
_PATIENCE_SECONDS = 0.5

_ENVIRONMENT = {"HF_XET_LOG_DEST": os.devnull, "RUST_LOG": "warn"}


@dataclass(frozen=True)
class CasAccess:
    """What a transfer needs to reach CAS, always given to the client together.

    :param token: an open Xet token.
    :param refresh_url: where the client gets the next one; ``None`` on a worker without a connection.
    :param refresh_headers: what the refresh route wants; carries the Hub token, so never shown.
    :param stall_timeout: seconds without progress after which the transfer is ended.
    """

    token: XetToken
    refresh_url: str | None = None
    refresh_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    stall_timeout: float = progress.STALL_TIMEOUT

    def options(self) -> dict[str, Any]:
        """Return the authorisation of one operation, as keyword arguments of ``XetSession.new_*``.

        The client silently drops a token without an expiry, and silently talks to port 8080 without an endpoint.
        """
        options: dict[str, Any] = {
            "endpoint": self.token.cas_url,
            "token": self.token.access_token,
            "token_expiry_unix_secs": self.token.local_expiry,
        }
        if self.refresh_url:
            options |= {"token_refresh_url": self.refresh_url, "token_refresh_headers": dict(self.refresh_headers)}
        return options


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


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: Xet hash, size in bytes, and the temporary path to write it to."""

    xet_hash: str
    size: int
    path: Path


def settings(files: int, total_bytes: int) -> dict[str, Any]:
    """Return the client's settings for a worker that runs many tasks.

    Bounded retries (62 s of waiting instead of six minutes for each call), bounded buffers (a quarter of a GB instead
    of a fraction of the host's memory for each process), and many small files at a time, because each waits for one
    deduplication query.
    """
    small = files > 1 and total_bytes / files < SMALL_FILE
    return {
        "client.retry_max_attempts": RETRIES,
        "client.retry_base_delay": RETRY_DELAY,
        "client.retry_max_duration": "30s",
        "client.connect_timeout": "15s",
        "client.read_timeout": "60s",
        "reconstruction.download_buffer_size": "64mb",
        "reconstruction.download_buffer_perfile_size": "16mb",
        "reconstruction.download_buffer_limit": "264mb",
        "data.max_concurrent_file_ingestion": 64 if small else 8,
        "data.session_xorb_metadata_flush_max_count": 1,
        "telemetry.enabled": False,
    }


def upload(
    access: CasAccess, sources: Sequence[Path | Streamed], sizes: Sequence[int]
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
    with _errors(access, about, upload=True):
        at_once = min(LARGE_STREAMS, sum(sizes[number] >= SMALL_FILE for number, _ in streams))
        # One large stream alone never has more than one xorb to send.
        bounds = {"client.ac_max_upload_concurrency": at_once or LARGE_STREAMS} if len(streams) == len(full) else {}
        session = _session(settings(len(full), sum(sizes)) | bounds)
        commit = session.new_upload_commit(**access.options())

        pace = _Pace(commit, AHEAD_OF_CAS + _XORB * max(0, at_once - 1), stopped)

        sent: dict[int, Any] = {}

        def send(stream: tuple[int, Streamed]) -> None:
            with _errors(access, about, upload=True):
                sent[stream[0]] = _send(commit, stream[1], sizes[stream[0]], pace)

        def work() -> tuple[dict[int, Uploaded], Any]:
            handles = {n: commit.start_upload_file(str(source)) for n, source in full if isinstance(source, Path)}
            for together, most in batches([sizes[number] for number, _ in streams]):
                workers.each(send, [streams[each] for each in together], most, stopped)
            report = commit.wait_to_finish()
            infos = {number: report.uploads[handle.task_id()].xet_info for number, handle in handles.items()}
            infos |= {number: meta.xet_info for number, meta in sent.items()}
            done = {number: Uploaded(info.hash, info.sha256, info.file_size) for number, info in infos.items()}
            return done, report.dedup_metrics

        with _aborting(commit.abort, stopped):
            meter = progress.Meter(about, sum(sizes), commit.progress, access.stall_timeout)
            uploaded, metrics = workers.interruptible(work, meter)
    return [uploaded.get(number, EMPTY) for number in range(len(sources))], {
        "files": len(sources),
        "bytes": metrics.total_bytes,
        "bytes_sent": metrics.total_bytes_uploaded,
        "bytes_deduplicated": metrics.deduped_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


def batches(sizes: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Yield which streams to run together, by number, and how many at the same time: large ones first, then small."""
    large = [number for number, size in enumerate(sizes) if size >= SMALL_FILE]
    small = [number for number, size in enumerate(sizes) if size < SMALL_FILE]
    yield from ((numbers, most) for numbers, most in ((large, LARGE_STREAMS), (small, SMALL_STREAMS)) if numbers)


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
    for block in workers.read_ahead(blocks, pace.stopped) if size > SMALL_FILE else blocks:
        pace.before(len(block))
        stream.write(block)
    return stream.finish()


def fetch(access: CasAccess, files: Sequence[Wanted]) -> int:
    """Fetch files to their temporary paths. Their content is *not* verified: the client checks only lengths.

    :returns: bytes received over the network.
    :raises XetHubError: the temporary paths may hold anything.
    """
    about = f"the download of {len(files)} file(s) from {access.token.repo}"
    total = sum(file.size for file in files)
    with _errors(access, about, upload=False):
        session = _session(settings(len(files), total))
        from hf_xet import XetFileInfo

        group = session.new_file_download_group(**access.options())

        def work() -> int:
            for file in files:
                group.start_download_file(XetFileInfo(file.xet_hash, file.size), str(file.path))
            return int(group.wait_to_finish().progress.total_transfer_bytes_completed)

        with _aborting(group.abort):
            received = workers.interruptible(work, progress.Meter(about, total, group.progress, access.stall_timeout))
    for file in files:
        size = file.path.stat().st_size
        if size != file.size:
            raise XetIntegrityError(f"{about} ended early: {size} of {file.size} bytes arrived. Nothing was kept.")
    return received


def xet_hashes(paths: Sequence[Path]) -> list[str]:
    """Return the Xet hashes that these files would get in CAS, without sending anything.

    :raises OSError: a file cannot be read.
    """
    _quiet()
    from hf_xet import hash_files

    return [info.hash for info in workers.interruptible(lambda: hash_files([str(path) for path in paths]))]


@dataclass
class _Received:
    """The report of streams that come in, which the client does not make."""

    total_bytes_completed: int = 0


def fetch_streams(
    access: CasAccess, files: Sequence[tuple[str, int]], receive: Callable[[int, Iterator[bytes]], None]
) -> int:
    """Fetch files as streams, several at the same time.

    :param files: Xet hash and size in bytes of each.
    :param receive: takes the number of a file and its pieces, in order. It must verify them: the client does not, and
        its streams can end early without an error. What it finds damaged is fetched once more.
    :returns: bytes received.
    :raises XetHubError: what ``receive`` has not taken in full may be anything.
    """
    sizes = [size for _, size in files]
    about = f"the download of {len(files)} file(s) from {access.token.repo}"
    stopped = threading.Event()
    report = _Received()
    counting = threading.Lock()

    def pieces(number: int, session: XetSession) -> Iterator[bytes]:
        from hf_xet import XetFileInfo

        with _errors(access, about, upload=False):
            # After an error in one of its streams, a group is of no use any more.
            group = session.new_download_stream_group(**access.options())
            for piece in group.download_stream(XetFileInfo(*files[number])):
                with counting:
                    report.total_bytes_completed += len(piece)
                yield piece
                if stopped.is_set():
                    break
            # A stream that is aborted ends as if it were complete.
            if stopped.is_set():
                raise XetCancelledError(f"{about} was stopped from outside.")

    with _errors(access, about, upload=False):
        # No smaller buffers: limited to 64 MB, two large streams wait for each other for ever.
        session = _session(settings(len(files), sum(sizes)))

        def take(number: int) -> None:
            try:
                receive(number, pieces(number, session))
            except XetIntegrityError as error:
                if stopped.is_set():
                    raise
                log.warning("%s Fetching it once more.", error)
                receive(number, pieces(number, session))

        # To abort its group does not wake a stream that waits for data.
        with _aborting(session.sigint_abort, stopped):
            meter = progress.Meter(about, sum(sizes), lambda: report, access.stall_timeout)
            todo = batches(sizes)
            workers.interruptible(lambda: [workers.each(take, some, most, stopped) for some, most in todo], meter)
    return report.total_bytes_completed


@contextmanager
def _aborting(abort: Callable[[], None], stopped: threading.Event | None = None) -> Iterator[None]:
    """Stop the transfer when anything but its success ends the block, also what a signal handler raises."""
    try:
        yield
    except BaseException:
        if stopped:
            stopped.set()
        abort()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threading.enumerate():
            if thread.name == workers.TRANSFER:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise


@contextmanager
def _errors(access: CasAccess, about: str, *, upload: bool) -> Iterator[None]:
    try:
        yield
    except XetHubError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        token = access.token
        raise cas_errors.from_client(
            error, about=about, cas_url=token.cas_url, secret=token.access_token, upload=upload
        ) from None


def _session(config: Mapping[str, Any]) -> XetSession:
    """Start the client; a session for each transfer, so that none is ever used across a fork."""
    _quiet()
    from hf_xet import XetConfig, XetSession

    return XetSession(config=XetConfig().with_config(dict(config)))


def _quiet() -> None:
    """Set what the client reads once, when it is imported. Without it a log file for each process grows in HOME."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
