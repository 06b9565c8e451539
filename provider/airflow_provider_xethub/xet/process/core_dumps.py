"""Keep the memory of a process that holds tokens out of core dumps.

A core dump shows every token in memory to whoever can read the file, long after the process. So there is none while an
object that holds tokens exists. On Linux, other processes of the same user cannot read the memory either.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import weakref

try:
    import resource
except ImportError:  # not on Windows, where Airflow does not run
    resource = None  # type: ignore[assignment]

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
"""From prctl(2)."""

# Reentrant, because garbage collection can release a holder at any moment.
_lock = threading.RLock()
_holders: set[weakref.ref[object]] = set()
_before: dict[str, int] = {}


def forbid_while(holder: object) -> None:
    """Allow no core dump of this process as long as an object exists; afterwards, what was allowed before.

    :param holder: what keeps a token; may be given again.
    """
    with _lock:
        # References to the same object are equal.
        _holders.add(weakref.ref(holder, _release))
        if not _before:
            _forbid()


def _release(holder: weakref.ref[object]) -> None:
    # What crashes while the interpreter ends still has the tokens in its memory.
    if sys.is_finalizing():
        return
    with _lock:
        _holders.discard(holder)
        if not _holders:
            _restore()


def _forbid() -> None:
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        _before["limit"] = soft
        # Processes that are started meanwhile inherit it: they may be given a token.
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    # The kernel ignores the limit where it gives dumps to a program, such as systemd-coredump.
    if sys.platform == "linux":
        _before["dumpable"] = _prctl(_PR_GET_DUMPABLE)
        if _before["dumpable"] == 1:
            _prctl(_PR_SET_DUMPABLE, 0)


def _restore() -> None:
    before = dict(_before)
    _before.clear()
    if resource is not None and "limit" in before:
        with contextlib.suppress(ValueError):  # a hard limit that was lowered meanwhile
            resource.setrlimit(resource.RLIMIT_CORE, (before["limit"], resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if before.get("dumpable") == 1:
        _prctl(_PR_SET_DUMPABLE, 1)


def _prctl(option: int, value: int = 0) -> int:
    """Return what the C library returns: -1 where the kernel refuses it, which changes nothing."""
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))
