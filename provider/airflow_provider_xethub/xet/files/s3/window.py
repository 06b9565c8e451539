"""How much of objects in S3 is requested or in memory at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MEMORY = 24 << 20
"""Bytes of objects in memory where nobody says otherwise."""

LONGEST_WAIT = 100.0
"""Seconds without any part of an object being stored, after which writing it fails. Less than the timeout of a stalled
transfer, whose error would not name the storage."""

_MOST = 8
"""Ranges or parts of one object at the same time. More connections make few storages faster."""

_NARROWED_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Window:
    """Limits of all requests of one transfer with content.

    :param memory: bytes of objects that may be requested, sent or in memory at the same time.
    :param requests: the most requests with content at the same time; ``None`` for as many as the memory allows.
    :param longest_wait: seconds after which writing an object fails if the storage has stored nothing of it.
    """

    def __init__(self, memory: int = MEMORY, requests: int | None = None, longest_wait: float = LONGEST_WAIT) -> None:
        self.memory = memory
        self.longest_wait = longest_wait
        self._most = requests
        self._open = 0
        self._narrowed = float("-inf")
        self._changed = threading.Condition()

    def pieces(self, each: int) -> int:
        """Return how many ranges or parts of ``each`` bytes of one object may be in memory; one in any case."""
        return max(1, min(self._most or _MOST, _MOST, self.memory // each))

    @contextmanager
    def turn(self, stopped: threading.Event) -> Iterator[None]:
        """Wait until one more request may be open, or ``stopped`` is set."""
        with self._changed:
            while self._most is not None and self._open >= self._most and not stopped.is_set():
                self._changed.wait(_POLL_SECONDS)
            self._open += 1
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify()

    def narrow(self) -> None:
        """Let half as many requests be open at the same time as are now: those that are open share the network.

        Several that crawl at the same time count once, and one that crawls alone has nobody to share with.
        """
        with self._changed:
            now = time.monotonic()
            if self._open > 1 and now - self._narrowed >= _NARROWED_SECONDS:
                self._narrowed = now
                self._most = max(1, min(self._most or self._open, self._open) // 2)
