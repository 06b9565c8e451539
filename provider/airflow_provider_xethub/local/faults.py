"""Faults on purpose: the local Hub misbehaves as told, so that clients can be tested against it.

::

    hub.faults.add(Fault("GET /api/.*/xet-read-token/.*", times=1, status=503, headers={"Retry-After": "1"}))
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE = "xethub.close"
"""Key of the ASGI scope under which the server puts a function that closes the request's connection."""


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, on the requests that it matches.

    :param route: regular expression for the whole of ``METHOD path``, the path percent-encoded as it arrived and
        without its query.
    :param times: how often to act; ``None`` means every time.
    :param skip: how many matching requests to let pass first.
    :param status: answer this status instead of carrying the request out.
    :param headers: headers of that answer; without ``status`` they are added to the real answer.
    :param body: body of that answer.
    :param delay: seconds to wait first.
    :param drop: close the connection ``"before"`` (or ``True``) anything is carried out, or in the ``"middle"`` of the
        answer's body.
    :param lose_answer: carry the request out, and answer 500.
    :param corrupt: flip one byte in the middle of the answer's body.
    :param truncate: end the answer after this many bytes, as if it had no more.
    """

    route: str
    times: int | None = None
    skip: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str | None = None
    delay: float = 0.0
    drop: bool | Literal["before", "middle"] = False
    lose_answer: bool = False
    corrupt: bool = False
    truncate: int | None = None

    def __post_init__(self) -> None:
        re.compile(self.route)
        if self.drop not in (False, True, "before", "middle"):
            raise ValueError(f"drop {self.drop!r} is not known; use 'before' or 'middle'.")
        if self.truncate is not None and self.truncate < 0:
            raise ValueError(f"truncate must not be negative, but is {self.truncate}.")


@dataclass
class _Armed:
    fault: Fault
    seen: int = 0
    acted: int = 0


class Faults:
    """The faults of one local Hub. All methods may be called from any thread while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> Fault:
        """Arm a fault. Where several match a request, the one added first acts."""
        with self._lock:
            self._armed.append(_Armed(fault))
        return fault

    def clear(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._armed.clear()

    def acted(self, fault: Fault) -> int:
        """How often an armed fault has acted, so that a test can tell that it did."""
        with self._lock:
            return sum(armed.acted for armed in self._armed if armed.fault is fault)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that acts on this request, and count it."""
        with self._lock:
            for armed in self._armed:
                fault = armed.fault
                if not re.fullmatch(fault.route, f"{method} {path}"):
                    continue
                armed.seen += 1
                if armed.seen <= fault.skip or (fault.times is not None and armed.acted >= fault.times):
                    continue
                armed.acted += 1
                return fault
        return None


class FaultMiddleware:
    """Applies faults. To drop connections it needs the scope's ``CLOSE``, which the server must put there."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request out, or not, as the fault says."""
        path = scope.get("raw_path", b"").decode("latin-1")
        fault = self._faults.take(scope["method"], path) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop in (True, "before"):
            await _hang_up(scope, receive)
        elif fault.status is not None:
            await _drain(receive)
            await _answer(send, fault.status, fault.headers, fault.body)
        elif fault.lose_answer:
            await self._app(scope, receive, _ignore)
            await _answer(send, 500, fault.headers, fault.body or "The answer was lost.")
        elif fault.drop == "middle":
            await self._app(scope, receive, half := _FirstHalf(send))
            await half.finish()
            await _hang_up(scope, receive)
        else:
            await self._app(scope, receive, _altered(send, fault))


class _FirstHalf:
    """Passes an answer on up to the middle of its body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body += message.get("body", b"")

    async def finish(self) -> None:
        if self._start is None:
            return
        headers = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
        # The length is announced in full, so that the client can tell that the answer was cut.
        headers.append((b"content-length", str(max(1, len(self._body))).encode()))
        await self._send({**self._start, "headers": headers})
        half = bytes(self._body[: len(self._body) // 2])
        await self._send({"type": "http.response.body", "body": half, "more_body": True})


def _altered(send: Send, fault: Fault) -> Send:
    rest = fault.truncate
    corrupt = fault.corrupt

    async def altered(message: Message) -> None:
        nonlocal rest, corrupt
        if message["type"] == "http.response.start":
            await send({**message, "headers": _altered_headers(message["headers"], fault)})
            return
        body = message.get("body", b"")
        if corrupt and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
            corrupt = False
        if rest is not None:
            body = body[:rest]
            rest -= len(body)
        await send({**message, "body": body})

    return altered


def _altered_headers(headers: Iterable[tuple[bytes, bytes]], fault: Fault) -> list[tuple[bytes, bytes]]:
    altered: list[tuple[bytes, bytes]] = []
    added = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in fault.headers.items()}
    for name, value in headers:
        if name.lower() == b"content-length" and fault.truncate is not None:
            altered.append((name, str(min(int(value), fault.truncate)).encode()))
        elif name.lower() not in added:
            altered.append((name, value))
    return [*altered, *added.items()]


async def _answer(send: Send, status: int, headers: Mapping[str, str], body: bytes | str | None) -> None:
    content = body.encode() if isinstance(body, str) else (body or b"")
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    encoded.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


async def _hang_up(scope: Scope, receive: Receive) -> None:
    scope[CLOSE]()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drain(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _ignore(_: Message) -> None:
    pass
