"""A download that fails leaves no temporary file, not even one that the client creates after it was aborted."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

import pytest

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import downloads
from airflow_provider_xethub.xet.cas import session as cas_session
from support.builders import binary, publish
from xethub_local.control.faults import Fault

READS = "GET /cas/.*/v./reconstructions/.*"
MANY = 100
"""More than the client fetches at the same time: when it is aborted, it begins with some of the others."""


class StoppedError(Exception):
    """What the handler of a signal raises."""


@pytest.fixture
def fetch(connection, repo, tmp_path, monkeypatch):
    """Fetches many files into an empty folder, and returns that."""
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    [file] = publish(repo, tmp_path / "before", {"a.bin": binary(3000, repo)})
    access = cas_session.CasAccess(XetHubConnection().get_token(repo, "read"))
    (folder := tmp_path / "out").mkdir()
    parts = [folder / f"{number}.part" for number in range(MANY)]
    wanted = [downloads.Wanted(part.stem, file["xet_hash"], file["size"], part) for part in parts]
    return lambda: downloads.fetch(access, wanted, lambda number, pieces: all(pieces))


@pytest.fixture
def stopped_soon(hub, fetch):
    """Stops the task, as SIGTERM does, while the client of ``fetch`` waits for CAS."""
    waiting = hub.faults.add(Fault(READS, delay=600))

    def stop(*_):
        raise StoppedError

    def watch():
        while not hub.faults.acted(waiting):
            ended.wait(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, stop)
    ended = threading.Event()
    threading.Thread(target=watch).start()
    yield
    ended.set()
    signal.signal(signal.SIGALRM, before)


def of_the_client() -> set[str]:
    """Return the threads of the client in which it creates files."""
    names = {path.parent.name: path.read_text() for path in Path("/proc/self/task").glob("*/comm")}
    return {thread for thread, name in names.items() if re.match(r"hf-xet-\d", name)}


def test_a_download_that_fails_ends_the_client(hub, fetch, tmp_path):
    hub.faults.add(Fault(READS, status=200, body="<html></html>", headers={"Content-Type": "text/html"}))
    before = of_the_client()
    with pytest.raises(exceptions.XetHubError) as caught:
        fetch()
    assert of_the_client() <= before
    assert not [*(tmp_path / "out").iterdir()]
    assert "CAS returned a truncated or unexpected response." in str(caught.value)


def test_a_download_that_is_stopped_ends_the_client(fetch, stopped_soon, tmp_path):
    before = of_the_client()
    with pytest.raises(StoppedError) as caught:
        fetch()
    assert of_the_client() <= before
    assert not [*(tmp_path / "out").iterdir()]
    assert caught  # it has the session of the client
