"""A link that many requests share: its bandwidth, and how it collapses when too many requests are open.

Users report a transfer that drops from gigabytes to a megabyte per second within seconds, once the client has many
requests open, and stays there for hours, while four requests at a time keep their speed (huggingface_hub#4893,
xet-core#850). With 64 requests it took half a minute until the link collapsed, and with 6 minutes.

**Guess:** nobody outside knows what such a link counts (connections, requests or bytes), when it recovers, and whether
the connections that were open then recover with it. Here it counts open requests, recovers when at most half as many
(but one) as it carries are open, and connections that were open when it collapsed stay slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive, Send

from xethub_local.control.fault import Fault

_PIECE = 16 << 10
"""Bytes that are sent at a time."""

COLLAPSED_BANDWIDTH = 500_000
"""Bytes per second of a collapsed link; reports name 0.1 to 1 MB/s."""

_CHECK_SECONDS = 0.1
"""Seconds between two checks whether the client has closed the connection."""

_CATCH_UP_SECONDS = 0.05
"""Seconds for which unused bandwidth is kept: a busy event loop wakes too late for each single piece."""

Address = tuple[str, int] | None
"""Address of the client's end of a connection; while it is open, no other connection has it."""


class _Lane:
    """Bytes in one direction, at a rate that all requests share."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    def reserve(self, count: int) -> float:
        """Return the time, by the clock of the event loop, at which these bytes have passed."""
        now = asyncio.get_running_loop().time()
        if self._rate is not None:
            self._free_at = max(now - _CATCH_UP_SECONDS, self._free_at) + count / self._rate
        return self._free_at


class Link:
    """What the requests of one fault share. Only the event loop of the server uses it.

    :param fault: says how wide the link is, and when it collapses.
    """

    def __init__(self, fault: Fault) -> None:
        self._max_open = fault.max_open
        self._collapse_after = fault.collapse_after
        self._crowded = 0.0
        self._is_crowded = False
        self._checked_at = 0.0
        self._open: dict[object, Address] = {}
        self._slow: set[Address] = set()
        self._has_collapsed = False
        self.collapses = 0
        self.most_open = 0
        self.passed = 0
        rates = {False: fault.bandwidth, True: fault.collapsed_bandwidth or COLLAPSED_BANDWIDTH}
        self._lanes = {
            (is_slow, direction): _Lane(rate) for is_slow, rate in rates.items() for direction in ("in", "out")
        }

    @property
    def open_requests(self) -> int:
        """Number of requests that are open now."""
        return len(self._open)

    @contextmanager
    def opened(self, connection: Address) -> Iterator[None]:
        """Count a request as open for the length of the block."""
        request = object()
        self._open[request] = connection
        self.most_open = max(self.most_open, len(self._open))
        self._check()
        try:
            yield
        finally:
            del self._open[request]
            self._check()
            if self._max_open is not None and len(self._open) <= max(1, self._max_open // 2):
                self._has_collapsed = False

    def _check(self) -> None:
        """Collapse if too many requests have been open for long enough; called whenever a piece passes, too."""
        if self._max_open is None or self._has_collapsed:
            return
        now = asyncio.get_running_loop().time()
        passed, self._checked_at = now - self._checked_at, now
        # What piles up in a crowd is worked off afterwards: requests that overlap for a moment never add up.
        self._crowded = self._crowded + passed if self._is_crowded else max(0.0, self._crowded - passed)
        self._is_crowded = len(self._open) > self._max_open
        if self._is_crowded and self._crowded >= self._collapse_after:
            self._crowded, self._is_crowded = 0.0, False
            self._has_collapsed = True
            self.collapses += 1
            self._slow.update(self._open.values())

    def paced(
        self, connection: Address, receive: Receive, send: Send, is_closed: Callable[[], bool]
    ) -> tuple[Receive, Send]:
        """Return ``receive`` and ``send`` at the rate of the link.

        :param is_closed: whether the client has closed the connection.
        """

        async def wait(direction: str, count: int) -> None:
            self._check()
            self.passed += count
            loop = asyncio.get_running_loop()
            is_slow = self._has_collapsed or connection in self._slow
            until = self._lanes[is_slow, direction].reserve(count)
            while (left := until - loop.time()) > 0 and not is_closed():
                await asyncio.sleep(min(left, _CHECK_SECONDS))

        async def paced_receive() -> Message:
            message = await receive()
            if count := len(message.get("body", b"")):
                await wait("in", count)
            return message

        async def paced_send(message: Message) -> None:
            body = message.get("body", b"") if message["type"] == "http.response.body" else b""
            for start in range(0, len(body), _PIECE):
                piece = body[start : start + _PIECE]
                await wait("out", len(piece))
                has_more = start + _PIECE < len(body) or message.get("more_body", False)
                await send({**message, "body": piece, "more_body": has_more})
            if not body:
                await send(message)

        return paced_receive, paced_send
