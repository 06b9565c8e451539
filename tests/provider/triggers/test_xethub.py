"""Triggers in one event loop, against a real Hub."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_xethub.exceptions import XetNotFoundError, XetUnauthorizedError
from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers import xethub as triggers
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait import poller
from support.builders import TEXT, binary, publish
from support.trigger_runs import TRIGGERS, Triggerer, in_thread, until
from xethub_local.control.faults import Fault
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]

HEAD = "GET .*/commits/.*"
PATHS = "POST .*/paths-info/.*"
TREE = "GET .*/tree/.*"


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: every request counts here, and clients that other tests stopped may still finish theirs."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    monkeypatch.setattr(triggers, "DELIVERY_SECONDS", 0.05)


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": repo.repo_type, "poke_interval": 0.2}


def head(repo: Repo) -> str:
    return XetHubConnection().get_latest_commit(repo)["oid"]


def test_no_trigger_carries_a_token(connection):
    for trigger in TRIGGERS:
        assert not [name for name in trigger.serialize()[1] if "token" in name or "password" in name]


def test_a_file_that_arrives_is_told_with_its_record(hub, repo, where, tmp_path):
    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["d/a.bin"], **where)})
        await until(lambda: len(hub.log.requests(HEAD)) > 2)
        assert not triggerer.fired
        await in_thread(lambda: publish(repo, tmp_path, {"d/a.bin": binary()}))
        await until(lambda: triggerer.ended)
        return value_of(triggerer.events["a"][0])

    assert asyncio.run(wait()) == XetHubConnection().get_files(repo, ["d/a.bin"])


@pytest.mark.airflow_independent
def test_nothing_is_asked_for_again_until_the_repository_has_a_commit(hub, repo, where, tmp_path):
    async def wait():
        triggerer = Triggerer()
        triggerer.start(
            {
                "path": XetFileTrigger(paths=["a"], **where),
                "paths": XetFileTrigger(paths=["b", "c"], **where),
                "pattern": XetFileTrigger(patterns=["d*"], **where),
            }
        )
        await until(lambda: len(hub.log.requests(HEAD)) > 5)
        assert len(hub.log.requests(PATHS)) + len(hub.log.requests(TREE)) <= 2
        hub.log.clear()
        await until(lambda: len(hub.log.requests(HEAD)) > 5)
        assert {each.route for each in hub.log.requests()} == {hub.log.requests(HEAD)[0].route}
        await triggerer.stop()
        assert not poller._pollers[asyncio.get_running_loop()]

    asyncio.run(wait())


@pytest.mark.airflow_independent
def test_the_fastest_sets_the_pace_and_it_slows_down_when_that_one_leaves(hub, repo, where):
    async def wait():
        triggerer = Triggerer()
        triggerer.start({"slow": XetFileTrigger(paths=["a"], **{**where, "poke_interval": 3600})})
        await until(lambda: hub.log.requests(HEAD))
        triggerer.start({"fast": XetFileTrigger(paths=["a"], **where)})
        await until(lambda: len(hub.log.requests(HEAD)) > 4)
        await triggerer.stop(["fast"])
        await asyncio.sleep(0.5)
        before = len(hub.log.requests(HEAD))
        await asyncio.sleep(1)
        assert len(hub.log.requests(HEAD)) == before
        await triggerer.stop()

    asyncio.run(wait())


def test_a_file_that_was_there_before_counts_once_it_has_changed(repo, where, tmp_path):
    (before,) = publish(repo, tmp_path / "1", {"a.bin": binary()})

    async def wait():
        triggerer = Triggerer()
        known = {"a.bin": [before["xet_hash"]]}
        triggerer.start(
            {
                "sha": XetFileTrigger(paths=["a.bin"], known={"a.bin": [before["sha256"]]}, **where),
                "xet": XetFileTrigger(paths=["a.bin"], known=known, **where),
                "new": XetFileTrigger(paths=["a.bin"], newer_than=head(repo), **where),
                "all": XetFileTrigger(patterns=["*.bin"], newer_than=head(repo), **where),
                "any": XetFileTrigger(paths=["a.bin"], **where),
            }
        )
        await until(lambda: "any" in triggerer.ended)
        await in_thread(lambda: publish(repo, tmp_path / "2", {"other.txt": TEXT}))
        await asyncio.sleep(0.8)
        assert triggerer.fired == {"any"}
        await in_thread(lambda: publish(repo, tmp_path / "3", {"a.bin": binary(seed=1)}))
        await until(lambda: len(triggerer.ended) == 5)
        return {name: value_of(events[0]) for name, events in triggerer.events.items()}

    found = asyncio.run(wait())
    assert found.pop("any")[0]["xet_hash"] == before["xet_hash"]
    assert {file["xet_hash"] == before["xet_hash"] for files in found.values() for file in files} == {False}


def test_a_commit_that_does_not_exist_ends_only_the_one_that_named_it(hub, repo, where):
    async def wait():
        triggerer = Triggerer()
        triggerer.start(
            {
                "wrong": XetFileTrigger(paths=["a"], newer_than="a" * 40, **where),
                "right": XetFileTrigger(paths=["a"], **where),
            }
        )
        await until(lambda: "wrong" in triggerer.ended)
        seen = len(hub.log.requests(HEAD))
        await until(lambda: len(hub.log.requests(HEAD)) > seen + 2)
        assert triggerer.fired == {"wrong"}
        await triggerer.stop()
        return triggerer.events["wrong"][0]

    with pytest.raises(XetNotFoundError, match="Revision not found"):
        value_of(asyncio.run(wait()))


@pytest.mark.parametrize("change", [{"repo_id": "local/not-there-yet"}, {"revision": "not-there-yet"}])
def test_what_does_not_exist_is_told_at_once_and_an_option_waits_for_it(hub, repo, where, change, tmp_path):
    where = {**where, **change}
    missing = Repo(where["repo_id"], "dataset", where.get("revision", "main"))

    async def wait():
        triggerer = Triggerer()
        waits = {"revision": "revision", "repo_id": "repo"}[next(iter(change))]
        triggerer.start(
            {
                "file": XetFileTrigger(paths=["a.bin"], **where),
                "commit": XetRevisionTrigger(newer_than="a" * 40, once=True, **where),
                "patient": XetFileTrigger(paths=["a.bin"], may_be_missing=waits, **where),
            }
        )
        await until(lambda: len(triggerer.ended) == 2)
        assert triggerer.fired == {"file", "commit"}
        for name in triggerer.fired:
            with pytest.raises(XetNotFoundError, match="not-there-yet"):
                value_of(triggerer.events[name][0])

        def create():
            if "repo_id" in change:
                hub.create_repo("local/not-there-yet", "dataset")
            else:
                XetHubConnection().api.create_branch(repo.repo_id, branch="not-there-yet", repo_type="dataset")
            publish(missing, tmp_path, {"a.bin": binary()})

        await in_thread(create)
        await until(lambda: "patient" in triggerer.ended)
        return value_of(triggerer.events["patient"][0])

    assert [file["path"] for file in asyncio.run(wait())] == ["a.bin"]


def test_a_wrong_credential_is_told_at_once(where, connection):
    connection(password="hf_wrong")

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["a"], **where)})
        await until(lambda: triggerer.ended)
        return triggerer.events["a"][0]

    event = asyncio.run(wait())
    assert "hf_wrong" not in json.dumps(event)
    with pytest.raises(XetUnauthorizedError, match="missing, wrong or expired"):
        value_of(event)


def test_a_connection_that_cannot_be_read_for_a_while_is_waited_for(
    repo, where, connection, disconnect, tmp_path, caplog
):
    publish(repo, tmp_path, {"a.bin": binary()})
    disconnect()

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: "failed (2 in a row)" in caplog.text)
        assert not triggerer.ended
        connection()
        await until(lambda: triggerer.ended)
        return value_of(triggerer.events["a"][0])

    assert asyncio.run(wait())[0]["path"] == "a.bin"
    assert "Airflow reports the same while a secrets backend or its API server is unavailable" in caplog.text


def test_a_credential_that_was_replaced_is_taken_up(hub, repo, where, connection, tmp_path):
    old = hub.token("read")
    connection(password=old)

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: len(hub.log.requests(HEAD)) > 1)
        connection()
        hub.faults.add(Fault(HEAD, status=401, times=1))
        await in_thread(lambda: publish(repo, tmp_path, {"a.bin": binary()}))
        await until(lambda: triggerer.ended)
        return value_of(triggerer.events["a"][0])

    assert asyncio.run(wait())[0]["path"] == "a.bin"


@pytest.mark.airflow_independent
@pytest.mark.parametrize("fault", [{"status": 503}, {"drop": True}, {"status": 429}], ids=str)
def test_outages_and_rate_limits_are_waited_through(hub, repo, where, fault, tmp_path, caplog, monkeypatch):
    told = []
    monkeypatch.setattr(triggers._XetTrigger, "_log_status", lambda _, status: told.append(status))

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: len(hub.log.requests(HEAD)) > 1)
        hub.faults.add(Fault(HEAD, times=3, **fault))
        await until(lambda: hub.faults.armed()[0].acted == 3)
        assert not triggerer.fired
        await in_thread(lambda: publish(repo, tmp_path, {"a.bin": binary()}))
        await until(lambda: triggerer.ended)
        return value_of(triggerer.events["a"][0])

    caplog.set_level("INFO")
    assert asyncio.run(wait())[0]["path"] == "a.bin"
    assert "failed (1 in a row)" in caplog.text
    failure, recovery = told
    assert getattr(failure.error, "status", None) == fault.get("status")
    assert recovery == poller.PollRecovery()


def test_a_rate_limit_is_waited_for_as_long_as_the_hub_asks(hub, repo, where):
    async def wait():
        triggerer = Triggerer()
        hub.faults.add(Fault(HEAD, times=1, status=429, headers={"Retry-After": "3600"}))
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: hub.log.requests(HEAD))
        await asyncio.sleep(1.2)
        assert not triggerer.fired
        assert len(hub.log.requests(HEAD)) == 1
        await triggerer.stop()

    asyncio.run(wait())


def test_a_repository_that_fails_holds_no_other_up(hub, make_repo, where, connection, tmp_path):
    other = make_repo()
    hub.faults.add(Fault(f"GET .*{where['repo_id']}/commits/.*", delay=20))

    async def wait():
        triggerer = Triggerer()
        triggerer.start({("slow", i): XetFileTrigger(paths=["a.bin"], **where) for i in range(3)})
        here = {**where, "repo_id": other.repo_id}
        triggerer.start({"quick": XetFileTrigger(paths=["a.bin"], **here)})
        await in_thread(lambda: publish(other, tmp_path, {"a.bin": binary()}))
        await until(lambda: "quick" in triggerer.ended)
        assert triggerer.fired == {"quick"}
        await triggerer.stop()

    asyncio.run(wait())


def test_a_bug_in_the_poll_leaves_nobody_waiting(repo, where, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.wait.conditions.RepoState.refresh", lambda *_: 1 / 0)

    async def wait():
        triggerer = Triggerer()
        triggerer.start({i: XetFileTrigger(paths=["a"], **where) for i in range(5)})
        await until(lambda: len(triggerer.ended) == 5)
        assert not triggerer.errors
        messages = {event["message"] for (event,) in triggerer.events.values()}
        assert [f"The poll of {repo} failed unexpectedly (ZeroDivisionError)" in each for each in messages] == [True]
        assert not poller._pollers[asyncio.get_running_loop()]

    asyncio.run(wait())


def test_the_next_commit_is_told_to_a_sensor(repo, where, tmp_path):
    begin = head(repo)

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"given": XetRevisionTrigger(newer_than=begin, once=True, **where)})
        triggerer.start({"first look": XetRevisionTrigger(once=True, **where)})
        await asyncio.sleep(1)
        assert not triggerer.fired
        await in_thread(lambda: publish(repo, tmp_path, {"a.bin": binary()}))
        await until(lambda: len(triggerer.ended) == 2)
        return [value_of(events[0]) for events in triggerer.events.values()]

    found = asyncio.run(wait())
    assert found == [XetHubConnection().get_latest_commit(repo)] * 2
    assert found[0]["oid"] != begin
