"""Waiting until a pull request is merged."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetPullRequestClosedError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.sensors.pull_requests import XetPullRequestSensor
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import binary, write

pytestmark = pytest.mark.airflow

POLL = "GET .*/discussions/1"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": 0.1, "timeout": 30}


@pytest.fixture
def opened(repo, hook, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary()})
    return hook.publish(source, CommitRequest(repo, (), message="Proposed", create_pr=True))


def after_two_polls(hub, work):
    def later():
        while len(hub.log.requests(POLL)) < 2:
            time.sleep(0.02)
        work()

    thread = threading.Thread(target=later)
    thread.start()
    return thread


def test_a_sensor_waits_for_the_merge_and_returns_its_commit(hub, repo, opened, where, run_task):
    thread = after_two_polls(hub, lambda: XetHubConnection().merge_pull_request(repo, 1))
    run = run_task(XetPullRequestSensor, pull_request=opened["pull_request"], **where)
    thread.join()
    assert run.value == XetHubConnection().get_latest_commit(repo)
    assert run.value["title"] == "Proposed (#1)"
    assert run.xcoms["_link_XetHubLink"] == run.value["url"]


def test_a_pull_request_that_is_closed_fails_the_task(hub, repo, opened, where, run_task):
    thread = after_two_polls(hub, lambda: XetHubConnection().close_pull_request(repo, 1))
    run = run_task(XetPullRequestSensor, revision="refs/pr/1", **where)
    thread.join()
    assert run.is_final
    assert isinstance(run.error, XetPullRequestClosedError)
    assert run.text.startswith(f"Pull request 1 of {repo} was closed without being merged. Reopen it at ")


@pytest.mark.parametrize("outcome", ["merged", "closed"])
def test_a_deferred_sensor_gives_what_the_others_give(repo, opened, where, run_task, hook, outcome):
    arguments = {"pull_request": opened["pull_request_number"], "deferrable": True, **where}
    first = run_task(XetPullRequestSensor, **arguments)
    assert first.state == "deferred"
    assert first.message.classpath == "airflow_provider_xethub.triggers.pull_requests.XetPullRequestTrigger"
    assert first.xcoms["_link_XetHubLink"] == opened["pull_request"]
    if outcome == "merged":
        merged = hook.merge_pull_request(repo, 1)
        assert run_task(XetPullRequestSensor, **arguments).value["oid"] == merged["oid"]
    else:
        hook.close_pull_request(repo, 1)
        assert isinstance(run_task(XetPullRequestSensor, **arguments).error, XetPullRequestClosedError)


def test_a_wrong_pull_request_fails_at_once(hub, repo, where, run_task, make_repo):
    assert isinstance(run_task(XetPullRequestSensor, pull_request=5, **where).error, XetNotFoundError)
    hub.log.clear()
    run = run_task(XetPullRequestSensor, pull_request="{{ none }}", **where)
    assert isinstance(run.error, XetInputError)
    assert "pull_request is empty" in run.text
    assert isinstance(run_task(XetPullRequestSensor, revision="refs/pr/x", **where).error, XetInputError)
    assert not hub.log.requests()


@pytest.mark.parametrize("deferrable", [False, True])
def test_nothing_to_wait_for_can_be_skipped(where, run_task, deferrable):
    run = run_task(XetPullRequestSensor, pull_request="{{ none }}", on_empty="skip", deferrable=deferrable, **where)
    assert run.state == "skipped"
