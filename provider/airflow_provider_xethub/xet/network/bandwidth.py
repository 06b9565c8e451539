"""Bounds the bytes per second of the client: a proxy on the loopback interface that passes them on at that rate.

``hf_xet`` has no setting for it, and pacing what it is given or asked for would not do: it sends and fetches whole
xorbs of 64 MB as fast as the link allows. It does use a proxy. This one sees the encrypted bytes of a tunnel, and
neither tokens nor content. Other users of the machine could reach it too, so it asks for a password of its own.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
import socket
import threading
import time
import urllib.request
from urllib.parse import unquote, urlsplit

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.process import threads

_PIECE = 16 << 10
_MAX_HEAD = 64 << 10
_HEAD_SECONDS = 30.0
_CONNECT_SECONDS = 15.0
_CATCH_UP_SECONDS = 0.05
_BUFFER_SECONDS = 0.1
_DEFAULT_PORTS = {"http": 80, "https": 443}

_REFUSAL = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b'Proxy-Authenticate: Basic realm="xethub"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
)

_LOCK = threading.Lock()
_RUNNING: dict[tuple[int, int, str | None], Relay] = {}


def relay(bandwidth: int, proxy: str | None, url: str) -> str:
    """Return the URL of a proxy in this process that sends and receives at most so many bytes per second.

    All transfers of the process with the same limit share it.

    :param bandwidth: bytes per second in each direction.
    :param proxy: URL of the proxy to use in turn. ``None``: that of the environment for ``url``, if any.
    :param url: URL of CAS.
    :raises XetInputError: it is a proxy that is itself reached over TLS: its certificate could not be verified.
    """
    upstream = proxy or _of_environment(url)
    check(upstream)
    with _LOCK:
        key = (os.getpid(), bandwidth, upstream)  # threads do not survive a fork
        running = _RUNNING.get(key)
        if running is None:
            running = _RUNNING[key] = Relay(bandwidth, upstream)
    return running.url


def passwords() -> set[str]:
    """Return what the proxies of this process ask for, as the client knows it and as it sends it."""
    with _LOCK:
        return {each for relay in _RUNNING.values() for each in relay.passwords}


def check(proxy: str | None) -> None:
    """Check that a limit can be combined with a proxy.

    :raises XetInputError: the proxy is itself reached over TLS, or is none for HTTP.
    """
    if proxy and "://" in proxy and urlsplit(proxy).scheme != "http":
        raise XetInputError(
            "max_bandwidth needs an http:// proxy or none, because it cannot be combined with one that is reached over "
            "TLS or SOCKS. Remove max_bandwidth, or use another proxy."
        )


def _of_environment(url: str) -> str | None:
    parts = urlsplit(url)
    if urllib.request.proxy_bypass_environment(parts.netloc):  # type: ignore[attr-defined]
        return None
    proxies = urllib.request.getproxies_environment()
    return proxies.get(parts.scheme) or proxies.get("all")


class _Lane:
    """Bytes in one direction."""

    def __init__(self, bandwidth: int) -> None:
        self._bandwidth = bandwidth
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, count: int) -> None:
        """Wait until these bytes may pass."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now - _CATCH_UP_SECONDS, self._free_at) + count / self._bandwidth
            pause = self._free_at - now
        if pause > 0:
            time.sleep(pause)


class Relay:
    """A proxy on a free port of the loopback interface, for as long as the process lives.

    :param bandwidth: bytes per second in each direction.
    :param upstream: URL of the proxy to use in turn. If it needs a password, the client gives it that one, and this
        proxy asks for the same.
    """

    def __init__(self, bandwidth: int, upstream: str | None) -> None:
        self._upstream = urlsplit(upstream if "://" in upstream else f"http://{upstream}") if upstream else None
        self._up, self._down = _Lane(bandwidth), _Lane(bandwidth)
        # What arrives faster than it is passed on waits in buffers of the system: they must be small.
        self._buffer = int(min(max(bandwidth * _BUFFER_SECONDS, 64 << 10), 4 << 20))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        user = self._upstream.netloc.rpartition("@")[0] if self._upstream else ""
        self._is_for_upstream = bool(user)
        user = user or f"xethub:{secrets.token_urlsafe(24)}"
        name, _, password = user.partition(":")
        encoded = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode())
        self._authorization = b"Basic " + encoded
        self.passwords = frozenset({password, unquote(password), encoded.decode()})
        self.url = f"http://{user}@127.0.0.1:{self._listener.getsockname()[1]}"
        threads.begin(threading.Thread(target=self._accept, name="xethub-bandwidth", daemon=True))

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), name="xethub-bandwidth", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client:
            client.settimeout(_HEAD_SECONDS)
            head = _read_head(client)
            if not hmac.compare_digest(_authorization(head), self._authorization):
                client.sendall(_REFUSAL)
                return
            server = self._connect(head)
            client.settimeout(None)
            with server:
                server.settimeout(None)
                if self._upstream is None and head.startswith(b"CONNECT "):
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(head if self._is_for_upstream else _without_password(head))
                back = threading.Thread(
                    target=_pass_on, args=(server, client, self._down), name="xethub-bandwidth", daemon=True
                )
                back.start()
                _pass_on(client, server, self._up)
                back.join()

    def _connect(self, head: bytes) -> socket.socket:
        if self._upstream:
            host, port = self._upstream.hostname or "", self._upstream.port or _DEFAULT_PORTS["http"]
        else:
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            if not parts.hostname or (method != "CONNECT" and parts.scheme != "http"):
                raise ValueError("Not a request to a proxy.")
            host, port = parts.hostname, parts.port or _DEFAULT_PORTS["https" if method == "CONNECT" else "http"]
        server = socket.create_connection((host, port), _CONNECT_SECONDS)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        return server


def _read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(_PIECE)
        if not more or len(head) > _MAX_HEAD:
            raise ValueError("No request.")
        head += more
    return head


def _authorization(head: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"proxy-authorization":
            return value.strip()
    return b""


def _without_password(head: bytes) -> bytes:
    """Return the head of a request without what is for this proxy only.

    The client names it in each request over plain http, so it gets one connection for each.
    """
    lines, _, rest = head.partition(b"\r\n\r\n")
    first, *fields = lines.split(b"\r\n")
    of_proxy = {b"proxy-authorization"} if first.startswith(b"CONNECT ") else {b"proxy-authorization", b"connection"}
    kept = [first, *(field for field in fields if field.partition(b":")[0].strip().lower() not in of_proxy)]
    if b"connection" in of_proxy:
        kept.append(b"Connection: close")
    return b"\r\n".join(kept) + b"\r\n\r\n" + rest


def _pass_on(source: socket.socket, target: socket.socket, lane: _Lane) -> None:
    """Pass bytes on until the source ends, then tell the target."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            lane.wait(len(piece))
            target.sendall(piece)
    for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            end.shutdown(how)
