"""Merging and closing a pull request that publishing opened, whatever became of it meanwhile."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetServerError,
    XetTimeoutError,
)
from airflow_provider_xethub.xet.hub import pull_requests as on_the_hub
from airflow_provider_xethub.xet.publish import pull_requests
from airflow_provider_xethub.xet.repo import Repo

REPO = Repo("acme/m", revision="refs/pr/7")
OPEN = SimpleNamespace(number=7, status="open", base="main", record={"conflicts": False})
MERGED = SimpleNamespace(number=7, status="merged", base="main", record={"conflicts": False})
CONFLICT = SimpleNamespace(
    number=7,
    status="open",
    base="main",
    record={"conflicts": ["a.txt"], "base": "main", "url": "https://hub.example/7"},
)


class Requests:
    """A Hub on which a pull request has these states, one after the other, and whose answer to a request may fail."""

    timeout = 5.0

    def __init__(self, error=None):
        self.error = error
        self.sent = []

    def request(self, method, path, *, about, **options):
        self.sent.append((method, path, about, options))
        if self.error:
            raise self.error

    json = request


@pytest.fixture
def states(monkeypatch):
    """The states of the pull request that the Hub reports, the last one from then on."""
    left = []

    def get(hub, repo, number):
        assert (type(hub), repo, number) == (Requests, REPO, 7)
        return left.pop(0) if len(left) > 1 else left[0]

    def merge_commit(hub, found):
        assert (type(hub), found) == (Requests, MERGED)
        return {"oid": "merged"}

    monkeypatch.setattr(on_the_hub, "get", get)
    monkeypatch.setattr(on_the_hub, "merge_commit", merge_commit)
    return left


def test_an_open_pull_request_is_merged_with_one_request(states, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.MAX_TRIES", 1)
    states += [OPEN, MERGED]
    hub = Requests()
    assert pull_requests.merge(hub, REPO, 7) == {"oid": "merged"}
    [(method, path, about, options)] = hub.sent
    assert (method, path) == ("POST", "/api/models/acme/m/discussions/7/merge")
    assert about == "the merge of pull request 7 into main"
    assert options["retry"] is False
    assert options["timeout"] > hub.timeout


def test_what_is_merged_already_is_not_merged_again(states):
    states += [MERGED]
    hub = Requests()
    assert pull_requests.merge(hub, REPO, 7) == {"oid": "merged"}
    assert hub.sent == []


def test_a_merge_whose_response_was_lost_counts(states):
    states += [OPEN, MERGED]
    assert pull_requests.merge(Requests(XetTimeoutError("No response.")), REPO, 7) == {"oid": "merged"}


def test_a_merge_that_was_refused_is_an_error(states):
    states += [OPEN]
    with pytest.raises(XetForbiddenError):
        pull_requests.merge(Requests(XetForbiddenError("No.", status=403)), REPO, 7)


def test_conflicts_are_not_sent(states):
    states += [CONFLICT]
    hub = Requests()
    with pytest.raises(XetConflictError, match=r"has conflicts\. Publish again .* changed in a\.txt"):
        pull_requests.merge(hub, REPO, 7)
    assert hub.sent == []


def test_a_merge_that_the_hub_does_not_report_is_tried_again(states, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.MAX_TRIES", 2)
    states += [OPEN]
    hub = Requests()
    with pytest.raises(XetServerError) as caught:
        pull_requests.merge(hub, REPO, 7)
    assert str(caught.value) == (
        "The merge of pull request 7 had no effect. Let the task retry: the Hub accepted the merge of pull request 7 "
        "into main, but does not report it as merged."
    )
    assert len(hub.sent) == 2


def test_whether_a_pull_request_was_merged_is_asked(states):
    states += [OPEN, MERGED]
    assert pull_requests.merged_as(Requests(), REPO, 7) is None
    assert pull_requests.merged_as(Requests(), REPO, 7) == {"oid": "merged"}


@pytest.mark.parametrize("error", [None, XetForbiddenError("No permission.", status=403)])
def test_a_pull_request_that_stays_open_is_only_logged(caplog, error):
    hub = Requests(error)
    with caplog.at_level(logging.WARNING):
        pull_requests.close(hub, REPO, 7, "Planned again.")
    assert hub.sent == [
        (
            "POST",
            "/api/models/acme/m/discussions/7/status",
            f"the closing of pull request 7 of {REPO}",
            {"json": {"status": "closed", "comment": "Planned again."}},
        )
    ]
    assert caplog.messages == ([f"Pull request 7 of {REPO} is still open: No permission."] if error else [])
