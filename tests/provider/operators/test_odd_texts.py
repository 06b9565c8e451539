"""What the Hub says, all the way into Airflow's database: an odd text stops nothing, an odd name is refused."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
import requests

from airflow_provider_xethub.exceptions import XetInputError, XetProtocolError
from airflow_provider_xethub.operators.xethub import XetListOperator
from airflow_provider_xethub.sensors.xethub import XetRevisionSensor
from airflow_provider_xethub.triggers import xethub as triggers
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.wait import poller
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, names, publish, write
from support.trigger_runs import Triggerer, until
from xethub_local.control.faults import Fault

JSON = {"Content-Type": "application/json"}
COMMITS = "GET .*/commits/.*"
NEW = "f" * 40
TITLES = {
    "surrogate": ("cut \ud83d", "cut \ufffd"),
    "nul": ("a\0b", "a\ufffdb"),
    "object": ({"a": [1]}, ""),
    "long": ("x" * 10**5, "x" * 999 + "…"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    monkeypatch.setattr(triggers, "DELIVERY_SECONDS", 0.05)


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": 0.2}


@pytest.fixture
def odd_commit(hub, repo):
    """Lets the Hub list one commit more, which has this title."""
    path = f"/api/datasets/{repo.repo_id}/commits"
    asked = requests.get(f"{hub.url}{path}/main", headers={"Authorization": f"Bearer {hub.token()}"}, timeout=60).json()

    def add(title: object, times: int | None = None) -> None:
        page = [{"id": NEW, "title": title, "message": title, "authors": []}, *asked]
        hub.faults.add(Fault(f"GET {path}/.*", status=200, headers=JSON, body=json.dumps(page), times=times))

    return add


def watch(hub, trigger, change, ready=lambda events: events) -> Triggerer:
    """Run a trigger, let something change once it has looked twice, and stop it as soon as it said something."""

    async def run() -> Triggerer:
        triggerer = Triggerer()
        triggerer.start({"a": trigger})
        await until(lambda: len(hub.log.requests(COMMITS)) > 1)
        change()
        await until(lambda: ready(triggerer.events["a"]) or triggerer.ended)
        await triggerer.stop()
        return triggerer

    return asyncio.run(run())


@pytest.mark.parametrize("kind", TITLES)
def test_a_watcher_tells_of_a_commit_with_an_odd_title(hub, where, odd_commit, kind):
    given, title = TITLES[kind]
    told = watch(hub, XetRevisionTrigger(**where), lambda: odd_commit(given))
    assert not told.errors
    assert [(event["oid"], event["title"]) for event in told.events["a"]] == [(NEW, title)]


def test_a_watcher_waits_until_the_hub_speaks_json_again(hub, where, odd_commit, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.wait.conditions.MAX_DELAY", 0.2)

    def change():
        odd_commit(float("inf"), times=2)
        odd_commit("finite")

    told = watch(hub, XetRevisionTrigger(**where), change)
    assert [event["title"] for event in told.events["a"]] == ["finite"]


def test_a_listing_that_cannot_be_read_does_not_stop_those_who_wait_for_commits(hub, where, odd_commit):
    hub.faults.add(Fault("GET .*/tree/.*", status=200, headers=JSON, body='[{"type": "file", "path": "a\\u0000b"}]'))

    async def run() -> Triggerer:
        triggerer = Triggerer()
        triggerer.start({"files": XetFileTrigger(**where, patterns=["*"]), "commits": XetRevisionTrigger(**where)})
        await until(lambda: len(hub.log.requests(COMMITS)) > 1 and triggerer.ended)
        odd_commit("new")
        await until(lambda: triggerer.events["commits"] or triggerer.errors)
        await triggerer.stop()
        return triggerer

    told = asyncio.run(run())
    assert not told.errors
    (failed,) = told.events["files"]
    assert (failed["status"], failed["error"]) == ("failed", "XetProtocolError")
    assert "a path that is not valid Unicode" in failed["message"]
    assert [event["title"] for event in told.events["commits"]] == ["new"]


def test_something_unexpected_fails_one_trigger_and_no_other(hub, where, odd_commit, monkeypatch):
    """A fault of our own, wherever it is: those who wait for something else on the same repository go on."""
    monkeypatch.setattr("airflow_provider_xethub.xet.wait.conditions.FilesCondition.evaluate", lambda *_: 1 / 0)
    files = XetFileTrigger(**where, paths=["a"])

    async def run() -> Triggerer:
        triggerer = Triggerer()
        triggerer.start({"files": files, "commits": XetRevisionTrigger(**where)})
        await until(lambda: len(hub.log.requests(COMMITS)) > 1 and triggerer.ended)
        odd_commit("new")
        await until(lambda: triggerer.events["commits"] or triggerer.errors)
        await triggerer.stop()
        return triggerer

    told = asyncio.run(run())
    assert not told.errors
    assert "failed unexpectedly (ZeroDivisionError)" in told.events["files"][0]["message"]
    assert [event["title"] for event in told.events["commits"]] == ["new"]


def test_polling_continues_after_an_unexpected_failure(hub, where, odd_commit, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.wait.conditions.MAX_DELAY", 0.2)
    look, failures = poller.RepoState.refresh, iter(range(2))

    def fail_twice(*args):
        if hub.faults.armed() and next(failures, None) is not None:
            raise ZeroDivisionError
        return look(*args)

    monkeypatch.setattr(poller.RepoState, "refresh", fail_twice)
    told = watch(hub, XetRevisionTrigger(**where), lambda: odd_commit("new"))
    assert not told.errors
    assert [event["title"] for event in told.events["a"]] == ["new"]


def test_an_event_that_cannot_be_stored_fails_its_own_trigger(hub, where, odd_commit, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.answers.title", lambda title: title)
    told = watch(hub, XetRevisionTrigger(**where), lambda: odd_commit("cut \ud83d"))
    assert isinstance(told.errors["a"], XetProtocolError)
    assert "cannot be stored as JSON" in str(told.errors["a"])


@pytest.mark.parametrize("kind", ["surrogate", "nul"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_a_sensor_returns_can_be_stored(hub, where, run_dag, odd_commit, kind, deferrable):
    odd_commit(TITLES[kind][0])
    with new_dag() as dag:
        XetRevisionSensor(task_id="wait", newer_than="0" * 40, deferrable=deferrable, **where)
    run = run_dag(dag)
    assert run.states == {"wait": "success"}
    assert (run.xcoms("wait")[0]["oid"], run.xcoms("wait")[0]["title"]) == (NEW, TITLES[kind][1])


@pytest.mark.parametrize("message", ["a\0b", "cut \ud83d"])
@pytest.mark.parametrize("field", ["message", "description"])
def test_a_message_that_cannot_be_stored_is_refused_before_anything_is_sent(hub, repo, hook, tmp_path, message, field):
    source = write(tmp_path / "in", {"a.csv": TEXT})
    hub.log.clear()
    with pytest.raises(XetInputError, match=f"commit_{field} for {repo} contains"):
        hook.publish(source, CommitRequest(repo, (), **{field: message}))
    with pytest.raises(XetInputError, match=f"commit_{field} for {repo} contains"):
        hook.commit(CommitRequest(repo, (), delete=["a"], **{field: message}))
    assert not hub.log.requests()


def test_a_path_that_names_nothing_is_refused(hub, repo, connection, run_task, tmp_path):
    publish(repo, tmp_path, {"a.csv": TEXT})
    body = json.dumps([{"type": "file", "path": "cut \ud83d", "size": 1, "oid": "0" * 40}])
    hub.faults.add(Fault("GET .*/tree/.*", status=200, headers=JSON, body=body))
    run = run_task(XetListOperator, repo_id=repo.repo_id, repo_type="dataset")
    assert isinstance(run.error, XetProtocolError)
    assert "with a path that is not valid Unicode" in str(run.error)
    assert f"the listing of all files in {repo}" in str(run.error)


def test_a_local_name_that_is_not_utf_8_is_refused_for_good(repo, hook, tmp_path):
    odd = write(tmp_path / os.fsdecode(b"in-\xff"), {"a.bin": binary(seed="other")})
    (file,) = publish(repo, tmp_path, {"a.bin": binary()})
    for work in (
        lambda: hook.publish(odd / "a.bin", CommitRequest(repo, ()), path_in_repo="b.bin"),
        lambda: hook.publish(odd, CommitRequest(repo, ())),
        lambda: hook.download(odd / "out", [file]),
    ):
        with pytest.raises(XetInputError, match=r"in-.* is not valid UTF-8"):
            work()
    assert names(odd) == ["a.bin"]
