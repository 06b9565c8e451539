"""Triggers on pull requests and security scans, in one event loop, against a real Hub."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_xethub.exceptions import XetPullRequestClosedError, XetTriggerArgumentError, XetUnsafeFileError
from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.triggers.pull_requests import XetPullRequestTrigger
from airflow_provider_xethub.triggers.scans import XetScanTrigger
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.wait import poller
from support.builders import binary, publish, write
from support.trigger_runs import Triggerer, in_thread, until
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

PULL = "GET .*/discussions/1"
SCAN = "POST .*/paths-info/.*"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.1)


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": repo.repo_type, "poke_interval": 0.1}


@pytest.fixture
def opened(hub, repo, hook, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary()})
    opened = hook.publish(source, CommitRequest(repo, (), message="Proposed", create_pr=True))
    hub.log.clear()
    return opened


def test_all_that_wait_for_a_pull_request_share_its_poll(hub, repo, hook, opened, where):
    async def wait():
        triggerer = Triggerer()
        triggers = {number: XetPullRequestTrigger(revision="refs/pr/1", **where) for number in range(20)}
        triggerer.start(triggers)
        hub.faults.add(Fault(PULL, times=1, skip=1, status=503))
        await until(lambda: len(hub.log.requests(PULL)) > 3)
        assert len(hub.log.requests()) == len(hub.log.requests(PULL)) < 10
        assert not triggerer.fired
        merged = await in_thread(lambda: hook.merge_pull_request(repo, 1))
        await until(lambda: len(triggerer.ended) == 20)
        assert not triggerer.errors
        return merged, [value_of(events[0]) for events in triggerer.events.values()]

    merged, values = asyncio.run(wait())
    assert all(value == hook.get_latest_commit(repo) for value in values)
    assert values[0]["oid"] == merged["oid"]


def test_a_pull_request_that_is_closed_ends_the_wait(repo, hook, opened, where):
    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetPullRequestTrigger(revision="refs/pr/1", **where)})
        await in_thread(lambda: hook.close_pull_request(repo, 1))
        await until(lambda: triggerer.ended)
        value_of(triggerer.events["a"][0])

    with pytest.raises(XetPullRequestClosedError, match="closed without being merged"):
        asyncio.run(wait())


def test_scans_are_waited_for_together_with_commits(hub, repo, hook, where, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary(), "b.bin": binary(9)})
    hub.scans.set("queued", "*.bin")

    async def wait():
        triggerer = Triggerer()
        newest = hook.get_latest_commit(repo)["oid"]
        triggerer.start(
            {
                "a": XetScanTrigger(paths=["a.bin"], **where),
                "also a": XetScanTrigger(paths=["a.bin"], missing_scan="wait", **where),
                "b": XetScanTrigger(patterns=["b*"], **where),
                "missing": XetScanTrigger(paths=["missing"], **where),
                "commit": XetRevisionTrigger(once=True, newer_than=newest, **where),
            }
        )
        await until(lambda: "missing" in triggerer.ended)
        hub.log.clear()
        await until(lambda: len(hub.log.requests(SCAN)) > 5)
        heads = len(hub.log.requests("GET .*/commits/.*"))
        assert abs(len(hub.log.requests(SCAN)) - 2 * heads) <= 2  # one for both of a, one for b
        assert triggerer.fired == {"missing"}
        hub.scans.set("unsafe", "b.bin")
        hub.scans.set("safe", "a.bin")
        await until(lambda: len(triggerer.ended) == 4)
        await in_thread(lambda: publish(repo, tmp_path / "2", {"c": b"1"}))
        await until(lambda: len(triggerer.ended) == 5)
        return triggerer.events

    events = asyncio.run(wait())
    assert value_of(events["a"][0])["file_count"] == 1
    assert events["also a"] == events["a"]
    with pytest.raises(XetUnsafeFileError, match=r"b\.bin \(unsafe; av: unsafe\)"):
        value_of(events["b"][0])
    assert events["missing"][0]["error"] == "XetNotFoundError"
    assert value_of(events["commit"][0])["repo"] == repo.uri


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (XetPullRequestTrigger, {"revision": "main"}, "is not a pull request"),
        (XetPullRequestTrigger, {"revision": "refs/pr/x"}, "is not a pull request"),
        (XetPullRequestTrigger, {"revision": "refs/pr/1", "repo_type": "bucket"}, "buckets have no revisions"),
        (XetScanTrigger, {"repo_type": "bucket"}, "is a bucket: it has neither pull requests nor security scans"),
        (XetScanTrigger, {"missing_scan": "never"}, "missing_scan 'never' must be"),
        (XetScanTrigger, {"paths": ["a"], "patterns": ["b"]}, "only one of paths and patterns"),
    ],
)
def test_a_wrong_argument_is_refused(kind, arguments, message):
    with pytest.raises(XetTriggerArgumentError, match=message):
        kind(repo_id="acme/corpus", **arguments)
