"""Sessions of ``hf_xet``, the client of CAS: its settings and credentials, how it is aborted, and what its errors mean.

``hf_xet`` is imported when the first transfer starts, never before: see
:mod:`airflow_provider_xethub.xet.native_client`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.xet import native_client, progress
from airflow_provider_xethub.xet.cas import cache as cas_cache
from airflow_provider_xethub.xet.cas import errors as cas_errors
from airflow_provider_xethub.xet.cas.limits import LEAST_ROOM, LEAST_STORAGE_WINDOW, STORAGE_WINDOW, TransferLimits
from airflow_provider_xethub.xet.cas.slowdown import at_most
from airflow_provider_xethub.xet.cas.token_relay import Refresh
from airflow_provider_xethub.xet.network import bandwidth, child_processes
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.process import memory, threads
from airflow_provider_xethub.xet.redaction import Secrets
from airflow_provider_xethub.xet.token import XetToken

if TYPE_CHECKING:
    from hf_xet import XetSession

T = TypeVar("T")

SMALL_FILE = 4 << 20
"""Mean size in bytes below which an upload is bound by one deduplication query per file instead of by bandwidth."""

TINY_FILE = 128 << 10
"""Mean size in bytes below which a deduplication query takes longer than sending the file: one chunk or two."""

RETRIES = 6
RETRY_DELAY = "2s"
"""Retries, and the longest wait before the first of them, which doubles each time up to 30 s.

The client waits a random part of it: 45 s for each call on average, and 90 s at most, which is less than the timeout
for stalled transfers. Its own defaults wait for up to six minutes."""

XORB = 64 << 20
"""Bytes of content in a full xorb; its data section in CAS has no more (xet-core ``MAX_XORB_BYTES``)."""

XORBS_AT_ONCE = 8
"""Xorbs in flight at the same time, where there is memory for them: each is in memory, and the next attempt sends it
again if the task is killed."""

DOWNLOAD_BUFFER = 124_000_000
"""Bytes; with the 16 MB that each file adds, room for two xorbs of 67 MB for a single file: one arrives while one is
written. With a smaller buffer, 1 GiB takes 4.0 s instead of 2.9 s at a latency of 50 ms; with a larger one it is no
faster. Pieces of 32 MB instead of xorbs take less memory for 1 GiB, but more for 4 GiB: 430 to 510 MB."""

STREAM_BUFFER = 84_000_000
"""Bytes for several streams, each of which asks for 16 MiB of its file at a time. With :data:`LEAST_DOWNLOAD_BUFFER`,
which is enough for one, two large ones block each other forever."""

LEAST_DOWNLOAD_BUFFER = 64_000_000
"""Bytes; with the 16 MB that each file adds, room for one xorb. Enough for files, but not for several streams."""

FIRST_REQUESTS = 8
"""Concurrent requests at the start of a download; the client's default is four."""

LARGE_STREAMS = 2
SMALL_STREAMS = 16
"""Concurrent streams of large and of small files: a large one holds a xorb in memory, a small one awaits a response."""

_ENVIRONMENT_LOCK = threading.Lock()


@dataclass(frozen=True)
class CasAccess:
    """All that a transfer needs to reach CAS.

    :param token: an open Xet token.
    :param refresh: where the client gets the next one; ``None`` on a worker without a connection.
    :param stall_timeout: seconds without progress before the transfer is cancelled.
    :param network: trusted certificate authorities, and the proxy.
    :param secrets: those of the connection, removed from error texts. ``None``: only that of the proxy.
    :param cache_folder: where the client keeps its cache. ``None``: the client's default.
    :param telemetry: whether the client sends usage figures to the operator of CAS.
    :param limits: what the transfer may take of the worker and of the network.
    """

    token: XetToken
    refresh: Refresh | None = None
    stall_timeout: float = progress.STALL_TIMEOUT
    network: Network = field(default_factory=Network)
    secrets: Secrets | None = field(default=None, repr=False)
    cache_folder: Path | None = None
    telemetry: bool = False
    limits: TransferLimits = field(default_factory=TransferLimits)

    def options(self) -> dict[str, Any]:
        """Return the authorisation of one operation, as keyword arguments of ``XetSession.new_*``.

        The client silently drops a token without an expiry, and silently connects to port 8080 without an endpoint.
        """
        return {
            "endpoint": self.token.cas_url,
            "token": self.token.access_token,
            "token_expiry_unix_secs": self.token.local_expiry,
        }

    def memory_ceiling(self) -> int:
        """Return the resident size of the process in bytes beyond which the transfer waits instead of buffering."""
        return self.limits.memory_ceiling(memory.resident(), memory.available())

    def download_buffer(self) -> int:
        """Return how many bytes of files may be in memory while they are downloaded."""
        return min(DOWNLOAD_BUFFER, LEAST_DOWNLOAD_BUFFER + self._room())

    def xorbs_at_once(self) -> int:
        """Return how many xorbs may be in flight at the same time, as far as their bytes may be written at all."""
        return XORBS_AT_ONCE if self._room() >= XORB else 1

    def storage_window(self) -> int:
        """Return how many bytes of objects in storage may be requested, sent or in memory at the same time.

        A quarter of what the transfer may take: the rest is for the client and its xorbs.
        """
        room = self.memory_ceiling() - memory.resident()
        return min(STORAGE_WINDOW, max(LEAST_STORAGE_WINDOW, room // 4))

    def _room(self) -> int:
        """Return how much more memory there is than a transfer takes in any case."""
        return max(0, self.memory_ceiling() - memory.resident() - LEAST_ROOM)

    def all_secrets(self) -> Secrets:
        """Return the secrets of the connection with all tokens and passwords that the client was given."""
        secrets = self.secrets or Secrets(proxy=self.network.proxy)
        secrets.add(self.token.access_token, *(self.refresh.tokens if self.refresh else ()), *bandwidth.passwords())
        return secrets


class WithCasAccess(Protocol):
    """Runs a transfer with access to CAS, and once more with a new token if CAS rejects the first one."""

    def __call__(self, work: Callable[[CasAccess], T]) -> T:
        """Return what ``work`` returns."""


def settings(
    files: int,
    total_bytes: int,
    deduplicate: bool | None = None,
    buffer: int = DOWNLOAD_BUFFER,
    xorbs: int = XORBS_AT_ONCE,
) -> dict[str, Any]:
    """Return the client's settings for a worker that runs many tasks.

    Retries are bounded (90 s of waiting for each call instead of six minutes), and so are buffers (a quarter of a GB
    instead of a fraction of the host's memory for each process). Several xorbs are in flight at a time, and many small
    files, because each waits for one deduplication query. The cache records each xorb at once when CAS has it, so that
    the next attempt need not send it again.

    :param deduplicate: whether to query CAS for chunks that it has already. Default: unless the files are tiny.
    :param buffer: bytes of a download that may be in memory, besides 16 MB for each file.
    :param xorbs: how many may be in flight at the same time.
    """
    mean = total_bytes / max(files, 1)
    small = files > 1 and mean < SMALL_FILE
    return {
        "client.retry_max_attempts": RETRIES,
        "client.retry_base_delay": RETRY_DELAY,
        "client.retry_max_duration": "30s",
        "client.connect_timeout": "15s",
        "client.read_timeout": "60s",
        "reconstruction.download_buffer_size": buffer,
        "reconstruction.download_buffer_perfile_size": "16mb",
        "reconstruction.download_buffer_limit": "264mb",
        "client.ac_initial_download_concurrency": FIRST_REQUESTS,
        "client.ac_max_upload_concurrency": xorbs,
        "data.max_concurrent_file_ingestion": 64 if small else 8,
        "deduplication.global_dedup_query_enabled": mean >= TINY_FILE if deduplicate is None else deduplicate,
        "data.session_xorb_metadata_flush_max_count": 1,
    }


def batches(sizes: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Yield the numbers of streams to run together, and how many at the same time: large ones first, then small."""
    large = [number for number, size in enumerate(sizes) if size >= SMALL_FILE]
    small = [number for number, size in enumerate(sizes) if size < SMALL_FILE]
    yield from ((numbers, most) for numbers, most in ((large, LARGE_STREAMS), (small, SMALL_STREAMS)) if numbers)


@contextmanager
def abort_on_failure(abort: Callable[[], None], stopped: threading.Event | None = None) -> Iterator[None]:
    """Abort the transfer when an exception ends the block, also one that a signal handler raises."""
    try:
        yield
    except BaseException:
        if stopped:
            stopped.set()
        abort()
        threads.join_transfers()
        raise


@contextmanager
def translated_errors(access: CasAccess, about: str, *, upload: bool) -> Iterator[None]:
    """Turn errors of the client into exceptions of this provider; ``about`` names the transfer in them."""
    try:
        yield
    except XetHubError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        token, refresh = access.token, access.refresh
        if refresh and refresh.failure and cas_errors.lacks_token(error):
            raise refresh.failure from None
        silent = cas_errors.unreachable_server(error, token.cas_url)
        reason = None
        if silent:
            from airflow_provider_xethub.xet.network import errors as network_errors

            reason = network_errors.probe(silent.url, about=about, service=silent.service, network=access.network)
        raise reason or cas_errors.from_client(
            error, about=about, cas_url=token.cas_url, secrets=access.all_secrets(), upload=upload
        ) from None


def early_end_reason(access: CasAccess, xet_hash: str, about: str) -> XetHubError | None:
    """Ask CAS why a stream of the client ended before its file did: the client may drop that error.

    :returns: the error; ``None`` if CAS reports none, so that the connection may have been cut.
    """
    from airflow_provider_xethub.xet.network import errors as network_errors

    url = f"{access.token.cas_url}/v2/reconstructions/{xet_hash}"
    status = network_errors.fetch_status(url, access.token.access_token, access.network)
    if status is None or status < 400:
        return None
    return cas_errors.from_status(status, about, access.token.cas_url, "CAS")


def start(access: CasAccess, config: Mapping[str, Any]) -> XetSession:
    """Start a session of the client: a new one for each transfer, so that none is used across a fork."""
    native_client.prepare()
    from hf_xet import XetConfig, XetSession

    own = {"telemetry.enabled": access.telemetry, "shard.cache_size_limit": cas_cache.SIZE_LIMIT}
    return XetSession(config=XetConfig().with_config(at_most({**config, **own}, access.limits.concurrency)))


def begin(access: CasAccess, new: Callable[..., T]) -> T:
    """Begin an operation with ``new``, one of the ``new_*`` methods of a session.

    The client reads proxy, certificate authorities and cache folder only here, and only from environment variables.
    They are set for this call only, so that nothing else in this process uses the proxy of the connection.
    """
    options = access.options()
    route = access.refresh.route() if access.refresh else None
    if route:
        options |= {"token_refresh_url": route.url, "token_refresh_headers": route.headers}
    direct = route.host if route else None
    variables = access.network.environment(direct)
    if access.limits.bandwidth:
        proxy = bandwidth.relay(access.limits.bandwidth, access.network.proxy, access.token.cas_url)
        variables |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": direct, "no_proxy": None}
    if access.cache_folder:
        variables["HF_XET_CACHE"] = str(access.cache_folder)
    with _environment(variables):
        return new(**options)


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables in the environment of the process, but not in ``os.environ``: only native code sees them."""
    if not variables:
        yield
        return
    is_secret = any("@" in value for value in variables.values() if value)  # a proxy with user and password
    with _ENVIRONMENT_LOCK, child_processes.blocked() if is_secret else nullcontext():
        try:
            _set_native(variables)
            yield
        finally:
            _set_native({name: os.environ.get(name) for name in variables})


def _set_native(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.unsetenv(name)
        else:
            os.putenv(name, value)
