"""Blocking work in daemon threads: interruptible, on several items at a time, or reading ahead of a writer.

A ``ThreadPoolExecutor`` does not do: the interpreter waits for its threads at exit, such as for a large digest.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from airflow_provider_xethub.exceptions import XetCancelledError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.process import stop

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Blocks that are read before the writer asks for them."""

TRANSFER = "xethub-transfer"
"""Name of the threads that a task waits for when it is stopped."""

REQUEST = "xethub-request"
"""Name of the threads that only wait for a response: nobody waits for them, and they leave nothing behind."""

STOP_SECONDS = 0.4
"""Seconds that a stopped task waits until its threads have removed temporary files; the client needs 0.1 s."""

_POLL_SECONDS = 0.05


class Watch(Protocol):
    """What is asked regularly whether to go on waiting, such as :class:`progress.Meter`."""

    def check(self) -> object:
        """Raise an error to end the wait."""


def begin(thread: threading.Thread) -> None:
    """Start a thread; a signal handler that raises meanwhile ends this with its own exception.

    ``Thread.start()`` of CPython raises ``KeyError`` instead where the thread already runs at that moment.
    """
    try:
        thread.start()
    except KeyError as error:
        if error.__context__ is None:
            raise
        raise error.__context__ from None


def interruptible(work: Callable[[], T], meter: Watch | None = None) -> T:
    """Run blocking work in a thread, so that a signal handler that raises (SIGTERM, execution_timeout) acts at once.

    Only one of the calls of the client polls for signals. The main thread waits in a call that signals interrupt.
    """
    return start(work)(meter)


def start(work: Callable[[], T], name: str = TRANSFER) -> Callable[..., T]:
    """Start blocking work in a thread, and return a function that waits for its result like :func:`interruptible`.

    :param name: :data:`TRANSFER` or :data:`REQUEST`.
    :raises XetCancelledError: the task was stopped before; nothing is started.
    """
    stop.check()
    done = threading.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # the client also raises PanicException, which is not an Exception
            failure.append(error)
        finally:
            done.set()

    # With the context of the caller: what is traced in the thread belongs to the caller's span.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True)
    begin(thread)

    def wait(meter: Watch | None = None) -> T:
        while not done.wait(progress.CHECK_INTERVAL):
            stop.check()  # the log of the progress may have caught it
            if meter:
                meter.check()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    return wait


def stoppable(work: Callable[[threading.Event], R]) -> R:
    """Run blocking work that stops when the task is stopped: the event that it is given is then set."""
    stopped = threading.Event()
    try:
        return interruptible(lambda: work(stopped))
    except BaseException:
        stopped.set()
        join_transfers()
        raise


def join_transfers() -> None:
    """Wait up to :data:`STOP_SECONDS` until stopped threads have removed their temporary files."""
    deadline = time.monotonic() + STOP_SECONDS
    for thread in threading.enumerate():
        # A signal can stop the task while it starts a thread. That one is listed, but it cannot be joined.
        if thread.name == TRANSFER and thread.ident is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


def each(
    work: Callable[[T], R],
    items: Sequence[T],
    at_a_time: int,
    stopped: threading.Event,
    *,
    go_on: bool = False,
    abort: Callable[[], None] | None = None,
) -> list[R]:
    """Run ``work`` on each item, a few at a time, and return the results in the order of the items.

    :param stopped: when set, no further items are started; ``work`` may check it too.
    :param go_on: whether to continue with the other items after one has failed; otherwise ``stopped`` is set.
    :param abort: called when an item fails and ``go_on`` is false; ends the work on other items.
    :raises Exception: the first error in time; with ``go_on``, after all items, the error of the first failed item.
    """
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}
    todo = iter(enumerate(items))
    turn = threading.Lock()

    def take() -> None:
        while not stopped.is_set():
            with turn:
                found = next(todo, None)
            if found is None:
                return
            number, item = found
            try:
                results[number] = work(item)
            except BaseException as error:  # hf_xet also raises PanicException, which is not an Exception
                errors[number] = error
                if not go_on:
                    stopped.set()
                    if abort:
                        abort()

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(take,), name="xethub-worker", daemon=True)
        for _ in items[:at_a_time]
    ]
    for thread in threads:
        begin(thread)
    for thread in threads:
        thread.join()
    if errors:
        # Later errors are consequences of the first.
        raise errors[min(errors)] if go_on else next(iter(errors.values()))
    if len(results) < len(items):
        raise XetCancelledError("The work was stopped from outside.")
    return [results[number] for number in range(len(items))]


def read_ahead(blocks: Iterator[bytes], stopped: threading.Event, ahead: int = AHEAD) -> Iterator[bytes]:
    """Yield ``blocks``, read in their own thread, at most ``ahead`` and one more before they are asked for.

    :raises Exception: what reading them raises.
    :raises XetCancelledError: ``stopped`` was set.
    """
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(ahead)
    finished = threading.Event()

    def put(what: bytes | BaseException | None) -> bool:
        while not (finished.is_set() or stopped.is_set()):
            try:
                waiting.put(what, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for block in blocks:
                if not put(block):
                    return
            put(None)
        except BaseException as error:
            put(error)

    begin(threading.Thread(target=read, name="xethub-read-ahead", daemon=True))
    try:
        while not stopped.is_set():
            try:
                block = waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            yield block
        raise XetCancelledError("The work was stopped from outside.")
    finally:
        finished.set()
