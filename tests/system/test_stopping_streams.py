"""A transfer from or to object storage that is stopped stops at once and leaves nothing; its retry succeeds."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from support.builders import TEXT, commits, names, write
from support.stopping import DATA, READS, SHARDS, UPLOADS, report
from xethub_local.control.faults import Fault


@pytest.fixture
def source(tmp_path):
    return f"file://{write(tmp_path / 'in', {'a.bin': os.urandom(9 << 20), 'b.csv': TEXT})}"


@pytest.mark.parametrize("route", [UPLOADS, SHARDS])
def test_a_streamed_upload_stops_at_sigterm_and_its_retry_succeeds(
    hub, where, repo, source, stopped, run_task, route, request
):
    fault = hub.faults.add(Fault(route, delay=30))
    arguments = {"source": source, **where}
    task = stopped(XetUploadOperator, arguments)
    task.wait_until(lambda: hub.faults.acted(fault))
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    report(seconds, request)
    assert commits(hub, repo) == 1
    hub.faults.clear()
    assert run_task(XetUploadOperator, **arguments).value["created"]


@pytest.mark.parametrize("route", [READS, DATA])
def test_a_streamed_download_stops_at_sigterm_and_its_retry_succeeds(
    hub, records, stopped, run_task, route, request, tmp_path
):
    fault = hub.faults.add(Fault(route, delay=30))
    arguments = {"destination": f"file://{tmp_path}/out/", "files": records}
    task = stopped(XetDownloadOperator, arguments)
    task.wait_until(lambda: hub.faults.acted(fault))
    result, seconds = task.terminate()
    assert (result["state"], result["error"]) == ("up_for_retry", "XetCancelledError")
    report(seconds, request)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []
    hub.faults.clear()
    assert len(run_task(XetDownloadOperator, **arguments).value) == 2
    assert names(tmp_path / "out") == ["d/a.bin", "d/b.bin"]


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_an_execution_timeout_stops_a_stream(hub, where, source, records, stopped, request, tmp_path, direction):
    limit = 2.0
    fault = hub.faults.add(Fault(UPLOADS if direction == "upload" else DATA, delay=30))
    if direction == "upload":
        task = stopped(XetUploadOperator, {"source": source, **where}, timeout=limit)
    else:
        arguments = {"destination": f"file://{tmp_path}/out/", "files": records}
        task = stopped(XetDownloadOperator, arguments, timeout=limit)
    result = task.result()
    assert hub.faults.acted(fault)
    assert (result["state"], result["error"]) == ("up_for_retry", "AirflowTaskTimeout")
    report((result["seconds"] - limit, 0.0), request)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []
