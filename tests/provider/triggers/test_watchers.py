"""A watcher of an asset: one event for each commit."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers import xethub as triggers
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from airflow_provider_xethub.xet.hub import history
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait import poller
from support.builders import TEXT, publish
from support.trigger_runs import Store, Triggerer, in_thread, until
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

HEAD = "GET .*/commits/.*"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    monkeypatch.setattr(triggers, "DELIVERY_SECONDS", 0.05)


@pytest.fixture
def trigger(connection, repo):
    return XetRevisionTrigger(repo_id=repo.repo_id, repo_type=repo.repo_type, poke_interval=0.2)


@pytest.fixture
def commit(repo, tmp_path):
    """Makes a commit while the triggers go on, and gives its record."""
    count = iter(range(1000))

    def make():
        number = next(count)
        publish(repo, tmp_path / str(number), {f"{number}.txt": TEXT})
        return XetHubConnection().get_latest_commit(repo)

    return lambda: in_thread(make)


def test_each_commit_is_told_once_in_order_and_the_first_look_is_where_it_begins(hub, trigger, commit):
    async def watch():
        await commit()
        triggerer = Triggerer()
        triggerer.start({"a": trigger, "b": trigger})
        await until(lambda: len(hub.log.requests(HEAD)) > 2)
        assert not triggerer.fired
        # No look in between: the poll is paused by the Hub.
        hub.faults.add(fault := Fault(HEAD, status=503))
        begin, made = None, []
        for _ in range(3):
            hub.faults.clear()
            made.append(await commit())
            hub.faults.add(fault)
        hub.faults.clear()
        begin = made[0]
        await until(lambda: all(len(events) >= 3 for events in triggerer.events.values()))
        made.append(await commit())
        await until(lambda: all(len(events) >= 4 for events in triggerer.events.values()))
        await asyncio.sleep(0.8)
        await triggerer.stop()
        assert begin["oid"] == triggerer.events["a"][1]["previous"]
        return made, triggerer.events

    made, events = asyncio.run(watch())
    for told in events.values():
        assert [{name: event[name] for name in made[0]} for event in told] == made
        assert [event["previous"] for event in told[1:]] == [each["oid"] for each in made[:-1]]


def test_a_restart_goes_on_where_it_was(trigger, commit, repo):
    store = Store()

    async def watch():
        triggerer = Triggerer()
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: store.values)
        first = await commit()
        await until(lambda: first["oid"] in store.values.values())
        await triggerer.stop()
        missed = [await commit(), await commit()]
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: len(triggerer.events["a"]) == 3)
        await until(lambda: missed[-1]["oid"] in store.values.values())
        await triggerer.stop()
        triggerer.start({"a": trigger}, store=store)
        last = await commit()
        await until(lambda: last["oid"] in store.values.values())
        await triggerer.stop()
        return [first, *missed, last], triggerer.events["a"]

    made, told = asyncio.run(watch())
    assert [event["oid"] for event in told] == [each["oid"] for each in made]
    assert list(store.values) == [f"xethub {repo.uri}"]


def test_a_commit_is_remembered_only_after_airflow_had_time_to_store_its_event(trigger, commit, monkeypatch):
    monkeypatch.setattr(triggers, "DELIVERY_SECONDS", 3600)
    store = Store()

    async def watch():
        triggerer = Triggerer()
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: store.values)
        before = dict(store.values)
        await commit()
        await until(lambda: triggerer.fired)
        assert store.values == before
        await triggerer.stop()
        # As after a crash: rather told twice than never.
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: len(triggerer.events["a"]) == 2)
        await triggerer.stop()
        return triggerer.events["a"]

    first, second = asyncio.run(watch())
    assert first == second


def test_while_airflow_does_not_answer_nothing_is_remembered(trigger, commit):
    """Its process that stores events takes one message after the other: an answer shows that it is not behind."""

    class Busy(Store):
        async def aget(self, key, default=None):
            await free.wait()
            return await super().aget(key, default)

    async def watch():
        nonlocal free
        free = asyncio.Event()
        free.set()
        store = Busy()
        triggerer = Triggerer()
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: store.values)
        before = dict(store.values)
        free.clear()
        made = await commit()
        await until(lambda: triggerer.fired)
        await asyncio.sleep(1)
        assert store.values == before
        free.set()
        await until(lambda: made["oid"] in store.values.values())
        await triggerer.stop()

    free = None
    asyncio.run(watch())


@pytest.mark.parametrize("failures", [2, 5])
def test_a_state_that_cannot_be_stored_is_stored_later_and_ends_no_watch(trigger, commit, failures):
    class Forgetful(Store):
        async def aget(self, key, default=None):
            return self.values.get(key, default)

        async def aset(self, key, value):
            if self.values and self.fails:
                raise self.fails.pop()
            self.values[key] = value

    async def watch():
        store = Forgetful()
        store.fails = [RuntimeError("the API server restarts")] * failures
        triggerer = Triggerer()
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: store.values)
        made = [await commit()]
        if failures == 2:
            await until(lambda: made[0]["oid"] in store.values.values())
        else:
            await until(lambda: not store.fails)
        made.append(await commit())
        await until(lambda: made[1]["oid"] in store.values.values())
        await triggerer.stop()
        assert [event["oid"] for event in triggerer.events["a"]] == [each["oid"] for each in made]

    asyncio.run(watch())


def test_several_assets_on_one_watcher_have_no_state_and_are_told_of_commits_all_the_same(hub, trigger, commit):
    class Shared(Store):
        async def aget(self, key, default=None):
            raise ValueError("Task has 2 concrete inlets and outlets")

        aset = aget

    async def watch():
        triggerer = Triggerer()
        triggerer.start({"a": trigger}, store=Shared())
        await until(lambda: len(hub.log.requests(HEAD)) > 2)
        made = await commit()
        await until(lambda: triggerer.fired)
        assert not triggerer.errors
        await triggerer.stop()
        return made, triggerer.events["a"]

    made, told = asyncio.run(watch())
    assert [event["oid"] for event in told] == [made["oid"]]


def test_a_state_that_cannot_be_read_now_is_read_later(trigger, commit):
    store = Store()

    async def watch():
        first = await commit()
        store.values[trigger._key] = first["oid"]
        missed = await commit()
        store.fails = [RuntimeError("the API server restarts")] * 2
        triggerer = Triggerer()
        triggerer.start({"a": trigger}, store=store)
        await until(lambda: triggerer.fired)
        await triggerer.stop()
        return missed, triggerer.events["a"]

    missed, told = asyncio.run(watch())
    assert [event["oid"] for event in told] == [missed["oid"]]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_watcher_outlasts_what_no_retry_can_mend(hub, trigger, commit, status, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.wait.conditions.MAX_DELAY", 0.2)

    async def watch():
        triggerer = Triggerer()
        triggerer.start({"a": trigger})
        await until(lambda: len(hub.log.requests(HEAD)) > 1)
        hub.faults.add(Fault(HEAD, status=status))
        await until(lambda: hub.faults.armed()[0].acted > 4)
        assert not triggerer.ended
        hub.faults.clear()
        made = await commit()
        await until(lambda: triggerer.fired)
        await triggerer.stop()
        return made, triggerer.events["a"]

    made, told = asyncio.run(watch())
    assert [event["oid"] for event in told] == [made["oid"]]


def test_where_the_history_was_rewritten_the_newest_commit_is_told(hub, trigger, commit, repo):
    async def watch():
        await commit()
        triggerer = Triggerer()
        triggerer.start({"a": trigger})
        await until(lambda: len(hub.log.requests(HEAD)) > 1)
        api = XetHubConnection().api
        await in_thread(lambda: api.super_squash_history(repo.repo_id, repo_type="dataset"))
        await until(lambda: triggerer.fired)
        await asyncio.sleep(0.6)
        await triggerer.stop()
        return triggerer.events["a"]

    (told,) = asyncio.run(watch())
    assert told["oid"] == XetHubConnection().get_latest_commit(repo)["oid"]


def test_a_branch_that_appears_begins_a_watch(hub, connection, repo, commit, tmp_path):
    trigger = XetRevisionTrigger(repo_id=repo.repo_id, repo_type="dataset", revision="next", poke_interval=0.2)

    async def watch():
        triggerer = Triggerer()
        triggerer.start({"a": trigger})
        await until(lambda: len(hub.log.requests(HEAD)) > 2)
        hub.log.clear()
        api = XetHubConnection().api
        await in_thread(lambda: api.create_branch(repo.repo_id, branch="next", repo_type="dataset"))
        await until(lambda: [each for each in hub.log.requests(HEAD) if each.status == 200])
        await asyncio.sleep(0.5)
        await in_thread(lambda: publish(Repo(repo.repo_id, "dataset", "next"), tmp_path, {"a.txt": TEXT}))
        await until(lambda: triggerer.fired)
        await triggerer.stop()
        return triggerer.events["a"]

    assert len(asyncio.run(watch())) == 1


def test_the_history_is_read_page_by_page_back_to_what_is_known(repo, hook, tmp_path, hub):
    begin = hook.get_latest_commit(repo)
    for number in range(60):
        hook.api.upload_file(
            path_or_fileobj=b"%d" % number, path_in_repo="a.txt", repo_id=repo.repo_id, repo_type="dataset"
        )
    found = history.commits_until(hook.hub, repo, {begin["oid"]})
    assert len(found) == 61
    assert found[-1]["oid"] == begin["oid"]
    assert found[0] == hook.get_latest_commit(repo)
    assert len(history.commits_until(hook.hub, repo, {"a" * 40}, limit=55)) == 55
