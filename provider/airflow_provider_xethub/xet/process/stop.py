"""The stop of this process's task: an error that its signal handler raises, and again where the main thread waits.

Once is not enough. What a signal handler raises gets lost where it interrupts code that catches every exception, such
as a handler of ``logging``, or a finalizer. The task would then go on.
"""

from __future__ import annotations

import threading
import time

_errors: list[BaseException] = []


def now(error: BaseException) -> None:
    """Raise an error, and again at each :func:`check`, until :func:`reset`."""
    _errors[:] = [error]
    raise error


def check() -> None:
    """Raise the error of the stop, if there is one and this is the main thread, in which the work of a task ends."""
    if _errors and threading.current_thread() is threading.main_thread():
        raise _errors[0]


def sleep(seconds: float) -> None:
    """Sleep, unless the task is to stop: what was just logged may have caught it."""
    check()
    time.sleep(seconds)


def reset() -> None:
    """Forget the stop: another task begins in this process."""
    _errors.clear()
