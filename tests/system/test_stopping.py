"""A task that is stopped, by SIGTERM or ``execution_timeout``, stops at once and leaves nothing; its retry succeeds."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import pytest

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetDownloadOperator, XetUploadOperator
from support.builders import TEXT, commits, names, write
from support.stopping import DATA, READS, SHARDS, UPLOADS, report
from xethub_local.control.faults import Fault


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"a.bin": os.urandom(3 << 20), "b.csv": TEXT}))


@pytest.mark.parametrize("route", [UPLOADS, SHARDS, "POST /api/.*/preupload/.*"])
def test_an_upload_stops_at_sigterm_and_its_retry_succeeds(hub, where, repo, source, stopped, run_task, route, request):
    fault = hub.faults.add(Fault(route, delay=30))
    arguments = {"source": source, **where}
    task = stopped(XetUploadOperator, arguments)
    task.wait_until(lambda: hub.faults.acted(fault))
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    assert "Task task was stopped" in result["text"]
    report(seconds, request)
    assert commits(hub, repo) == 1
    hub.faults.clear()
    assert run_task(XetUploadOperator, **arguments).value["created"]


@pytest.mark.parametrize("route", [READS, DATA])
def test_a_download_stops_at_sigterm_and_its_retry_succeeds(hub, records, stopped, run_task, route, request, tmp_path):
    fault = hub.faults.add(Fault(route, delay=30))
    arguments = {"destination": str(tmp_path / "out"), "files": records}
    task = stopped(XetDownloadOperator, arguments)
    task.wait_until(lambda: hub.faults.acted(fault))
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    report(seconds, request)
    assert names(tmp_path / "out") == []
    hub.faults.clear()
    assert len(run_task(XetDownloadOperator, **arguments).value) == 2
    assert names(tmp_path / "out") == ["d/a.bin", "d/b.bin"]


def test_a_download_that_compares_a_large_file_stops_at_sigterm(hub, stopped, request, tmp_path):
    size = 64 << 30
    large = write(tmp_path / "out", {"a.bin": b""}) / "a.bin"
    os.truncate(large, size)  # sparse
    record = {"path": "a.bin", "size": size, "sha256": "0" * 64, "xet_hash": "1" * 64, "repo": "hf://datasets/a/b@main"}
    task = stopped(XetDownloadOperator, {"destination": str(tmp_path / "out"), "files": [record]})
    task.wait_until(task.opens(large))
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    report(seconds, request)
    assert names(tmp_path / "out") == ["a.bin"]


def test_a_commit_that_reads_inline_files_back_stops_at_sigterm(hub, where, repo, tmp_path, stopped, run_task, request):
    source = write(tmp_path / "in", {"a.csv": TEXT * 300})
    files = run_task(XetUploadOperator, source=str(source), commit=False, **where).value
    fault = hub.faults.add(Fault(READS, delay=30))
    task = stopped(XetCommitOperator, {"files": files})
    task.wait_until(lambda: hub.faults.acted(fault))
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    report(seconds, request)
    assert commits(hub, repo) == 1


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_an_execution_timeout_stops_a_transfer(hub, where, source, records, stopped, request, tmp_path, direction):
    limit = 2.0
    if direction == "upload":
        fault = hub.faults.add(Fault(UPLOADS, delay=30))
        task = stopped(XetUploadOperator, {"source": source, **where}, timeout=limit)
    else:
        fault = hub.faults.add(Fault(DATA, delay=30))
        task = stopped(XetDownloadOperator, {"destination": str(tmp_path / "out"), "files": records}, timeout=limit)
    result = task.result()
    assert hub.faults.acted(fault)
    assert (result["state"], result["error"]) == ("up_for_retry", "AirflowTaskTimeout")
    report((result["seconds"] - limit, 0.0), request)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


def test_a_second_sigterm_does_no_harm(hub, where, source, stopped, repo, request):
    fault = hub.faults.add(Fault(UPLOADS, delay=30))
    task = stopped(XetUploadOperator, {"source": source, **where}, is_forked=False)
    task.wait_until(lambda: hub.faults.acted(fault))
    task.process.send_signal(signal.SIGTERM)
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    report(seconds, request, is_forked=False)
    assert commits(hub, repo) == 1


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_transfer_that_was_stopped_sends_nothing_more(hub, hook, repo, records, source, tmp_path, direction):
    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    if direction == "upload":
        work = partial(hook.upload, source, repo)
        fault, next_request = Fault(UPLOADS, delay=1), SHARDS
    else:
        work = partial(hook.download, tmp_path / "out", records)
        fault, next_request = Fault(READS, delay=1), DATA
    hub.log.clear()
    hub.faults.add(fault)

    def signal_later():
        while not hub.faults.acted(fault):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=signal_later)
    try:
        thread.start()
        with pytest.raises(StopError):
            work()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    time.sleep(1.5)  # by then the late answer has come
    assert not hub.log.requests(next_request, status=200)
    assert not hub.log.requests(next_request, status=206)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []
