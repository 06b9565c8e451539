from __future__ import annotations

import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetServerError, XetUnauthorizedError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.xet.hub import client as hub_module
from support.builders import TEXT, binary, names, publish
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def test_a_sensor_in_poke_mode_waits_until_the_file_is_there(hub, repo, where, run_task, tmp_path):
    def later():
        while len(hub.log.requests("POST .*/paths-info/main")) < 2:
            time.sleep(0.02)
        publish(repo, tmp_path, {"d/a.bin": binary()})

    thread = threading.Thread(target=later)
    thread.start()
    run = run_task(XetFileSensor, path="d/a.bin", poke_interval=0.1, timeout=20, **where)
    thread.join()
    assert run.value["path"] == "d/a.bin"
    assert run.value["repo"] == repo.uri
    assert len(run.value["xet_hash"]) == 64
    assert len(hub.log.requests("POST .*/paths-info/main")) >= 3


def test_a_sensor_in_reschedule_mode_gives_its_place_up_between_two_looks(hub, repo, where, run_task, tmp_path):
    arguments = {"path": "a.bin", "mode": "reschedule", "poke_interval": 60, **where}
    first = run_task(XetFileSensor, **arguments)
    assert first.state == "up_for_reschedule"
    assert len(hub.log.requests()) == 1
    publish(repo, tmp_path, {"a.bin": binary()})
    again = run_task(XetFileSensor, **arguments)
    assert again.value["path"] == "a.bin"


def test_a_sensor_returns_all_files_that_match(repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"d/a.bin": binary(), "d/b.csv": TEXT, "c.bin": binary(9, 1)})
    run = run_task(XetFileSensor, patterns=["d/*", "nothing"], **where)
    assert [file["path"] for file in run.value] == ["d/a.bin", "d/b.csv"]


@pytest.mark.parametrize("wanted", [{"path": "d/a.bin"}, {"patterns": "d/*"}])
def test_what_a_sensor_returns_can_be_downloaded(repo, where, run_task, tmp_path, wanted):
    publish(repo, tmp_path / "before", {"d/a.bin": binary()})
    found = run_task(XetFileSensor, **wanted, **where).value
    run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=found).value  # noqa: B018
    assert names(tmp_path / "out") == ["d/a.bin"]


def test_a_sensor_that_waits_too_long_says_so(where, run_task):
    run = run_task(XetFileSensor, path="nothing", poke_interval=0.05, timeout=0.2, **where)
    assert run.is_final
    assert isinstance(run.error, AirflowSensorTimeout)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("change", [{"repo_id": "local/nothing"}, {"revision": "nothing"}])
def test_a_repository_or_revision_that_does_not_exist_fails_at_once(hub, where, run_task, mode, change):
    started = time.monotonic()
    run = run_task(XetFileSensor, path="a", mode=mode, poke_interval=60, timeout=3600, **{**where, **change})
    assert run.is_final
    assert isinstance(run.error, XetNotFoundError)
    assert "nothing" in run.text
    assert len(hub.log.requests()) == 1
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("wanted", [{}, {"path": "a", "patterns": "b"}])
def test_a_sensor_wants_either_path_or_patterns(hub, where, run_task, wanted):
    run = run_task(XetFileSensor, **wanted, **where)
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert "task: give either path, paths or patterns" in run.text
    assert not hub.log.requests()


def test_a_folder_is_not_the_file_waited_for(repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"d/a.bin": binary()})
    run = run_task(XetFileSensor, path="d", mode="reschedule", poke_interval=60, **where)
    assert run.state == "up_for_reschedule"


def test_a_hub_with_a_problem_lets_the_sensor_retry(hub, where, run_task, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    hub.faults.add(Fault("POST .*/paths-info/main", status=503))
    run = run_task(XetFileSensor, path="a", **where)
    assert run.state == "up_for_retry"
    assert isinstance(run.error, XetServerError)


def test_a_sensor_without_a_connection_says_how_to_create_it(hub, where, run_task, disconnect):
    disconnect()
    run = run_task(XetFileSensor, path="a", **where)
    assert run.state == "up_for_retry"
    assert "airflow connections import connections.json" in run.text


def test_a_sensor_of_ones_own_waits_and_fails_at_once_with_the_hook(hub, repo, where, connection, tmp_path):
    from airflow.sdk import PokeReturnValue, task

    from support.airflow_runs import new_dag, run_one

    with new_dag():

        @task.sensor(poke_interval=60, mode="reschedule")
        def enough(least: int) -> PokeReturnValue:
            hook = XetHubConnection()
            files = hook.list_files(hook.repo(repo.repo_id, "dataset"), patterns="*.bin")
            return PokeReturnValue(len(files) >= least, files)

        wait = enough(2).operator
    wait.retries = 2
    publish(repo, tmp_path / "1", {"a.bin": binary()})
    assert run_one(wait).state == "up_for_reschedule"
    publish(repo, tmp_path / "2", {"b.bin": binary(seed=1)})
    assert [file["path"] for file in run_one(wait).value] == ["a.bin", "b.bin"]
    connection(password="hf_wrong")
    run = run_one(wait)
    assert run.is_final
    assert isinstance(run.error, XetUnauthorizedError)
