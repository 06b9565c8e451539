"""An S3 server whose responses can be damaged on their way: a proxy in front of a real one."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """What the server returned, and of it only ``sent`` bytes if that is set.

    :param drips: after so many bytes, the rest arrives one byte at a time, five a second: no read ever times out.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    sent: int | None = None
    drips: int | None = None

    def header(self, name: str) -> str:
        return next(value for found, value in self.headers if found.lower() == name.lower())

    def having(self, **headers: str) -> Reply:
        """Return it with other headers; underscores stand for dashes."""
        changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = tuple(each for each in self.headers if each[0].lower() not in changed)
        return replace(self, headers=(*kept, *((name, value) for name, value in changed.items() if value)))


Damage = Callable[[str, str, Reply], Reply]
"""Takes method, path with its query, and the reply."""


@dataclass
class FaultyS3:
    """The proxy.

    :param damage: changes what the server returns.
    :param requests: method, path and headers of each request.
    :param most: requests that were open at the same time.
    :param open: requests that are open now. Some of earlier tests may never end: :meth:`forget` no longer counts them.
    """

    url: str = ""
    most: int = 0
    open: set[object] = field(default_factory=set)
    damage: Damage = lambda method, path, reply: reply
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def forget(self) -> None:
        """Count anew how many requests are open at the same time."""
        self.open.clear()
        self.most = 0

    def count(self, method: str, part: str = "") -> int:
        return sum(found[0] == method and part in found[1] for found in self.requests)


@contextmanager
def faulty_s3(behind: str) -> Iterator[FaultyS3]:
    """Start a proxy in front of the server at a URL."""
    proxy = FaultyS3()
    host = urlsplit(behind).netloc
    turn, ended = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _forward(self) -> None:
            this = object()
            with turn:
                proxy.open.add(this)
                proxy.most = max(proxy.most, len(proxy.open))
            try:
                self._answer()
            finally:
                with turn:
                    proxy.open.discard(this)

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.requests.append((self.command, self.path, dict(self.headers)))
            path = urlsplit(self.path)  # whole URLs come from clients that take this for their proxy
            target = f"{path.path}?{path.query}" if path.query else path.path
            connection = http.client.HTTPConnection(host, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "host")}
            connection.request(self.command, target, body, headers)
            found = connection.getresponse()
            drop = {"transfer-encoding", "connection", "date", "server"}
            kept = tuple((name, value) for name, value in found.getheaders() if name.lower() not in drop)
            reply = Reply(found.status, kept, found.read())
            connection.close()
            if "content-length" not in {name.lower() for name, _ in kept}:
                reply = reply.having(content_length=str(len(reply.body)))
            reply = proxy.damage(self.command, self.path, reply)
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.drips if reply.sent is None else reply.sent])
            if reply.drips is not None:
                self._drip(reply.body[reply.drips :])
            if reply.sent is not None:
                self.close_connection = True

        def _drip(self, rest: bytes) -> None:
            with suppress(OSError):  # the client has closed the connection
                for number in range(len(rest)):
                    if ended.wait(0.2):
                        break
                    self.wfile.write(rest[number : number + 1])
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
