"""Blocking work in threads, ended by what a signal handler raises, as SIGTERM and ``execution_timeout`` do in tasks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from airflow_provider_xethub.exceptions import XetCancelledError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.files import targets
from airflow_provider_xethub.xet.process import stop, threads


class StoppedError(Exception):
    """What the handler raises."""


@pytest.fixture
def stop_soon() -> Iterator[None]:
    def handle(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_work_that_is_stopped_gets_a_moment_to_clean_up(stop_soon):
    cleaned = threading.Event()

    def work(stopped: threading.Event) -> None:
        stopped.wait(10)
        time.sleep(0.1)  # such as removing what it has begun
        cleaned.set()

    with pytest.raises(StoppedError):
        threads.stoppable(work)
    assert cleaned.is_set()


def test_work_that_hears_nothing_is_left_behind(stop_soon):
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        threads.stoppable(lambda _: release.wait(30))
    assert time.monotonic() - began < 5
    release.set()


def test_reading_ahead_hears_at_once_that_it_is_stopped():
    stopped, never = threading.Event(), threading.Event()

    def blocks() -> Iterator[bytes]:
        yield b"first"
        never.wait(30)

    reading = threads.read_ahead(blocks(), stopped)
    assert next(reading) == b"first"
    threading.Timer(0.1, stopped.set).start()
    with pytest.raises(XetCancelledError):
        next(reading)
    never.set()


def test_a_task_can_be_stopped_while_it_starts_a_thread(monkeypatch):
    starting = threading.Thread(name=threads.TRANSFER)
    monkeypatch.setattr(threading, "enumerate", lambda: [starting])  # as while start() waits for the new thread
    with pytest.raises(StoppedError):
        threads.stoppable(_stopped_at_once)


def _stopped_at_once(_: threading.Event) -> None:
    raise StoppedError


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path, monkeypatch):
    """Not even where the task is stopped at that very moment: what is looked with never has a name."""

    def interrupted(*_: object, **__: object) -> None:
        raise StoppedError

    monkeypatch.setattr("pathlib.Path.unlink", interrupted)
    target = targets.Target({"path": "a"}, tmp_path / "d/a", tmp_path / "d/part")  # type: ignore[typeddict-item]
    with pytest.raises(StoppedError), targets.temporary_files([target]):
        assert list((tmp_path / "d").iterdir()) == []
    assert list((tmp_path / "d").iterdir()) == []


def test_work_that_fails_within_other_work_says_why():
    """The inner one waits for stopped threads, and is in one itself."""

    def fail(_):
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        threads.stoppable(lambda _: threads.stoppable(fail))


@pytest.mark.parametrize(
    "begin", [lambda work: threads.start(work), lambda work: threads.begin(threading.Timer(0, work))]
)
def test_a_stop_while_a_thread_starts_is_no_key_error(begin, monkeypatch):
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    real, runs = getattr(threading, name), threading.Event()

    def stopped_at_its_end(*arguments: object, **options: object) -> None:
        real(*arguments, **options)
        runs.wait(10)  # so that the thread has already left what start() would take it from
        raise StoppedError

    monkeypatch.setattr(threading, name, stopped_at_its_end)
    with pytest.raises(StoppedError):
        begin(runs.set)


def test_an_error_of_the_thread_itself_stays_what_it_is():
    class Broken(threading.Thread):
        def start(self) -> None:
            raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        threads.begin(Broken())


def test_a_stop_that_the_log_of_the_progress_caught_ends_the_wait(monkeypatch):
    """As a handler of ``logging`` that a signal interrupts: it catches what the signal handler raises."""
    monkeypatch.setattr(progress, "CHECK_INTERVAL", 0.01)
    ended, checks = threading.Event(), []

    class Meter:
        def check(self):
            checks.append(1)
            if len(checks) == 1:
                with suppress(XetCancelledError):
                    stop.now(XetCancelledError("The task was stopped."))
            assert len(checks) < 100, "the wait goes on"

    try:
        with pytest.raises(XetCancelledError, match=r"The task was stopped\."):
            threads.interruptible(lambda: ended.wait(30), Meter())
    finally:
        stop.reset()
        ended.set()
    assert len(checks) == 1
