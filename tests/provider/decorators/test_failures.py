"""``@task.xethub`` when things go wrong: retries, damage, a task that is stopped, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import task

from airflow_provider_xethub.exceptions import (
    XetCancelledError,
    XetIntegrityError,
    XetSourceError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.operators.xethub import XetTokenOperator
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import commits, sealed
from support.decorated import (
    lower,
    run,
)
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow


def test_a_retry_after_a_lost_answer_finds_the_commit_of_the_first_try(hub, raw, repo, where):
    before = commits(hub, repo)
    hub.faults.add(Fault("POST .*/commit/.*", times=1, lose_answer=True))
    hub.faults.add(Fault("GET .*/commits/.*", status=400, times=1))
    with new_dag():
        operator = task.xethub(retries=2, path="raw", path_in_repo="clean", **where)(lower)().operator
    first = run_one(operator)
    assert first.error is not None
    assert commits(hub, repo) == before + 1
    hub.log.clear()
    second = run_one(operator, try_number=2)
    assert second.value["created"]
    assert not hub.log.requests("POST .*/commit/.*")
    assert commits(hub, repo) == before + 1


def test_a_second_run_with_the_same_result_commits_nothing(hub, raw, repo, where):
    assert run(lower, path="raw", path_in_repo="clean", **where).value["created"]
    before = commits(hub, repo)
    assert not run(lower, path="raw", path_in_repo="clean", **where).value["created"]
    assert commits(hub, repo) == before


def test_a_damaged_download_never_reaches_the_function(hub, raw, where):
    def touch(files):
        raise AssertionError("called")

    hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    done = run(touch, path="other.bin", read_only=True, **where)
    assert isinstance(done.error, XetIntegrityError)
    assert not done.is_final


def test_an_error_of_the_function_is_the_tasks_error_and_publishes_nothing(hub, raw, repo, where):
    def fail(file, output):
        (output / "half.csv").write_text("half")
        raise KeyError("column")

    before = commits(hub, repo)
    done = run(fail, path="raw/a.csv", **where)
    assert isinstance(done.error, KeyError)
    assert not done.is_final
    assert commits(hub, repo) == before


def test_a_function_may_skip_its_task(hub, raw, repo, where):
    def skip(file):
        raise AirflowSkipException("nothing today")

    assert run(skip, path="raw/a.csv", **where).state == "skipped"


def be_busy():
    """Work for a long time, in many short calls: once hf_xet has run, a signal did not always end one long sleep."""
    for _ in range(6000):
        time.sleep(0.01)


def in_a_moment(condition):
    """Stop this process's task as Airflow does, once the condition holds."""

    def stop():
        while not condition():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()


def test_a_task_that_is_stopped_in_its_function_stops_at_once_and_publishes_nothing(hub, raw, repo, where):
    working = threading.Event()

    def work(file, output):
        (output / "half.csv").write_text("half")
        working.set()
        be_busy()

    before = commits(hub, repo)
    in_a_moment(working.is_set)
    done = run(work, path="raw/a.csv", **where)
    assert isinstance(done.error, XetCancelledError)
    assert not done.is_final
    assert commits(hub, repo) == before


@pytest.mark.parametrize("route", ["GET /cas/.*/v./reconstructions/.*", "POST /cas/.*/v1/xorb(s|-grants)/.*"])
def test_a_task_that_is_stopped_in_its_transfers_leaves_nothing(hub, raw, repo, where, route):
    def copy(file, output):
        (output / "copy.bin").write_bytes(os.urandom(5000))

    before = commits(hub, repo)
    fault = Fault(route, delay=5)
    hub.faults.add(fault)
    in_a_moment(lambda: hub.faults.acted(fault))
    done = run(copy, path="other.bin", **where)
    assert isinstance(done.error, XetCancelledError)
    hub.faults.clear()
    assert commits(hub, repo) == before


def test_a_function_that_takes_too_long_is_ended_and_publishes_nothing(hub, raw, repo, where):
    def work(output):
        (output / "half.csv").write_text("half")
        be_busy()

    before = commits(hub, repo)
    done = run(work, execution_timeout=timedelta(seconds=2), **where)
    assert type(done.error).__name__ == "AirflowTaskTimeout"
    assert commits(hub, repo) == before


def test_a_function_that_catches_what_stops_it_publishes_nothing(hub, raw, repo, where):
    def stubborn(file, output):
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        (output / "late.csv").write_text("late")

    before = commits(hub, repo)
    done = run(stubborn, path="raw/a.csv", **where)
    assert "Task stubborn was stopped, but stubborn() continued. Nothing was published." in done.text
    assert not done.is_final
    assert commits(hub, repo) == before


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ("done", "returned a str ('done')"),
        (7, "returned a int (7)"),
        ({"a": 1}, "returned a dict ({'a': 1})"),
        ([Path("a"), "b"], "returned a str ('b')"),
        ([], "returned an empty list"),
        (b"x" * 500, "returned a bytes (b'xxx"),
    ],
)
def test_anything_else_that_a_function_returns_is_refused(hub, connection, repo, where, returned, what):
    def wrong(output):
        return returned

    done = run(wrong, **where)
    assert done.is_final
    assert f"wrong() {what}" in done.text
    assert "@task.xethub publishes the Path or the list of Paths" in done.text
    assert len(done.text) < 400
    assert commits(hub, repo) == 1


def test_a_function_that_makes_nothing_is_told_so(hub, connection, repo, where):
    def no_output(): ...

    def empty(output):
        (output / "folder").mkdir()

    done = run(no_output, **where)
    assert done.is_final
    assert "no_output() returned None and has no parameter output" in done.text
    done = run(empty, **where)
    assert done.is_final
    assert "empty() returned None and wrote no file into output" in done.text


def test_a_returned_path_that_does_not_exist_is_named(connection, where, tmp_path):
    def wrong():
        return tmp_path / "nowhere.csv"

    done = run(wrong, **where)
    assert isinstance(done.error, XetSourceError)
    assert "nowhere.csv: does not exist" in done.text


def test_several_files_are_too_many_for_file(raw, where):
    def one(file): ...

    done = run(one, path="raw", read_only=True, **where)
    assert done.is_final
    assert "one() takes one file, but there are 2. Use the parameter files instead, or map the task" in done.text


def test_records_and_another_source_are_refused(raw, where):
    done = run(lower, files=raw[1:2], source_repo_id="acme/other", **where)
    assert done.is_final
    assert "Xet file records name their repository; leave out source_repo_id" in done.text


@pytest.mark.parametrize("given", [[], [[]], {"files": []}])
def test_an_empty_list_of_files_is_refused(connection, where, given):
    done = run(lower, call={"files": given}, **where)
    assert done.is_final
    assert "the list of files is empty" in done.text


def test_what_cannot_be_written_is_refused_before_the_function_works(hub, raw, repo, where, connection):
    def work(file, output):
        raise AssertionError("called")

    connection(password=hub.token("read"))
    done = run(work, path="raw/a.csv", **where)
    assert done.is_final
    assert "answered 403 to the write token request" in done.text
    connection(password="hf_wrong")
    assert isinstance(run(work, path="raw/a.csv", **where).error, XetUnauthorizedError)


def test_a_read_token_is_refused_before_anything_is_asked(hub, raw, repo, where):
    token = sealed(repo, "read")
    hub.log.clear()
    api = ExecutionApi(xcoms={("token", "return_value", -1): token})
    with new_dag():
        first = XetTokenOperator(task_id="token", **where)
        operator = task.xethub(token=first.output, path="raw/a.csv", **where)(lower)().operator
        assert operator.upstream_task_ids == {"token"}
    done = run_one(operator, api=api)
    assert done.is_final
    assert "a read token" in done.text
    assert not hub.log.requests()
    assert token["sealed"] not in json.dumps(done.rendered)


def test_reading_asks_for_no_write_token(hub, raw, where):
    assert (
        run(lambda file: file.stat().st_size, task_id="size", path="other.bin", read_only=True, **where).value == 5000
    )
    assert hub.log.requests("GET .*/xet-read-token/.*")
    assert not hub.log.requests("GET .*/xet-write-token/.*")
