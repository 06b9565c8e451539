"""How long a request to the Hub is repeated, and what the log says meanwhile."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_xethub.exceptions import XetConflictError, XetConnectionError, XetServerError
from airflow_provider_xethub.xet.hub import client


@pytest.fixture
def real_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """All other tests have a shorter one, see tests/conftest.py."""
    monkeypatch.setattr(client, "FIRST_DELAY", 1.0)


def attempts(seconds_each: float) -> list[float]:
    """When the attempts of a request begin, each of which takes so long."""
    begins = [0.0]
    while len(begins) < client.MAX_TRIES:
        elapsed = begins[-1] + seconds_each
        after = elapsed + client.next_delay(len(begins), elapsed)
        if after >= client.RETRY_BUDGET:
            break
        begins.append(after)
    return begins


def test_the_waits_last_close_to_a_minute(real_delays):
    for _ in range(100):
        begins = attempts(0.01)
        assert len(begins) == client.MAX_TRIES
        assert 0.7 * client.RETRY_BUDGET < begins[-1] < client.RETRY_BUDGET


def test_slow_attempts_do_not_exceed_the_budget_and_two_are_made_nonetheless(real_delays):
    for _ in range(100):
        begins = attempts(29)
        assert 2 <= len(begins) <= 3
        assert begins[-1] < client.RETRY_BUDGET


def test_the_delay_doubles_and_those_who_conflict_do_not_meet_again(real_delays):
    delays = [client.next_delay(number, 0) for number in range(1, 8)]
    assert all(0.75 * 2**n <= delay <= 2**n for n, delay in enumerate(delays[:5]))
    assert max(delays[5:]) <= client.LONGEST_DELAY
    conflicts = [client.next_delay(5, 0, is_conflict=True) for _ in range(200)]
    assert min(conflicts) < 4
    assert max(conflicts) > 12


def test_only_those_who_conflict_are_kept_from_meeting_again(monkeypatch):
    given = []

    def next_delay(attempt: int, elapsed: float, *, is_conflict: bool) -> float:
        assert elapsed > 0
        given.append((attempt, is_conflict))
        return 0.0

    monkeypatch.setattr(client, "next_delay", next_delay)
    errors = iter([XetConflictError("It was changed."), XetConnectionError("It is gone.")])

    def once() -> str:
        for error in errors:
            raise error
        return "done"

    assert client.with_retries(once, also=lambda error: isinstance(error, XetConflictError)) == "done"
    assert given == [(1, True), (2, False)]


def test_any_error_can_be_worth_a_retry(monkeypatch):
    monkeypatch.setattr(client, "FIRST_DELAY", 0.001)
    errors = iter([KeyError("x")])

    def once() -> str:
        for error in errors:
            raise error
        return "done"

    assert client.with_retries(once, also=lambda error: isinstance(error, KeyError)) == "done"


def test_no_delay_exceeds_what_is_left_of_the_budget(real_delays):
    for _ in range(20):
        assert 0.75 <= client.next_delay(7, client.RETRY_BUDGET - 1) <= 1
        assert client.next_delay(7, client.RETRY_BUDGET + 1) == 0


@pytest.mark.parametrize(
    ("error", "happened"),
    [
        (
            XetServerError("The Hub answered 503 for hf://a/b@main. Let the task retry later: the Hub has a problem."),
            "The Hub answered 503 for hf://a/b@main",
        ),
        (
            XetConnectionError("The Hub at http://127.0.0.1:9 could not be reached (connection refused). Check it."),
            "The Hub at http://127.0.0.1:9 could not be reached (connection refused)",
        ),
        (XetServerError("The Hub is gone."), "The Hub is gone"),
        (XetServerError("The Hub is gone. It may return. Let the task retry."), "The Hub is gone"),
    ],
)
def test_each_retry_says_what_failed_how_long_it_waits_and_how_often_yet(caplog, monkeypatch, error, happened):
    monkeypatch.setattr(client, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(client, "MAX_TRIES", 3)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        client.with_retries(fail)
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (logging.WARNING, f"Retrying in 0 s ({number} of 2): {happened}.") for number in (1, 2)
    ]


def test_what_is_not_retried_is_not_logged(caplog):
    def fail() -> None:
        raise XetConflictError("hf://a/b@main was changed by someone else.")

    with pytest.raises(XetConflictError):
        client.with_retries(fail)
    assert caplog.records == []
