"""A download of inline files that is stopped while the Hub has not responded yet."""

from __future__ import annotations

import signal
import threading

import pytest

from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.transfer import download


class StoppedError(Exception):
    """What the handler of a signal raises."""


class SlowHub:
    """A Hub that responds only after the task was stopped."""

    def __init__(self) -> None:
        self.responds = threading.Event()

    def read_inline(self, repo, path):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        self.responds.wait(30)
        return b"text"


@pytest.fixture
def stops():
    def stop(*_):
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.signal(signal.SIGALRM, before)


def test_what_arrives_after_the_task_was_stopped_is_not_written(stops, monkeypatch):
    monkeypatch.setattr(threads, "STOP_SECONDS", 0)
    written, hub = [], SlowHub()
    file = {"path": "a.csv", "size": 4, "repo": "hf://datasets/acme/a@main"}
    target = download.Target(file, None, None)
    with pytest.raises(StoppedError):
        download._fetch_inline([target], lambda: hub, lambda *what: written.append(what), None)
    late = [thread for thread in threading.enumerate() if thread.name in (threads.TRANSFER, "xethub-worker")]
    hub.responds.set()
    for thread in late:
        thread.join(10)
    assert late
    assert not written
