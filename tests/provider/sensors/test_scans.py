"""Waiting for the Hub's security scan."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_provider_xethub.exceptions import (
    XetInputError,
    XetNotFoundError,
    XetScanMissingError,
    XetUnsafeFileError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.sensors.scans import XetScanSensor
from airflow_provider_xethub.xet.hub import scans as hub_scans
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import TEXT, binary, publish, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

POLL = "POST .*/paths-info/.*"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": 0.1, "timeout": 30}


@pytest.fixture
def old(monkeypatch):
    """All files were committed long ago."""
    monkeypatch.setattr(hub_scans, "GRACE_SECONDS", -1.0)


def later(hub, polls, work):
    def run():
        while len(hub.log.requests(POLL)) < polls:
            time.sleep(0.02)
        work()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_files_that_are_safe_are_waited_for_once(hub, repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary(), "d/b.csv": TEXT})
    hub.log.clear()
    run = run_task(XetScanSensor, **where)
    head = XetHubConnection().get_latest_commit(repo)
    assert run.value == {**head, "file_count": 3, "scanned_count": 3, "bytes": run.value["bytes"]}
    assert run.xcoms["_link_XetHubLink"] == head["url"]
    assert len(hub.log.requests(POLL)) == 1


@pytest.mark.parametrize("status", ["queued", "unscanned", "error"])
def test_a_scan_without_a_result_is_waited_for_and_only_that_one_is_asked_for_again(
    hub, repo, where, run_task, tmp_path, status
):
    publish(repo, tmp_path, {"a.bin": binary(), "b.bin": binary(9)})
    hub.log.clear()
    hub.scans.set(status, "a.bin")
    thread = later(hub, 3, hub.scans.clear)
    value = run_task(XetScanSensor, **where).value
    thread.join()
    assert value["file_count"] == 3
    assert len(hub.log.requests(POLL)) >= 3
    assert len(hub.log.requests("GET .*/tree/.*")) == 1


@pytest.mark.parametrize("status", ["unsafe", "suspicious", "caution"])
def test_an_issue_fails_the_task_at_once_and_names_file_and_scanner(hub, repo, where, run_task, tmp_path, status):
    publish(repo, tmp_path, {"a.bin": binary(), "b.bin": binary(9)})
    hub.scans.set("queued", "b.bin")
    hub.scans.set(status, "a.bin", scanner="protectAiScan")
    run = run_task(XetScanSensor, **where)
    assert run.is_final
    assert isinstance(run.error, XetUnsafeFileError)
    assert f"found issues in 1 file of {repo}: a.bin ({status}; protectAi: {status})." in run.text
    value = run_task(XetScanSensor, exclude=["a.*", "b.*"], **where).value
    assert value["file_count"] == 1


def test_a_new_commit_is_scanned_in_turn(hub, repo, where, run_task, tmp_path):
    publish(repo, tmp_path / "1", {"a.bin": binary()})
    hub.scans.set("queued", "*.bin")
    hub.log.clear()

    def more():
        publish(repo, tmp_path / "2", {"b.bin": binary(9)})
        # The poll that runs now may have read the earlier commit already; the one after it reads the new one.
        later(hub, len(hub.log.requests(POLL)) + 2, hub.scans.clear).join()

    thread = later(hub, 2, more)
    value = run_task(XetScanSensor, patterns=["*.bin"], **where).value
    thread.join()
    assert value["oid"] == XetHubConnection().get_latest_commit(repo)["oid"]
    assert value["file_count"] == 2


def test_a_hub_without_scans_fails_the_task_and_says_so(hub, repo, where, run_task, old):
    hub.scans.set("none")
    run = run_task(XetScanSensor, **where)
    assert run.is_final
    assert isinstance(run.error, XetScanMissingError)
    assert f"reports no security scan of 1 file in {repo}: .gitattributes. It offers none" in run.text
    value = run_task(XetScanSensor, missing_scan="accept", **where).value
    assert (value["file_count"], value["scanned_count"]) == (1, 0)
    hub.log.clear()
    thread = later(hub, 2, hub.scans.clear)
    assert run_task(XetScanSensor, missing_scan="wait", **where).value["scanned_count"] == 1
    thread.join()


def test_a_report_that_is_missing_right_after_the_commit_is_a_scan_that_lags(hub, repo, where, run_task):
    hub.scans.set("none")
    thread = later(hub, 3, hub.scans.clear)
    assert run_task(XetScanSensor, **where).value["scanned_count"] == 1
    thread.join()


def test_a_pull_request_is_scanned_and_the_deferred_sensor_gives_the_same(hub, repo, hook, where, run_task, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary()})
    opened = hook.publish(source, CommitRequest(repo, (), message="Proposed", create_pr=True))
    arguments = {"pull_request": opened["pull_request"], "paths": "a.bin", **where}
    hub.scans.set("queued")
    deferred = run_task(XetScanSensor, deferrable=True, **arguments)
    assert deferred.state == "deferred"
    assert deferred.message.classpath == "airflow_provider_xethub.triggers.scans.XetScanTrigger"
    assert deferred.xcoms["_link_XetHubLink"] == opened["pull_request"]
    hub.scans.clear()
    value = run_task(XetScanSensor, deferrable=True, **arguments).value
    assert value == run_task(XetScanSensor, **arguments).value
    assert (value["oid"], value["file_count"]) == (opened["oid"], 1)


def test_what_cannot_be_scanned_fails_at_once(hub, repo, where, run_task):
    run = run_task(XetScanSensor, paths=["gone.bin"], **where)
    assert isinstance(run.error, XetNotFoundError)
    assert "gone.bin not found in" in run.text
    assert isinstance(run_task(XetScanSensor, patterns="*.bin", **where).error, XetNotFoundError)
    hub.log.clear()
    for wrong in (
        {"paths": "a", "patterns": "b"},
        {"paths": []},
        {"exclude": ""},
        {"repo_type": "bucket"},
        {"pull_request": "{{ none }}"},
    ):
        assert isinstance(run_task(XetScanSensor, **{**where, **wrong}).error, XetInputError), wrong
    assert not hub.log.requests()
    assert run_task(XetScanSensor, pull_request="{{ none }}", on_empty="skip", **where).state == "skipped"


def test_many_files_are_asked_for_in_batches(hub, repo, hook, where, run_task, tmp_path):
    publish(repo, tmp_path, {f"d/{number}.csv": b"%d\n" % number for number in range(250)})
    hub.log.clear()
    assert run_task(XetScanSensor, **where).value["file_count"] == 251
    assert len(hub.log.requests(POLL)) == 3


def test_a_scan_of_many_files_that_lags_is_not_asked_for_file_by_file(
    hub, repo, where, run_task, tmp_path, monkeypatch
):
    monkeypatch.setattr(hub_scans, "BATCH", 5)
    publish(repo, tmp_path, {f"d/{number:02}.csv": b"%d\n" % number for number in range(50)})
    hub.scans.set("queued", "d/*")
    deferred = {**where, "deferrable": True}
    hub.log.clear()
    assert run_task(XetScanSensor, **deferred).state == "deferred"
    assert len(hub.log.requests(POLL)) == 3
    thread = later(hub, 6, hub.scans.clear)
    assert run_task(XetScanSensor, **where).value["file_count"] == 51
    thread.join()


def test_an_answer_without_a_file_says_nothing_about_it(hub, repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"a.csv": TEXT})
    hub.faults.add(Fault(POLL, status=200, body="[]", headers={"Content-Type": "application/json"}))
    run = run_task(XetScanSensor, **where)
    assert isinstance(run.error, XetScanMissingError)
    assert "no security scan of 2 files" in run.text


# --- require_safe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "retried"),
    [("unsafe", "XetUnsafeFileError", False), ("queued", "XetScanPendingError", True),
     ("none", "XetScanMissingError", False)],
)  # fmt: skip
def test_a_download_refuses_what_is_not_safe_before_it_writes(
    hub, repo, where, run_task, tmp_path, old, status, kind, retried
):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    publish(repo, tmp_path, {"a.bin": binary(), "b.csv": TEXT})
    hub.scans.set(status, "a.bin")
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), require_safe=True, **where)
    assert type(run.error).__name__ == kind
    assert "a.bin" in run.text
    assert "Nothing was downloaded." in run.text
    assert run.is_final is not retried
    assert not (tmp_path / "out").exists()
    assert not hub.log.requests("GET /cas/.*")
    arguments = {"destination": str(tmp_path / "out"), "require_safe": True, **where}
    assert len(run_task(XetDownloadOperator, path="b.csv", **arguments).value) == 1


def test_the_scan_must_be_about_the_content_that_is_downloaded(hub, repo, where, run_task, tmp_path):
    files = publish(repo, tmp_path / "1", {"a.bin": binary()})
    publish(repo, tmp_path / "2", {"a.bin": binary(9, 1)})
    arguments = {"destination": str(tmp_path / "out"), "files": files, "require_safe": True}
    run = run_task(XetDownloadOperator, **arguments)
    assert "a.bin changed in" in run.text
    assert "Nothing was downloaded" in run.text


def test_a_worker_with_only_a_token_cannot_require_it(hub, repo, connection, run_task, tmp_path):
    from support.builders import sealed

    files = publish(repo, tmp_path / "1", {"a.bin": binary()})
    token = sealed(repo)
    arguments = {"destination": str(tmp_path / "out"), "files": files, "token": token, "xethub_conn_id": None}
    run = run_task(XetDownloadOperator, require_safe=True, **arguments)
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert "require_safe asks the Hub for its security scan, which needs a connection" in run.text[:100]
    assert not (tmp_path / "out").exists()
    assert len(run_task(XetDownloadOperator, **arguments).value) == 1
