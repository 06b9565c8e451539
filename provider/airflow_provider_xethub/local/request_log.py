"""The last requests that the local Hub has answered: a test oracle.

Headers and queries are never kept, because credentials are in them; of the user agent only products and versions.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT = 10_000
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}/[0-9][0-9A-Za-z.+-]{0,19}")


@dataclass(frozen=True)
class LoggedRequest:
    """One request. ``path`` is percent-encoded as it arrived; ``status`` is 0 where no answer was sent."""

    method: str
    path: str
    status: int
    user_agent: str
    bytes_in: int
    bytes_out: int
    milliseconds: float


class RequestLog:
    """The last 10,000 requests, oldest first. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[LoggedRequest] = deque(maxlen=KEPT)

    def add(self, request: LoggedRequest) -> None:
        """Keep one request, and forget the oldest beyond 10,000."""
        with self._lock:
            self._kept.append(request)

    def requests(self, route: str = ".*", *, status: int | None = None) -> list[LoggedRequest]:
        """Return the requests whose ``METHOD path`` matches a regular expression as a whole.

        :param status: only those answered with this status.
        """
        with self._lock:
            kept = list(self._kept)
        return [
            request
            for request in kept
            if status in (None, request.status) and re.fullmatch(route, f"{request.method} {request.path}")
        ]

    def counts(self, route: str = ".*") -> Counter[tuple[str, int]]:
        """Return how often each ``METHOD path`` was answered with which status."""
        return Counter((f"{request.method} {request.path}", request.status) for request in self.requests(route))

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._kept.clear()


class RequestLogMiddleware:
    """Writes the log."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request out and count its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = bytes_in = bytes_out = 0
        is_logged = False
        length = 0 if scope["method"] == "HEAD" else None
        began = time.perf_counter()

        async def counted_receive() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, bytes_out, length
            if message["type"] == "http.response.start":
                status = message["status"]
                length = _content_length(message) if length is None else length
                is_last = length == 0
            else:
                bytes_out += len(message.get("body", b""))
                is_last = not message.get("more_body", False) or bytes_out == length
            if is_last:
                # Before the answer is complete: who has heard all of it finds it in the log.
                log()
            await send(message)

        def log() -> None:
            nonlocal is_logged
            if not is_logged:
                milliseconds = (time.perf_counter() - began) * 1000
                self._log.add(_logged(scope, status, bytes_in, bytes_out, milliseconds))
                is_logged = True

        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            log()


def _content_length(message: Message) -> int | None:
    found = next((value for name, value in message["headers"] if name.lower() == b"content-length"), None)
    return int(found) if found is not None else None


def _logged(scope: Scope, status: int, bytes_in: int, bytes_out: int, milliseconds: float) -> LoggedRequest:
    path = scope.get("raw_path", b"").decode("latin-1")
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    products = " ".join(_PRODUCT.findall(agent.decode("latin-1")))
    return LoggedRequest(scope["method"], path, status, products, bytes_in, bytes_out, milliseconds)
