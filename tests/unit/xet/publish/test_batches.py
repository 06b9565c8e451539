"""How an upload in batches waits for the rate limit of the Hub."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_xethub.exceptions import XetCommitQuotaError, XetRateLimitError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import batches
from airflow_provider_xethub.xet.publish.batches import Batches


@pytest.fixture
def waited(monkeypatch):
    """The seconds that were waited."""
    seconds: list[float] = []
    monkeypatch.setattr(batches.time, "sleep", seconds.append)
    monkeypatch.setattr(records, "IN_MEMORY", 10)
    return seconds


def limited(*waits, kind=XetRateLimitError):
    """Requests that the Hub refuses with each of these hints, and then answers."""
    left = list(waits)

    def requests():
        if left:
            error = kind("Too many requests.", status=429)
            error.retry_after = left.pop(0)
            raise error
        return "done"

    return requests


def test_an_upload_of_many_files_waits_for_the_next_window(waited, caplog):
    with caplog.at_level(logging.WARNING):
        assert Batches(11).paced(limited(300.0, 0.0)) == "done"
    assert waited == [300.0, 0.0]
    assert caplog.messages[0] == "Waiting 5 min for the rate limit of the Hub. Too many requests."


@pytest.mark.parametrize(
    ("count", "wait", "kind"),
    [
        (10, 300.0, XetRateLimitError),
        (11, None, XetRateLimitError),
        (11, 331.0, XetRateLimitError),
        (11, 300.0, XetCommitQuotaError),
    ],
    ids=["few files", "no hint", "longer than a window", "a quota of commits"],
)
def test_any_other_limit_is_left_to_the_retry_of_the_task(waited, count, wait, kind):
    with pytest.raises(kind):
        Batches(count).paced(limited(wait, kind=kind))
    assert waited == []


def test_waiting_has_an_end(waited, monkeypatch):
    monkeypatch.setattr(batches, "MOST_WAITS", 2)
    assert Batches(11).paced(limited(1.0, 1.0)) == "done"
    with pytest.raises(XetRateLimitError):
        Batches(11).paced(limited(1.0, 1.0, 1.0))
    assert waited == [1.0] * 4
