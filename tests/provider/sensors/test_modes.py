"""The three ways of a sensor to wait: they return the same, and fail for the same reasons."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta

import airflow
import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetProtocolError, XetServerError
from airflow_provider_xethub.hooks import events
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.wait import poller
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, publish
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

MODES = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
modes = pytest.mark.parametrize("mode", MODES)

HAS_STATE = importlib.util.find_spec("airflow.sdk.definitions.retry_policy") is not None
"""Whether this is Airflow 3.3 or later, which remembers something for a task and runs a whole DAG in a second."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": 0.5, "timeout": 240}


@pytest.fixture
def run_while(run_dag, request):
    """Runs a sensor as a whole DAG; ``change`` happens when the Hub was asked for the ``looks``-th time."""

    def run(hub, sensor, mode, change=None, looks=2, **arguments):
        if mode == "reschedule" and airflow.__version__.startswith("3.0."):
            pytest.skip("dag.test() of Airflow 3.0 hands the date of the first look over as text")
        if not HAS_STATE and request.node.originalname != "test_all_ways_return_the_same_record":
            pytest.skip("before Airflow 3.3 a whole DAG takes many seconds: one of each mode is enough")
        with new_dag() as dag:
            sensor(task_id="wait", **{**arguments, **MODES[mode]})

        def later():
            deadline = time.monotonic() + 200
            while len(hub.log.requests()) < looks and time.monotonic() < deadline:
                time.sleep(0.02)
            change()

        thread = threading.Thread(target=later if change else lambda: None)
        thread.start()
        try:
            return run_dag(dag)
        finally:
            thread.join()

    return run


@modes
def test_all_ways_return_the_same_record(hub, repo, where, run_while, mode, tmp_path, airflow_db):
    hub.log.clear()
    change = lambda: publish(repo, tmp_path, {"d/a.bin": binary()})  # noqa: E731
    run = run_while(hub, XetFileSensor, mode, change, path="d/a.bin", **where)
    assert run.states == {"wait": "success"}
    assert run.xcoms("wait") == XetHubConnection().get_files(repo, ["d/a.bin"])


@modes
def test_all_ways_wait_for_several_files(hub, repo, where, run_while, mode, tmp_path, airflow_db):
    publish(repo, tmp_path / "1", {"a.bin": binary()})
    hub.log.clear()
    change = lambda: publish(repo, tmp_path / "2", {"b.bin": binary(seed=1), "c.txt": TEXT})  # noqa: E731
    run = run_while(hub, XetFileSensor, mode, change, patterns="*.bin", min_files=2, **where)
    assert run.states == {"wait": "success"}
    assert run.xcoms("wait") == [XetHubConnection().list_files(repo, patterns="*.bin")]


@modes
def test_all_ways_wait_for_the_next_commit(hub, repo, where, run_while, mode, tmp_path, airflow_db):
    hub.log.clear()
    run = run_while(hub, XetRevisionSensor, mode, lambda: publish(repo, tmp_path, {"a.txt": TEXT}), **where)
    assert run.states == {"wait": "success"}
    assert run.xcoms("wait") == [XetHubConnection().get_latest_commit(repo)]


@modes
def test_what_is_there_already_is_returned_at_the_first_look(hub, repo, where, run_task, mode, tmp_path):
    before = XetHubConnection().get_latest_commit(repo)["oid"]
    publish(repo, tmp_path, {"a.bin": binary()})
    hub.log.clear()
    found = run_task(XetFileSensor, path="a.bin", **where, **MODES[mode]).value
    assert found == XetHubConnection().get_files(repo, ["a.bin"])[0]
    newest = run_task(XetRevisionSensor, newer_than=before, **where, **MODES[mode]).value
    assert newest == XetHubConnection().get_latest_commit(repo)


def test_a_deferrable_sensor_looks_once_and_gives_its_slot_up(hub, where, run_task):
    run = run_task(XetFileSensor, path="a.bin", deferrable=True, **where)
    assert run.state == "deferred"
    assert len(hub.log.requests()) == 1
    assert run.message.classpath == "airflow_provider_xethub.triggers.xethub.XetFileTrigger"
    assert 230 < run.message.trigger_timeout.total_seconds() <= 240


def test_a_deferrable_sensor_without_an_interval_polls_once_a_second(where, run_task):
    run = run_task(XetFileSensor, path="a.bin", **{**where, "poke_interval": 0}, deferrable=True)
    assert run.state == "deferred", run.text
    assert run.message.trigger_kwargs["poke_interval"] == 1.0


# In a deferral it is Airflow's triggerer that keeps the time, and dag.test() has none.
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_waiting_ends_at_the_timeout(hub, where, run_while, mode, airflow_db):
    run = run_while(hub, XetFileSensor, mode, path="nothing", **{**where, "timeout": 1.5})
    assert run.states == {"wait": "failed"}


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_with_soft_fail_the_timeout_skips(hub, where, run_while, mode, airflow_db):
    run = run_while(hub, XetFileSensor, mode, path="nothing", soft_fail=True, **{**where, "timeout": 1.5})
    assert run.states == {"wait": "skipped"}


@modes
@pytest.mark.parametrize("sensor", [XetFileSensor, XetRevisionSensor])
@pytest.mark.parametrize("change", [{"repo_id": "local/nothing-here"}, {"revision": "nothing-here"}], ids=str)
def test_what_does_not_exist_fails_at_once(hub, where, run_task, mode, sensor, change):
    arguments = {"path": "a"} if sensor is XetFileSensor else {}
    if mode == "reschedule" and sensor is XetRevisionSensor and not HAS_STATE:
        arguments["newer_than"] = "a" * 40
    run = run_task(sensor, **{**where, **change}, **arguments, **MODES[mode])
    assert run.is_final
    assert isinstance(run.error, XetNotFoundError)
    assert len(hub.log.requests()) == 1


@modes
def test_a_wrong_credential_fails_at_once_and_with_soft_fail_skips(where, connection, run_task, mode):
    connection(password="hf_wrong")
    assert run_task(XetFileSensor, path="a", **where, **MODES[mode]).is_final
    assert run_task(XetFileSensor, path="a", soft_fail=True, **where, **MODES[mode]).state == "skipped"
    assert run_task(XetFileSensor, path="a", never_fail=True, **where, **MODES[mode]).state == "skipped"


@modes
def test_a_branch_that_need_not_exist_yet_is_waited_for(hub, repo, where, run_while, mode, tmp_path, airflow_db):
    hub.log.clear()

    def create():
        XetHubConnection().api.create_branch(repo.repo_id, branch="next", repo_type="dataset")
        publish(repo.at("next"), tmp_path, {"a.bin": binary()})

    options = {**where, "revision": "next", "may_be_missing": "revision"}
    run = run_while(hub, XetFileSensor, mode, create, path="a.bin", **options)
    assert run.states == {"wait": "success"}
    assert run.xcoms("wait")[0]["repo"] == repo.at("next").uri


@modes
def test_the_first_commit_of_a_branch_that_did_not_exist_is_newer(hub, repo, where, run_while, mode, airflow_db):
    hub.log.clear()
    create = lambda: XetHubConnection().api.create_branch(repo.repo_id, branch="next", repo_type="dataset")  # noqa: E731
    options = {**where, "revision": "next", "may_be_missing": "revision"}
    run = run_while(hub, XetRevisionSensor, mode, create, **options)
    assert run.states == {"wait": "success"}
    assert run.xcoms("wait")[0]["repo"] == repo.at("next").uri


@modes
def test_too_many_requests_slow_it_down(hub, repo, where, run_while, mode, tmp_path, airflow_db, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    publish(repo, tmp_path, {"a.bin": binary()})
    hub.log.clear()
    hub.faults.add(Fault(".*/(paths-info|commits)/.*", times=2, status=429, headers={"Retry-After": "1"}))
    run = run_while(hub, XetFileSensor, mode, path="a.bin", **where)
    assert run.states == {"wait": "success"}
    assert hub.faults.armed()[0].acted == 2


def test_an_outage_fails_the_first_look_and_is_waited_through_later(hub, repo, where, run_task, monkeypatch, tmp_path):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    fault = Fault("POST .*/paths-info/.*", status=503, times=2)
    hub.faults.add(fault)
    assert isinstance(run_task(XetFileSensor, path="a.bin", **where).error, XetServerError)
    assert isinstance(run_task(XetFileSensor, path="a.bin", deferrable=True, **where).error, XetServerError)
    assert run_task(XetFileSensor, path="a.bin", deferrable=True, silent_fail=True, **where).state == "deferred"
    hub.faults.clear()
    hub.faults.add(Fault("POST .*/paths-info/.*", status=503, skip=1, times=2))
    hub.log.clear()

    def later():
        while len(hub.log.requests("POST .*/paths-info/.*")) < 4:
            time.sleep(0.02)
        publish(repo, tmp_path, {"a.bin": binary()})

    thread = threading.Thread(target=later)
    thread.start()
    run = run_task(XetFileSensor, path="a.bin", **where)
    thread.join()
    assert run.value["path"] == "a.bin"


def test_reschedule_waits_as_long_as_the_hub_asks(hub, where, run_task, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    hub.faults.add(Fault("POST .*/paths-info/.*", status=429, headers={"Retry-After": "3600"}))
    run = run_task(XetFileSensor, path="a.bin", mode="reschedule", **where)
    assert run.state == "up_for_reschedule"
    from datetime import datetime, timezone

    assert (run.message.reschedule_date - datetime.now(timezone.utc)).total_seconds() > 3000


def test_a_file_counts_once_it_differs_from_the_record_of_before(repo, where, run_task, tmp_path):
    (before,) = publish(repo, tmp_path / "1", {"a.bin": binary()})
    head = XetHubConnection().get_latest_commit(repo)["oid"]
    asked = [
        {"path": "a.bin", "changed_from": before["xet_hash"]},
        {"path": "a.bin", "changed_from": before["sha256"]},
        {"path": "a.bin", "changed_from": before},
        {"paths": ["a.bin"], "changed_from": [before]},
        {"patterns": "*.bin", "changed_from": [before]},
        {"path": "a.bin", "newer_than": head},
        {"patterns": ["*.bin"], "newer_than": head},
    ]
    for arguments in asked:
        assert run_task(XetFileSensor, deferrable=True, **where, **arguments).state == "deferred"
    publish(repo, tmp_path / "2", {"a.bin": binary(seed=2)})
    (now,) = XetHubConnection().get_files(repo, ["a.bin"])
    for arguments in asked:
        value = run_task(XetFileSensor, deferrable=True, **where, **arguments).value
        assert value == (now if "path" in arguments else [now])


def test_an_inline_file_that_changed_counts_too(repo, where, run_task, tmp_path):
    publish(repo, tmp_path / "1", {"a.txt": TEXT})
    (before,) = XetHubConnection().get_files(repo, ["a.txt"])
    assert run_task(XetFileSensor, path="a.txt", changed_from=before, deferrable=True, **where).state == "deferred"
    publish(repo, tmp_path / "2", {"a.txt": TEXT + b"3,4\n"})
    assert run_task(XetFileSensor, path="a.txt", changed_from=before, deferrable=True, **where).value["size"] == 12


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "a", "paths": ["b"]},
        {"paths": 7},
        {"path": "/a"},
        {"path": "a", "min_files": 2},
        {"patterns": "*", "min_files": 0},
        {"patterns": "*", "min_files": "many"},
        {"patterns": "*", "changed_from": "0" * 64},
        {"path": "a", "changed_from": "main"},
        {"path": "a", "changed_from": [1]},
        {"path": "a", "newer_than": "main"},
        {"path": "a", "may_be_missing": "file"},
        {"path": "a", "repo_type": "bucket", "newer_than": "a" * 40},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(hub, where, run_task, arguments):
    run = run_task(XetFileSensor, **{**where, **arguments})
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert not hub.log.requests()


def test_a_bucket_has_no_commits_to_wait_for(where, run_task):
    run = run_task(XetRevisionSensor, **{**where, "repo_type": "bucket"})
    assert run.is_final
    assert "it has no commits" in run.text


@pytest.mark.parametrize("given", [None, "None", "{{ none }}"])
def test_a_template_without_a_value_is_as_if_it_was_not_given(repo, where, run_task, given, tmp_path):
    (file,) = publish(repo, tmp_path, {"a.bin": binary()})
    run = run_task(XetFileSensor, path="a.bin", newer_than=given, changed_from=given, min_files="1", **where)
    assert run.value["sha256"] == file["sha256"]


@pytest.mark.skipif(not HAS_STATE, reason="Airflow remembers nothing for a task before 3.3")
def test_a_retry_goes_on_from_where_the_first_try_began(where, repo, run_task, tmp_path):
    from support.airflow_runs import ExecutionApi

    api = ExecutionApi()
    first = run_task(XetRevisionSensor, deferrable=True, api=api, **where)
    assert first.state == "deferred"
    publish(repo, tmp_path, {"a.txt": TEXT})
    newest = XetHubConnection().get_latest_commit(repo)
    again = run_task(XetRevisionSensor, deferrable=True, api=api, **where)
    assert again.value == newest
    # The task, cleared and run again, waits for the next one.
    assert run_task(XetRevisionSensor, deferrable=True, api=api, **where).state == "deferred"


def test_without_a_memory_reschedule_wants_to_know_where_to_begin(where, run_task, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.sensors.xethub._state_store", lambda _: None)
    run = run_task(XetRevisionSensor, mode="reschedule", **where)
    assert run.is_final
    assert "Give newer_than, or use deferrable=True" in run.text
    assert run_task(XetRevisionSensor, mode="reschedule", newer_than="a" * 40, **where).value


@pytest.mark.parametrize("event", [None, {}, {"status": "lost"}, "found"])
def test_an_event_of_another_version_is_an_error(where, event):
    sensor = XetFileSensor(task_id="wait", path="a", **where)
    with pytest.raises(XetProtocolError, match="same version"):
        sensor.execute_complete({}, event)


def test_every_error_comes_back_as_what_it_was():
    from airflow_provider_xethub import exceptions
    from airflow_provider_xethub.hooks.errors import fail_without_retry

    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in kinds:
        options = {"status": 429, "retry_after": 7.0} if issubclass(kind, exceptions.XetResponseError) else {}
        with pytest.raises(kind) as raised, fail_without_retry():
            raise kind("what happened", **options)
        with pytest.raises(kind, match="what happened") as back:
            events.value_of(events.failed(raised.value))
        assert type(back.value) is kind
        assert {name: getattr(back.value, name) for name in options} == options


def timed_out(sensor):
    """Resume a sensor as Airflow does when the time of its deferral is up."""
    from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

    failed = {"next_method": TRIGGER_FAIL_REPR, "next_kwargs": {"error": TriggerFailureReason.TRIGGER_TIMEOUT}}
    return sensor.resume_execution(**failed, context={})


def test_a_timeout_in_the_triggerer_is_a_timeout_of_the_sensor(where):
    with pytest.raises(AirflowSensorTimeout):
        timed_out(XetFileSensor(task_id="wait", path="a", **where))
    longer = {"execution_timeout": timedelta(days=1)}
    with pytest.raises(AirflowSensorTimeout):
        timed_out(XetFileSensor(task_id="wait", path="a", **longer, **where))
    # Airflow 3.0 fails the task here whatever soft_fail says.
    skipped = AirflowSensorTimeout if airflow.__version__.startswith("3.0.") else AirflowSkipException
    with pytest.raises(skipped):
        timed_out(XetFileSensor(task_id="wait", path="a", soft_fail=True, **where))


def test_when_the_time_is_up_a_deferred_sensor_polls_once_more_as_the_others_do(repo, where, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary()})
    sensor = XetFileSensor(task_id="wait", path="a.bin", soft_fail=True, **where)
    assert timed_out(sensor)["path"] == "a.bin"


def test_an_execution_timeout_ends_a_deferral_too_and_retries_apply(hub, repo, where, run_task, tmp_path):
    options = {**where, "path": "a.bin", "deferrable": True, "execution_timeout": timedelta(seconds=100)}
    assert 90 < run_task(XetFileSensor, **options).message.trigger_timeout.total_seconds() <= 100
    options["timeout"] = 50
    assert 40 < run_task(XetFileSensor, **options).message.trigger_timeout.total_seconds() <= 50
    options["timeout"] = 240
    publish(repo, tmp_path, {"a.bin": binary()})
    hub.log.clear()
    with pytest.raises(AirflowTaskTimeout, match="wait waited longer than its execution_timeout of 0:01:40"):
        timed_out(XetFileSensor(task_id="wait", **options))
    if not airflow.__version__.startswith("3.0."):
        with pytest.raises(AirflowSkipException):
            timed_out(XetFileSensor(task_id="wait", soft_fail=True, **options))
    assert not hub.log.requests()


def test_exponential_backoff_travels_to_the_trigger(where, run_task):
    options = {**where, "path": "a.bin", "deferrable": True}
    arguments = run_task(XetFileSensor, **options).message.trigger_kwargs
    assert not {"exponential_backoff", "max_wait"} & set(str(arguments).split("'"))
    run = run_task(XetRevisionSensor, **where, deferrable=True, exponential_backoff=True, max_wait=timedelta(minutes=5))
    assert "exponential_backoff" in str(run.message.trigger_kwargs)
    assert "300" in str(run.message.trigger_kwargs)


def test_a_task_that_pushes_nothing_pushes_no_link_either(repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary()})
    assert "return_value" in run_task(XetFileSensor, path="a.bin", **where).xcoms
    assert run_task(XetFileSensor, path="a.bin", do_xcom_push=False, **where).xcoms == {}


@pytest.mark.parametrize(
    ("kind", "raised"), [(XetNotFoundError, AirflowSkipException), (XetServerError, XetServerError)]
)
def test_with_soft_fail_a_final_error_of_the_trigger_skips_and_another_is_retried(where, kind, raised):
    sensor = XetFileSensor(task_id="wait", path="a", soft_fail=True, **where)
    with pytest.raises(raised):
        sensor.resume_execution("execute_complete", {"event": events.failed(kind("what happened"))}, {})


def test_the_default_is_that_of_airflow():
    code = "from airflow_provider_xethub.sensors.xethub import XetSensor as S; print(S(task_id='a').deferrable)"
    assert XetFileSensor(task_id="a", path="a").deferrable is False
    environment = {**os.environ, "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"
