"""Bytes in and out of CAS, over ``hf_xet``: the one place that knows how that client wants to be treated.

``hf_xet`` is imported when the first transfer starts, never before: it starts threads and opens a log file.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_xethub import cas_errors, progress
from airflow_provider_xethub.exceptions import XetHubError, XetIntegrityError
from airflow_provider_xethub.records import XetTransfer
from airflow_provider_xethub.token import XetToken

if TYPE_CHECKING:
    from hf_xet import XetSession

T = TypeVar("T")

SMALL_FILE = 4 << 20
"""Mean size in bytes below which an upload is bound by one deduplication query per file instead of by bandwidth."""

RETRIES = 4
RETRY_DELAY = "2s"
"""Tries after the first, and the wait before them, which doubles each time; the client's own defaults take minutes."""

STOP_SECONDS = 0.4
"""How long a stopped transfer is waited for before the task goes on; the client needs 0.1 s."""

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


def upload(access: CasAccess, paths: Sequence[Path], sizes: Sequence[int]) -> tuple[list[Uploaded], XetTransfer]:
    """Upload files, each read once; their sha256 is computed in that pass.

    :param paths: existing regular files.
    :param sizes: their sizes in bytes. Empty files are not sent: the client gives them a sha256 of zeros.
    :returns: one entry for each path in the same order, and the transfer in figures.
    :raises XetHubError: nothing can be published of what was sent; see :mod:`airflow_provider_xethub.exceptions`.
    """
    about = f"the upload of {len(paths)} file(s) to {access.token.repo}"
    started = time.monotonic()
    full = [path for path, size in zip(paths, sizes, strict=True) if size]
    with _errors(access, about, upload=True):
        session = _session(settings(len(full), sum(sizes)))
        commit = session.new_upload_commit(**access.options())

        def work() -> tuple[dict[Path, Uploaded], Any]:
            handles = {path: commit.start_upload_file(str(path)) for path in full}
            report = commit.wait_to_finish()
            infos = {path: report.uploads[handle.task_id()].xet_info for path, handle in handles.items()}
            done = {path: Uploaded(info.hash, info.sha256, info.file_size) for path, info in infos.items()}
            return done, report.dedup_metrics

        with _aborting(commit.abort):
            meter = progress.Meter(about, sum(sizes), commit.progress, access.stall_timeout)
            uploaded, metrics = interruptible(work, meter)
    return [uploaded.get(path, EMPTY) for path in paths], {
        "files": len(paths),
        "bytes": metrics.total_bytes,
        "bytes_sent": metrics.total_bytes_uploaded,
        "bytes_deduplicated": metrics.deduped_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


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
            received = interruptible(work, progress.Meter(about, total, group.progress, access.stall_timeout))
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

    return [info.hash for info in interruptible(lambda: hash_files([str(path) for path in paths]))]


def interruptible(work: Callable[[], T], meter: progress.Meter | None = None) -> T:
    """Do blocking work in a thread, so that a signal handler that raises (SIGTERM, execution_timeout) is heard at once.

    The client polls for signals in only one of its calls; the main thread waits in one that never blocks them.
    """
    done = threading.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # the client also raises PanicException, which is no Exception
            failure.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="xethub-transfer", daemon=True)
    thread.start()
    while not done.wait(progress.LOOK_INTERVAL):
        if meter:
            meter.look()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def _aborting(abort: Callable[[], None]) -> Iterator[None]:
    """Stop the transfer when anything but its success ends the block, also what a signal handler raises."""
    try:
        yield
    except BaseException:
        abort()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threading.enumerate():
            if thread.name == "xethub-transfer":
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
