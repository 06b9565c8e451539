"""The request log, with which tests check what clients did: the last requests, counters, and a summary per transfer.

It never keeps headers or queries, which may contain credentials; of the user agent only products and versions.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xethub_local.control.logged_request import LoggedRequest
from xethub_local.control.transfers import Transfer, Transfers
from xethub_local.http.asgi import content_length

KEPT = 10_000
MAX_COUNTERS = 2_000
OTHER_CLIENTS = "other"

ROUTE = "xethub.route"
"""Key of the ASGI scope for a list, to which the application adds the template of the route that the request took."""

_MAX_USER_AGENT = 1_000
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}/[0-9][0-9A-Za-z.+-]{0,19}")
_BARE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")
# No client puts a token into a path. If one does so by mistake, the token must not appear in the log.
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}|xet_[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)?")


@dataclass(frozen=True)
class RouteCounter:
    """Sums over the requests of one client to one route, since the start or the last :meth:`RequestLog.clear`.

    ``errors`` counts responses with status 400 and above, and requests without a response. ``client`` is ``other`` for
    all clients beyond the limit of 2,000 counters.
    """

    route: str
    client: str
    requests: int
    errors: int
    bytes_in: int
    bytes_out: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields by name, for JSON."""
        return asdict(self)


class RequestLog:
    """The last 10,000 requests, and sums over all requests. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[LoggedRequest] = deque(maxlen=KEPT)
        self._counters: dict[tuple[str, str], list[int]] = {}
        self._transfers = Transfers()
        self._cleared = 0.0

    def add(self, request: LoggedRequest, arrived: float | None = None) -> None:
        """Keep a request, and forget the oldest beyond 10,000.

        :param arrived: ``time.perf_counter()`` when it arrived. Requests from before the last :meth:`clear` are not
            kept.
        """
        client = request.client
        with self._lock:
            if arrived is not None and arrived < self._cleared:
                return
            self._kept.append(request)
            self._count(request, client)
            if request.session:
                self._transfers.add(request, client)

    def _count(self, request: LoggedRequest, client: str) -> None:
        key = (request.route, client)
        if key not in self._counters and len(self._counters) >= MAX_COUNTERS:
            key = (request.route, OTHER_CLIENTS)
        sums = self._counters.setdefault(key, [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += not 0 < request.status < 400
        sums[2] += request.bytes_in
        sums[3] += request.bytes_out

    def requests(
        self,
        route: str = ".*",
        *,
        status: int | None = None,
        client: str | None = None,
        session: str | None = None,
        limit: int | None = None,
    ) -> list[LoggedRequest]:
        """Return the requests whose whole ``METHOD path`` matches a regular expression, oldest first.

        :param status: only requests with this response status; 0 if no response was sent.
        :param client: only requests whose user agent contains this string, such as ``hf_xet/``.
        :param session: only requests of this transfer.
        :param limit: only the newest requests, at most this many.
        :raises re.error: ``route`` is not a regular expression.
        """
        matches = re.compile(route).fullmatch
        with self._lock:
            kept = list(self._kept)
        found = [
            request
            for request in kept
            if status in (None, request.status)
            and session in (None, request.session)
            and (client is None or client in request.user_agent)
            and (route == ".*" or matches(f"{request.method} {request.path}"))
        ]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def counts(self, route: str = ".*") -> Counter[tuple[str, int]]:
        """Return how often each ``METHOD path`` was answered with each status."""
        return Counter((f"{request.method} {request.path}", request.status) for request in self.requests(route))

    def counters(self) -> list[RouteCounter]:
        """Return the counters of all routes and clients, sorted by route and client."""
        with self._lock:
            return [RouteCounter(*key, *sums) for key, sums in sorted(self._counters.items())]

    def transfers(self) -> list[Transfer]:
        """Return summaries of the last 1,000 transfers, in the order in which they started."""
        with self._lock:
            return self._transfers.all()

    def transfer(self, session: str) -> Transfer | None:
        """Return the summary of one transfer, given the ``session`` of its requests, or ``None``."""
        with self._lock:
            return self._transfers.get(session)

    def add_report(self, report: Mapping[str, Any]) -> None:
        """Keep a client's own report of a transfer: the JSON that it posts to ``/v1/telemetry``."""
        with self._lock:
            self._transfers.add_report(report)

    def clear(self) -> None:
        """Forget all requests, counters and transfers, including requests that are in flight."""
        with self._lock:
            self._cleared = time.perf_counter()
            self._kept.clear()
            self._counters.clear()
            self._transfers = Transfers()


class RequestLogMiddleware:
    """Writes the request log.

    :param route_of: returns the route template of a request that was answered before it reached its route.
    """

    def __init__(self, app: ASGIApp, log: RequestLog, route_of: Callable[[Scope], str]) -> None:
        self._app = app
        self._log = log
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request and count its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = bytes_in = bytes_out = 0
        is_logged = False
        length = 0 if scope["method"] == "HEAD" else None
        taken: list[str] = []
        started = time.perf_counter()

        async def counted_receive() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, bytes_out, length
            if message["type"] == "http.response.start":
                status = message["status"]
                length = content_length(message["headers"]) if length is None else length
                is_last = length == 0
            else:
                bytes_out += len(message.get("body", b""))
                is_last = not message.get("more_body", False) or bytes_out == length
            if is_last:
                # Before the last byte is sent, so that a client that has the whole response finds it in the log.
                log()
            await send(message)

        def log() -> None:
            nonlocal is_logged
            if not is_logged:
                is_logged = True
                milliseconds = (time.perf_counter() - started) * 1000
                route = taken[0] if taken else f"{scope['method']} {self._route_of(scope)}"
                self._log.add(_logged(scope, status, bytes_in, bytes_out, milliseconds, route), started)

        try:
            await self._app({**scope, ROUTE: taken}, counted_receive, counted_send)
        finally:
            log()


def _logged(scope: Scope, status: int, bytes_in: int, bytes_out: int, milliseconds: float, route: str) -> LoggedRequest:
    agent = session = b""
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value
        elif name == b"x-xet-session-id":
            session = value
    path: str = scope.get("raw_path", b"").decode("latin-1")
    return LoggedRequest(
        scope["method"],
        _TOKEN.sub("(token)", path) if "hf_" in path or "xet_" in path else path,
        status,
        _products(agent[:_MAX_USER_AGENT]),
        bytes_in,
        bytes_out,
        milliseconds,
        _session(session[:65]) if session else "",
        route,
    )


@functools.lru_cache(maxsize=1024)
def _products(agent: bytes) -> str:
    text = _TOKEN.sub("", agent.decode("latin-1"))
    return " ".join(_PRODUCT.findall(text)) or (text if _BARE_NAME.fullmatch(text) else "")


@functools.lru_cache(maxsize=1024)
def _session(raw: bytes) -> str:
    text = raw.decode("latin-1")
    return text if _SESSION.fullmatch(text) else ""
