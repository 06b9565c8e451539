"""What the TCP connections of this process still hold after they were closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_POLL_SECONDS = 0.2


@contextmanager
def drained(settle: float, most: float) -> Iterator[None]:
    """Wait at the end of the block until what it closed holds the link no longer.

    The system goes on sending what a closed connection has in its buffer, often megabytes, and a slow link takes long
    for them (RFC 9293, FIN-WAIT-1, or LAST-ACK if the other side closed first). The other side then has to end what it
    received (FIN-WAIT-2). Where the system does not show these states, as macOS does to its administrator only, the
    block just ends ``settle`` seconds later.

    :param settle: seconds after the block in which its connections are closed: that may be the work of other threads.
    :param most: further seconds to wait, at most.
    """
    import psutil

    # The side of a connection that is still open, and the states of one that was closed and still holds data.
    can_close = (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)
    closing = (psutil.CONN_FIN_WAIT1, psutil.CONN_FIN_WAIT2, psutil.CONN_CLOSING, psutil.CONN_LAST_ACK)

    # Both addresses tell connections apart: those of a server all have the server's own.
    def these(connections: Iterable[Any], states: Container[str]) -> set[object]:
        return {(each.laddr, each.raddr) for each in connections if each.status in states}

    tick = threading.Event()  # unlike time.sleep, its wait ends for a signal handler that raises
    try:
        before = these(psutil.Process().net_connections("tcp"), can_close)
    except (OSError, psutil.Error):
        before = set()
    yield
    tick.wait(settle)
    end = time.monotonic() + most
    try:
        while before and before & these(psutil.net_connections("tcp"), closing) and time.monotonic() < end:
            tick.wait(_POLL_SECONDS)
    except (OSError, psutil.Error):
        return
