"""What the local Hub was asked: the last requests, counters of all, and what each transfer did. A test oracle.

Headers and queries are never kept, because credentials are in them; of the user agent only products and versions.
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

from airflow_provider_xethub.local.control.logged_request import LoggedRequest
from airflow_provider_xethub.local.control.transfers import Transfer, Transfers

KEPT = 10_000
MAX_COUNTERS = 2_000
OTHER_CLIENTS = "other"

ROUTE = "xethub.route"
"""Key of the ASGI scope under which the application leaves, in a list, the template of the route it took."""

_MAX_USER_AGENT = 1_000
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}/[0-9][0-9A-Za-z.+-]{0,19}")
_BARE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")
# Nothing puts a token into a path. Who does it by mistake should not find it in a log.
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}|xet_[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)?")


@dataclass(frozen=True)
class RouteCounter:
    """How often one client asked one route, since the start or the last :meth:`RequestLog.clear`.

    ``errors`` counts answers of 400 and above, and requests without any. ``client`` is ``other`` for all beyond the
    2,000 counters that are kept.
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
    """The last 10,000 requests, oldest first, and sums over all. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[LoggedRequest] = deque(maxlen=KEPT)
        self._counters: dict[tuple[str, str], list[int]] = {}
        self._transfers = Transfers()
        self._cleared = 0.0

    def add(self, request: LoggedRequest, arrived: float | None = None) -> None:
        """Keep one request, and forget the oldest beyond 10,000.

        :param arrived: ``time.perf_counter()`` when it came; what came before the last :meth:`clear` is not kept.
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
        """Return the requests whose ``METHOD path`` matches a regular expression as a whole, oldest first.

        :param status: only those answered with this status; 0 where no answer was sent.
        :param client: only those with this text in their user agent, such as ``hf_xet/``.
        :param session: only those of this transfer.
        :param limit: only so many, the newest.
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
        """Return how often each ``METHOD path`` was answered with which status."""
        return Counter((f"{request.method} {request.path}", request.status) for request in self.requests(route))

    def counters(self) -> list[RouteCounter]:
        """Return the counters of all routes and clients, in order of route and client."""
        with self._lock:
            return [RouteCounter(*key, *sums) for key, sums in sorted(self._counters.items())]

    def transfers(self) -> list[Transfer]:
        """Return what the last 1,000 transfers did, the one that began first at the beginning."""
        with self._lock:
            return self._transfers.all()

    def transfer(self, session: str) -> Transfer | None:
        """Return what one transfer did, given the ``session`` of one of its requests."""
        with self._lock:
            return self._transfers.get(session)

    def add_report(self, report: Mapping[str, Any]) -> None:
        """Keep what a client itself says about a transfer: the JSON that it posts to ``/v1/telemetry``."""
        with self._lock:
            self._transfers.add_report(report)

    def clear(self) -> None:
        """Forget all requests, counters and transfers; those that have no answer yet are not kept later either."""
        with self._lock:
            self._cleared = time.perf_counter()
            self._kept.clear()
            self._counters.clear()
            self._transfers = Transfers()


class RequestLogMiddleware:
    """Writes the log.

    :param route_of: finds the template of a request's route, where the request never came to its route.
    """

    def __init__(self, app: ASGIApp, log: RequestLog, route_of: Callable[[Scope], str]) -> None:
        self._app = app
        self._log = log
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request out and count its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = bytes_in = bytes_out = 0
        is_logged = False
        length = 0 if scope["method"] == "HEAD" else None
        taken: list[str] = []
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
                is_logged = True
                milliseconds = (time.perf_counter() - began) * 1000
                route = taken[0] if taken else f"{scope['method']} {self._route_of(scope)}"
                self._log.add(_logged(scope, status, bytes_in, bytes_out, milliseconds, route), began)

        try:
            await self._app({**scope, ROUTE: taken}, counted_receive, counted_send)
        finally:
            log()


def _content_length(message: Message) -> int | None:
    found = next((value for name, value in message["headers"] if name.lower() == b"content-length"), None)
    return int(found) if found is not None else None


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
