"""Block the start of child processes while the environment holds a secret, which a child would inherit.

The CAS client reads the proxy URL, with its password, only from the environment, for up to 0.1 s when a transfer
starts. Other threads that start a process in this time wait until it is over. Python offers no more than this: audit
events say that a process is about to start, and stack frames say whether one is starting already. Processes that native
code or the method ``spawn`` of ``multiprocessing`` starts are not noticed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

_EVENTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"})

MAX_START_SECONDS = 1.0
"""Seconds to wait for a process that is starting; ``os.system`` returns only after its child has ended."""

MAX_BLOCKED_SECONDS = 30.0
"""Seconds that the start of a process waits at most, in case the client never returns."""

_POPEN = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]  # where a child is started


class _Gate:
    """Hold which threads wait, and which may be starting a process without ``subprocess``: their frame and position."""

    def __init__(self) -> None:
        self.opened = threading.Condition(threading.RLock())
        self.holders = 0
        self.waiting: set[int] = set()
        self.passed: dict[int, tuple[int, CodeType, int]] = {}


_gate = _Gate()
_installing = threading.Lock()
_is_installed = False


@contextmanager
def blocked() -> Iterator[None]:
    """Block other threads from starting a process, and wait for those that are starting one."""
    _install()
    gate = _gate
    with gate.opened:
        gate.holders += 1
    try:
        deadline = time.monotonic() + MAX_START_SECONDS
        while _is_anyone_starting(gate) and time.monotonic() < deadline:
            time.sleep(0.001)
        yield
    finally:
        with gate.opened:
            gate.holders -= 1
            gate.opened.notify_all()


def _install() -> None:
    global _is_installed
    with _installing:
        if not _is_installed:
            sys.addaudithook(_audit)
            os.register_at_fork(after_in_child=_reset_after_fork)
            _is_installed = True


def _reset_after_fork() -> None:
    # Another thread may have held the lock; it does not exist in the child.
    global _gate
    _gate = _Gate()


def _audit(event: str, _: object) -> None:
    if event not in _EVENTS:
        return
    frame, ident, gate = sys._getframe(1), threading.get_ident(), _gate
    with gate.opened:
        gate.waiting.add(ident)
        gate.opened.wait_for(lambda: not gate.holders, MAX_BLOCKED_SECONDS)
        gate.waiting.discard(ident)
        if frame.f_code is not _POPEN:
            gate.passed[ident] = (id(frame), frame.f_code, frame.f_lasti)


def _is_anyone_starting(gate: _Gate) -> bool:
    frames = sys._current_frames()
    with gate.opened:
        for ident, passed in list(gate.passed.items()):
            now = frames.get(ident)
            if now is None or (id(now), now.f_code, now.f_lasti) != passed:
                del gate.passed[ident]
        return bool(gate.passed) or any(
            _is_in_popen(frame) for ident, frame in frames.items() if ident not in gate.waiting
        )


def _is_in_popen(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _POPEN:
            return True
        frame = frame.f_back
    return False
