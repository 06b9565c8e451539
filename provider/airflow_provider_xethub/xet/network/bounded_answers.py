"""Limit the size of a response after decompression, and the total time that it takes.

The timeout of ``requests`` applies to each read from the socket, so that a server which sends a byte now and then never
exceeds it. Its decompression has no limit either. ``tests/unit/advisories.toml`` names the advisories about ``urllib3``
that these limits make harmless.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection

from airflow_provider_xethub.xet.process import threads

MAX_BYTES = 64 << 20
"""Largest response in bytes; the largest file that a repository stores inline has 10 MiB."""

MAX_ERROR_BYTES = 256 << 10
"""Bytes that are read from an unsuccessful response."""

DEADLINE_FACTOR = 10.0
"""Total time of a response, as a multiple of the timeout of a single read."""

MAX_PAGES = 10_000
MAX_EMPTY_PAGES = 20
"""Pages of one list, and empty pages in a row."""

_PIECE = 16 << 10
_MAX_LINE = 64 << 10
_ACCEPTED = "gzip"
_PLAIN = frozenset({"", "identity"})
_thread = threading.local()


def exceeds_page_limits(pages: int, empty: int) -> bool:
    """Return whether a list has too many pages, or too many empty ones in a row."""
    return pages >= MAX_PAGES or empty >= MAX_EMPTY_PAGES


class TooLargeError(requests.RequestException):
    """A successful response is larger than :data:`MAX_BYTES`, or compressed in a way that hides its size."""

    def __str__(self) -> str:
        return f"more than {MAX_BYTES >> 20} MiB, or in an encoding that was not requested"


class BoundedAdapter(HTTPAdapter):
    """Read each response completely, within the limits; of a streamed response, only the headers.

    A response may be compressed with gzip, and a streamed one may not: whoever reads it would not know its size.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pool, with connections that the deadline can close."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Create the pool of a proxy likewise; a SOCKS proxy has its own kind of connections."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            pools = manager.pool_classes_by_scheme
            manager.pool_classes_by_scheme = {scheme: _bounded(pool) for scheme, pool in pools.items()}
        return manager

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request, and read the response unless it is streamed.

        :raises TooLargeError: the response is too large, or compressed in a way that was not requested.
        """
        request.headers["Accept-Encoding"] = "identity" if stream else _ACCEPTED
        timeout_seconds = timeout[-1] if isinstance(timeout, tuple) else timeout
        with _Deadline(None if timeout_seconds is None else timeout_seconds * DEADLINE_FACTOR):
            response = super().send(request, True, timeout, *args, **kwargs)
            if not stream:
                _read(response)
            elif response.ok and _encoding(response) not in _PLAIN:
                response.close()
                raise TooLargeError
        return response


def _encoding(response: requests.Response) -> str:
    return response.headers.get("Content-Encoding", "").strip().lower()


def _read(response: requests.Response) -> None:
    most = MAX_BYTES if response.ok else MAX_ERROR_BYTES
    declared = response.headers.get("Content-Length", "")
    is_opaque = _encoding(response) not in {*_PLAIN, _ACCEPTED}
    if response.ok and (is_opaque or (declared.isdecimal() and int(declared[:20]) > most)):
        response.close()
        raise TooLargeError
    body = bytearray()
    for piece in () if is_opaque else response.iter_content(_PIECE):
        body += piece
        if len(body) > most:
            response.close()
            if response.ok:
                raise TooLargeError
            break
    response._content = bytes(body)
    response._content_consumed = True  # type: ignore[attr-defined]


class _Deadline:
    """Close the connection of this thread's request when the response takes too long.

    :param seconds: limit, counted from when the request is sent. ``None``: no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._is_expired = False

    def __enter__(self) -> _Deadline:
        _thread.deadline = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _thread.deadline = None
        if self._timer is not None:
            self._timer.cancel()
        # After the connection was closed, a response without a length looks complete.
        if self._is_expired and (error is None or isinstance(error, Exception)):
            raise requests.exceptions.ReadTimeout from None

    def watch(self, connection: HTTPConnection) -> None:
        """Start the timer, after the request was sent."""
        if self._seconds is not None and connection.sock is not None:
            self._timer = threading.Timer(self._seconds, self._close, [connection.sock])
            self._timer.daemon = True
            threads.begin(self._timer)

    def _close(self, open_socket: socket.socket) -> None:
        self._is_expired = True
        with suppress(OSError, ValueError):
            # The method of an SSL socket would discard state that the reading thread still uses.
            socket.socket.shutdown(open_socket, socket.SHUT_RDWR)


def _watch(connection: HTTPConnection) -> None:
    deadline: _Deadline | None = getattr(_thread, "deadline", None)
    if deadline is not None:
        deadline.watch(connection)


class _Lines(io.BufferedReader):
    """Limit the line before each chunk, of which ``urllib3`` before 2.8 reads any length into memory."""

    def readline(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(_MAX_LINE + 1)
        if len(line) > _MAX_LINE:
            raise http.client.LineTooLong("chunk size")
        return line


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: io.BufferedReader = _Lines(self.fp.detach())


class _Connection(HTTPConnection):
    response_class = _Response

    def getresponse(self) -> Any:
        _watch(self)
        return super().getresponse()


def _bounded(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Return a class of pools whose connections have the limits, and else are those of ``pool``."""
    connection = type(f"Bounded{pool.ConnectionCls.__name__}", (_Connection, pool.ConnectionCls), {})
    return type(f"Bounded{pool.__name__}", (pool,), {"ConnectionCls": connection})


_POOLS = {"http": _bounded(HTTPConnectionPool), "https": _bounded(HTTPSConnectionPool)}
