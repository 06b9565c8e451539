"""Many that wait at once: how they come back after too many requests, and what they leave behind at their end."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_xethub.exceptions import XetRateLimitError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers import xethub as triggers
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from airflow_provider_xethub.xet.wait import poller
from airflow_provider_xethub.xet.wait.conditions import delay_after_failure, requested_delay
from support.builders import TEXT, binary, publish
from support.trigger_runs import Triggerer, again, in_thread, until
from xethub_local.control.faults import Fault
from xethub_local.server import LocalHub

HEAD = "GET .*/commits/.*"


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: every request counts here."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    monkeypatch.setattr(triggers, "DELIVERY_SECONDS", 0.05)


def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": repo.repo_type, "poke_interval": 0.2}


@pytest.mark.parametrize("header", ["Retry-After", "RateLimit"])
def test_those_who_are_told_to_wait_do_not_all_come_back_at_the_same_moment(hub, make_repo, connection, header):
    repos, pauses = [make_repo() for _ in range(12)], []
    value = {"Retry-After": "100", "RateLimit": '"api";r=0;t=100'}[header]

    async def wait():
        hub.faults.add(Fault(HEAD, status=429, headers={header: value}))
        triggerer = Triggerer()
        triggerer.start({repo.repo_id: XetFileTrigger(paths=["a"], **where(repo)) for repo in repos})
        await until(lambda: len(pauses) == len(repos))
        # None of them looks again meanwhile.
        await asyncio.sleep(0.6)
        assert len(hub.log.requests(HEAD)) == len(repos)
        assert not triggerer.fired
        await triggerer.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triggers._XetTrigger, "_log_status", lambda _, failure: pauses.append(failure.seconds))
        asyncio.run(wait())
    assert all(100 <= seconds <= 120 for seconds in pauses)
    assert len(set(pauses)) == len(pauses)


def test_without_a_word_of_the_hub_too_many_requests_slow_down_more_each_time(hub, repo, connection):
    told = []

    async def wait():
        hub.faults.add(Fault(HEAD, status=429))
        triggerer = Triggerer()
        triggerer.start({i: XetFileTrigger(paths=["a"], **where(repo)) for i in range(50)})
        await until(lambda: len(told) == 4)
        assert len(hub.log.requests(HEAD)) == 4
        assert not triggerer.fired
        await triggerer.stop()

    with pytest.MonkeyPatch.context() as patch:
        real = poller.delay_after_failure
        patch.setattr(poller, "delay_after_failure", lambda *given: told.append(real(*given)) or told[-1])
        asyncio.run(wait())
    assert told[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])


def test_a_hub_that_asks_for_years_is_looked_at_after_an_hour():
    error = XetRateLimitError("too many", service="Hub", status=429, retry_after=1e9)
    assert 3600 <= requested_delay(error) <= 3600 * 1.2
    assert 3600 <= delay_after_failure(error, 1, 60.0) <= 3600 * 1.2
    assert delay_after_failure(error, 1, 86400.0) == 86400
    at_once = XetRateLimitError("too many", service="Hub", status=429, retry_after=0.0)
    assert [delay_after_failure(at_once, failures, 60.0) for failures in (1, 5)] == [60, 60]


def test_a_watcher_that_is_ended_between_two_events_leaves_no_poll_behind(hub, repo, connection, tmp_path):
    """As Airflow ends it: the task that takes its events is cancelled while it does something else."""
    begin = XetHubConnection().get_latest_commit(repo)["oid"]
    publish(repo, tmp_path / "1", {"1.txt": TEXT})
    publish(repo, tmp_path / "2", {"2.txt": TEXT})

    async def watch():
        got, trigger = [], again(XetRevisionTrigger(newer_than=begin, **where(repo)))

        async def take():
            try:
                async for event in trigger.run():
                    got.append(event)
                    await asyncio.sleep(3600)
            finally:
                await trigger.cleanup()

        task = asyncio.create_task(take())
        await until(lambda: got)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
        await until(lambda: not poller._pollers[asyncio.get_running_loop()])
        seen = len(hub.log.requests(HEAD))
        await asyncio.sleep(1)
        assert len(hub.log.requests(HEAD)) == seen
        assert len(got) == 1

    asyncio.run(watch())


def test_an_outage_of_the_network_is_waited_through_by_all(hub, make_repo, connection, tmp_path):
    repos = [make_repo() for _ in range(5)]

    async def wait():
        triggerer = Triggerer()
        triggerer.start(
            {(repo.repo_id, i): XetFileTrigger(paths=[f"{i}.bin"], **where(repo)) for repo in repos for i in range(20)}
        )
        await until(lambda: len(hub.log.requests(HEAD)) > 2 * len(repos))
        hub.faults.add(fault := Fault(".*/api/.*", drop=True))
        await until(lambda: hub.faults.acted(fault) > 3 * len(repos))
        assert not triggerer.fired
        hub.faults.clear()
        await in_thread(lambda: publish(repos[3], tmp_path, {"7.bin": binary(), "8.bin": binary(seed=8)}))
        await until(lambda: len(triggerer.ended) == 2)
        seen = len(hub.log.requests(HEAD))
        await until(lambda: len(hub.log.requests(HEAD)) > seen + 2 * len(repos))
        assert triggerer.fired == triggerer.ended == {(repos[3].repo_id, 7), (repos[3].repo_id, 8)}
        assert not triggerer.errors
        await triggerer.stop()
        return triggerer.events

    assert "hf_" not in json.dumps(asyncio.run(wait()).popitem())
