"""Calls of ``huggingface_hub``: what it raises becomes an error of this provider, and no call waits for ever."""

from __future__ import annotations

import threading

import pytest
from huggingface_hub import constants

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetInputError,
    XetProtocolError,
    XetResponseError,
    XetTimeoutError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.hub.api import calls as api_calls
from airflow_provider_xethub.xet.process import threads
from xethub_local.control.faults import Fault

BRANCH = "POST .*/branch/.*"


@pytest.fixture
def branch(connection, repo):
    """Returns what creates a branch, as an example of a call."""

    def create(name="v1"):
        hook = XetHubConnection()
        api_calls.ApiCalls(hook.hub, lambda: hook.api).run(
            f"the branch {name} of {repo}",
            lambda api: api.create_branch(repo.repo_id, branch=name, repo_type=repo.repo_type),
        )

    return create


def test_a_bad_request_says_why_and_its_cause_does_not_quote_the_response(hub, branch):
    """The library's error for it is also a ValueError, as are those of unreadable responses."""
    hub.faults.add(Fault(BRANCH, status=400, body='{"error": "Bad branch name"}'))
    with pytest.raises(XetResponseError, match="The Hub says: Bad branch name") as raised:
        branch()
    assert (type(raised.value), raised.value.status) == (XetResponseError, 400)
    assert raised.value.__cause__ is None


def test_a_web_page_is_a_protocol_error(hub, hook, repo):
    hub.faults.add(Fault("GET .*/refs", status=200, headers={"Content-Type": "text/html"}, body="<html>"))
    calls = api_calls.ApiCalls(hook.hub, lambda: hook.api)
    with pytest.raises(XetProtocolError, match="Check that the host of the connection is a Hub"):
        calls.run("the refs", lambda api: api.list_repo_refs(repo.repo_id, repo_type=repo.repo_type))


def test_offline_mode_is_named(branch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(XetInputError, match=r"^HF_HUB_OFFLINE is set on this worker"):
        branch()


def test_a_closed_connection_is_retried_and_then_says_who_sent_the_request(hub, branch, monkeypatch):
    hub.faults.add(Fault(BRANCH, times=1, drop="before"))
    branch()
    assert len(hub.log.requests(BRANCH)) == 2
    hub.faults.add(Fault(BRANCH, drop="before"))
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    with pytest.raises(XetConnectionError, match="huggingface_hub sends this request"):
        branch("v2")


def test_a_call_that_hangs_ends_once_and_can_be_retried(hub, connection, branch, monkeypatch):
    monkeypatch.setattr(api_calls, "CALL_TIMEOUT", 1.0)
    connection(extra='{"timeout": 1}')
    hub.faults.add(Fault(BRANCH, endless=True))
    before = set(threading.enumerate())
    with pytest.raises(XetTimeoutError, match=r"within 1 s\. Let the task retry, .*: the branch v1 of") as raised:
        branch()
    # The library cannot stop it, and a transfer that ends later in this process must not wait for it.
    assert threads.TRANSFER not in {each.name for each in set(threading.enumerate()) - before}
    assert raised.value.retryable
    assert len(hub.log.requests(BRANCH)) <= 1
