"""Start no child process while the environment of this one holds a secret, which the child would inherit.

The client of CAS learns the proxy, with its password, from the environment only, and reads it for up to 0.1 s where a
transfer begins. Other threads that start a process in this moment wait for its end. That is all Python lets one do: the
audit events say when a process is about to be started, and frames say whether one is being started already. Native code
that starts processes by itself is not noticed, nor is the method ``spawn`` of ``multiprocessing``.
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
"""How long to wait for a process that is being started: ``os.system`` is over only when its child has ended."""

MAX_BLOCKED_SECONDS = 30.0
"""How long a process waits to be started, should the client not come back."""

_POPEN = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]  # where a child is started


class _Gate:
    """Who waits, and who may be starting a process outside of ``subprocess``: the frame and the place in it."""

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
    """Let no other thread start a process, and wait for those that are starting one."""
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
            os.register_at_fork(after_in_child=_anew)
            _is_installed = True


def _anew() -> None:
    # Another thread may have held the lock, and there are no other threads in the child.
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
