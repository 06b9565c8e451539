"""ASGI middleware that applies faults to requests and responses. It keeps no body in memory except JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xethub_local.control.fault import Fault
from xethub_local.control.faults import Faults
from xethub_local.http.asgi import content_length, wait_for_disconnect
from xethub_local.store.settings import Settings, for_one_request

CLOSE = "xethub.close"
"""Key of the ASGI scope under which the server puts a function that closes the request's connection."""

IS_CLOSED = "xethub.is_closed"
"""Key of the ASGI scope under which the server puts a function that returns whether the connection is closed."""

_TRICKLE_SECONDS = 0.5
_MAX_JSON_BYTES = 32 * 1024 * 1024

Headers = list[tuple[bytes, bytes]]


class FaultMiddleware:
    """Applies faults. To drop connections, it calls the function that the server puts into the scope as ``CLOSE``.

    :param clock: the server's clock, for the ``Date`` of responses that are made here.
    """

    def __init__(self, app: ASGIApp, faults: Faults, clock: Callable[[], float]) -> None:
        self._app = app
        self._faults = faults
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request, or let it fail as the fault says."""
        fault = self._fault_of(scope) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.lose_answer:
            await self._app(scope, receive, _ignore)
            if fault.drop:
                await _close(scope, receive)
            else:
                await self._respond(send, fault, fault.status or 500, fault.body or "The response was lost.")
        elif fault.status is not None:
            await _drain(receive)
            await self._respond(send, fault, fault.status, fault.body)
        elif fault.drop == "middle":
            await self._app(scope, receive, half := _FirstHalf(scope, send))
            await half.finish()
            await wait_for_disconnect(receive)
        elif fault.drop:
            await _close(scope, receive)
        elif fault.endless:
            await self._app(scope, receive, start := _Start())
            await _never_end(start.message, receive, send, trickles=fault.endless == "trickle")
        else:
            with for_one_request(Settings(fault.token_life, fault.data_url_life, fault.clock_offset)):
                send = _altered(scope, send, fault)
                link = self._faults.link(fault)
                if link is None:
                    await self._app(scope, receive, send)
                    return
                connection = scope.get("client")
                with link.opened(connection):
                    await self._app(scope, *link.paced(connection, receive, send, scope[IS_CLOSED]))

    def _fault_of(self, scope: Scope) -> Fault | None:
        agents = [value for name, value in scope["headers"] if name == b"user-agent"]
        agent = agents[0].decode("latin-1") if agents else ""
        return self._faults.take(scope["method"], scope.get("raw_path", b"").decode("latin-1"), agent)

    async def _respond(self, send: Send, fault: Fault, status: int, body: bytes | str | None) -> None:
        content = body.encode() if isinstance(body, str) else (body or b"")
        headers = _encoded({"date": formatdate(self._clock(), usegmt=True), **_lower_keys(fault.headers)})
        if status not in (204, 304):
            headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content if status not in (204, 304) else b""})


class _Start:
    """Keeps the start of a response and discards its body."""

    def __init__(self) -> None:
        self.message: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.message = message


class _FirstHalf:
    """Passes a response on up to the middle of its body, and closes the connection there."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._rest: int | None = None
        self._is_over = False

    async def __call__(self, message: Message) -> None:
        if self._is_over:
            return
        if message["type"] == "http.response.start":
            length = content_length(message["headers"])
            if length is not None:
                self._rest = length // 2
            if length == 0:
                # Announce a byte that never comes, so that the client can detect the truncation.
                message = {**message, "headers": _with_length(message["headers"], 1)}
            await self._send(message)
            if self._scope["method"] == "HEAD":
                await self.finish()
            return
        body = message.get("body", b"")
        # A chunked body ends with a marker, which is never sent; its first piece is cut in half.
        part = body[: len(body) // 2 if self._rest is None else self._rest]
        if part:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        if self._rest is not None:
            self._rest -= len(part)
        if body and not self._rest:
            await self.finish()

    async def finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._scope[CLOSE]()


async def _never_end(start: Message | None, receive: Receive, send: Send, *, trickles: bool) -> None:
    if start is not None:
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        await send({**start, "headers": headers if trickles else start["headers"]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
    disconnected = asyncio.ensure_future(wait_for_disconnect(receive))
    try:
        while trickles and not disconnected.done():
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.wait([disconnected], timeout=_TRICKLE_SECONDS)
        await disconnected
    finally:
        disconnected.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await disconnected


def _altered(scope: Scope, send: Send, fault: Fault) -> Send:
    start: Message | None = None
    gathered = bytearray()
    position = 0  # of the body, before this message
    corrupt_at: int | None = None

    async def altered(message: Message) -> None:
        nonlocal start, position, corrupt_at
        if message["type"] == "http.response.start":
            message = {**message, "headers": _altered_headers(message["headers"], fault)}
            length = content_length(message["headers"])
            if fault.corrupt:
                corrupt_at = length // 2 if length else None
            if fault.truncate is not None and length is not None:
                message["headers"] = _with_length(message["headers"], min(length, fault.truncate))
            if _changes_json(message, length, fault):
                start = message
            else:
                await send(message)
            return
        body: bytes = message.get("body", b"")
        if start is not None:
            gathered.extend(body)
            if message.get("more_body", False):
                return
            body = _altered_json(bytes(gathered), fault)
            if scope["method"] != "HEAD":
                start["headers"] = _with_length(start["headers"], len(body))
            await send(start)
        if fault.corrupt and body:
            at = len(body) // 2 if corrupt_at is None else corrupt_at - position
            if 0 <= at < len(body):
                body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
                # Only one byte: for a chunked body it is the middle of the first piece.
                corrupt_at = -1
        kept = body if fault.truncate is None else body[: max(0, fault.truncate - position)]
        position += len(body)
        await send({**message, "body": kept})

    return altered


def _changes_json(start: Message, length: int | None, fault: Fault) -> bool:
    if not (fault.fields or fault.without_fields):
        return False
    kind = next((value for name, value in start["headers"] if name.lower() == b"content-type"), b"")
    return b"json" in kind and (length or 0) <= _MAX_JSON_BYTES


def _altered_json(body: bytes, fault: Fault) -> bytes:
    try:
        value = json.loads(body)
    except ValueError:
        return body
    if not isinstance(value, dict):
        return body
    kept = {name: field for name, field in value.items() if name not in fault.without_fields}
    return json.dumps({**kept, **fault.fields}, separators=(",", ":")).encode()


def _altered_headers(headers: Iterable[tuple[bytes, bytes]], fault: Fault) -> Headers:
    added = _encoded(_lower_keys(fault.headers))
    gone = {name.lower().encode("latin-1") for name in fault.without_headers} | {name for name, _ in added}
    return [*((name, value) for name, value in headers if name.lower() not in gone), *added]


def _lower_keys(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _with_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> Headers:
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]


async def _close(scope: Scope, receive: Receive) -> None:
    scope[CLOSE]()
    await wait_for_disconnect(receive)


async def _drain(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _ignore(_: Message) -> None:
    pass
