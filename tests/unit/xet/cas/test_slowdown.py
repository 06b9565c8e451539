"""What a process remembers of a link that crawled, and what it does with a transfer that stays too slow."""

from __future__ import annotations

import itertools

import pendulum
import pytest

from airflow_provider_xethub.exceptions import XetTooSlowError
from airflow_provider_xethub.xet.cas import crawl, slowdown
from airflow_provider_xethub.xet.cas.limits import TransferLimits
from airflow_provider_xethub.xet.cas.session import CasAccess
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import XetToken

MB = 1_000_000
TOTAL = 400 * MB


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(slowdown, "time", clock)
    monkeypatch.setattr(slowdown, "_memory", slowdown._Memory())
    return clock


def begun(
    *, cas: str = "https://cas.example/x", upload: bool = False, minutes: int = 15, **limits: int
) -> slowdown.Slowdown:
    token = XetToken(Repo("acme/m"), "read", cas, pendulum.now().add(minutes=minutes), access_token="xet_0")
    return slowdown.Slowdown("the transfer", CasAccess(token, limits=TransferLimits(**limits)), {}, upload=upload)


def run(transfer: slowdown.Slowdown, clock: Clock, *rates: float) -> list[int | None]:
    """Move for six seconds at each rate, and return with how many requests it was started again."""
    restarts = []
    moved = done = 0.0
    for rate in itertools.chain.from_iterable([rate] * 12 for rate in rates):
        clock.now += 0.5
        moved, done = moved + rate / 2, done + rate / 2
        if transfer.should_restart(int(moved), int(done), TOTAL):
            restarts.append(transfer.concurrency)
            moved = 0.0
    return restarts


def test_the_next_transfer_begins_with_as_few_requests_for_ten_minutes(clock: Clock) -> None:
    assert run(begun(), clock, 20 * MB, 0.5 * MB, 20 * MB) == [4]
    assert begun().concurrency == 4
    assert begun(upload=True).concurrency is None
    assert begun(cas="https://other.example/x").concurrency is None
    assert begun(concurrency=2).concurrency is None  # not more than it may have
    clock.now += 610
    assert begun().concurrency is None


def test_what_did_not_help_is_forgotten(clock: Clock) -> None:
    assert run(begun(), clock, 20 * MB, *[0.5 * MB] * 10) == [4, 2, 1, None]
    assert begun().concurrency is None
    assert run(begun(upload=True), clock, 20 * MB, *[0.5 * MB] * 10) == [4, 2, 1]
    assert begun(upload=True).concurrency is None


def test_few_requests_that_have_not_helped_yet_are_not_remembered(clock: Clock) -> None:
    assert run(begun(), clock, 20 * MB, 0.5 * MB, 0.5 * MB) == [4, 2]
    assert begun().concurrency is None


def test_with_a_token_that_has_expired_and_nobody_to_replace_it_a_transfer_goes_on_slowly(clock: Clock) -> None:
    assert run(begun(minutes=-1), clock, 20 * MB, *[0.5 * MB] * 4) == []
    assert begun().concurrency is None


def test_a_transfer_that_begins_with_few_can_crawl_too(clock: Clock) -> None:
    run(begun(), clock, 20 * MB, 0.5 * MB, 20 * MB)
    assert run(begun(), clock, 20 * MB, 0.5 * MB, 20 * MB) == [2]
    assert begun().concurrency == 2


def test_a_transfer_that_stays_too_slow_says_so_and_nothing_is_remembered(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl, "RULES", crawl.Rules(window=5.0))
    with pytest.raises(XetTooSlowError) as caught:
        run(begun(min_rate=2 * MB), clock, *[MB] * 10)
    assert str(caught.value)[:100].startswith("Only 1.0 MB/s for 5 s in the transfer, less than min_rate, 2.0 MB/s,")
    assert caught.value.retryable
    assert begun().concurrency is None
