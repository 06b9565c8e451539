"""Blocking work in daemon threads: so that it can be stopped, on many items at a time, and reading ahead of a writer.

Not a ``ThreadPoolExecutor``: the end of the process waits for its threads, and so for the digest of a large file.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from airflow_provider_xethub.exceptions import XetCancelledError
from airflow_provider_xethub.xet import progress

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Blocks that are read before the writer wants them."""

TRANSFER = "xethub-transfer"
"""Name of the thread that a task waits for."""

STOP_SECONDS = 0.4
"""How long a task that is stopped waits for its threads to remove what they have begun; the client needs 0.1 s."""

_LOOK_SECONDS = 0.05


def interruptible(work: Callable[[], T], meter: progress.Meter | None = None) -> T:
    """Do blocking work in a thread, so that a signal handler that raises (SIGTERM, execution_timeout) is heard at once.

    The client polls for signals in only one of its calls; the main thread waits in one that never blocks them.
    """
    return begun(work)(meter)


def begun(work: Callable[[], T]) -> Callable[..., T]:
    """Begin blocking work in a thread, and return what waits for its result, as :func:`interruptible` does."""
    done = threading.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # the client also raises PanicException, which is no Exception
            failure.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name=TRANSFER, daemon=True)
    thread.start()

    def wait(meter: progress.Meter | None = None) -> T:
        while not done.wait(progress.LOOK_INTERVAL):
            if meter:
                meter.look()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    return wait


def stoppable(work: Callable[[threading.Event], R]) -> R:
    """Do blocking work so that it stops at once when the task is stopped: the event it is given is then set."""
    stopped = threading.Event()
    try:
        return interruptible(lambda: work(stopped))
    except BaseException:
        stopped.set()
        join_transfers()
        raise


def join_transfers() -> None:
    """Give threads that were told to stop a moment to remove what they have begun."""
    deadline = time.monotonic() + STOP_SECONDS
    for thread in threading.enumerate():
        if thread.name == TRANSFER:
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
    """Do ``work`` with each item, a few at a time, and return the results in the order of the items.

    :param stopped: when set, no more items are begun; ``work`` may look at it too.
    :param go_on: whether the other items are still worked on after one has failed. Without it, ``stopped`` is set.
    :param abort: called then as well; ends the work with the other items that has begun.
    :raises Exception: the error that came first; with ``go_on`` that of the first item, after all others are done.
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
            except BaseException as error:  # hf_xet also raises PanicException, which is no Exception
                errors[number] = error
                if not go_on:
                    stopped.set()
                    if abort:
                        abort()

    threads = [threading.Thread(target=take, name="xethub-worker", daemon=True) for _ in items[:at_a_time]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        # What fails after the first fails because of it.
        raise errors[min(errors)] if go_on else next(iter(errors.values()))
    if len(results) < len(items):
        raise XetCancelledError("stopped from outside.")
    return [results[number] for number in range(len(items))]


def read_ahead(blocks: Iterator[bytes], stopped: threading.Event) -> Iterator[bytes]:
    """Yield ``blocks``, read in a thread of their own: at most :data:`AHEAD` before they are wanted, and one in hand.

    :raises Exception: what reading them raises.
    :raises XetCancelledError: ``stopped`` was set.
    """
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD)
    left = threading.Event()

    def put(what: bytes | BaseException | None) -> bool:
        while not (left.is_set() or stopped.is_set()):
            try:
                waiting.put(what, timeout=_LOOK_SECONDS)
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

    threading.Thread(target=read, name="xethub-read-ahead", daemon=True).start()
    try:
        while not stopped.is_set():
            try:
                block = waiting.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            yield block
        raise XetCancelledError("stopped from outside.")
    finally:
        left.set()
