"""When a link collapses, by a clock of its own."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from xethub_local.control.faults import Fault
from xethub_local.control.link import Link


class Clock:
    """The clock of an event loop."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("asyncio.get_running_loop", lambda: clock)
    return clock


def opened(link: Link, count: int, seconds: float, clock: Clock) -> None:
    """Have so many requests open for so many seconds."""
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(link.opened(("client", number)))
        clock.now += seconds
        link._check()  # as whenever a piece passes


def test_short_crowds_with_as_much_time_between_them_never_add_up(clock: Clock) -> None:
    link = Link(Fault(".*", max_open=1, collapse_after=2.5, bandwidth=1_000))
    for _ in range(20):
        opened(link, 2, 0.5, clock)
        opened(link, 1, 0.5, clock)
    assert link.collapses == 0


def test_crowds_with_little_time_between_them_add_up(clock: Clock) -> None:
    link = Link(Fault(".*", max_open=1, collapse_after=2.5, bandwidth=1_000))
    for count in (1, 2, 3):
        opened(link, 2, 0.9, clock)
        opened(link, 1, 0.05, clock)
        assert link.collapses == (count == 3)


def test_one_long_crowd_is_enough_and_the_next_one_begins_at_nothing(clock: Clock) -> None:
    link = Link(Fault(".*", max_open=1, collapse_after=2.5, bandwidth=1_000))
    opened(link, 2, 2.4, clock)
    assert link.collapses == 0
    opened(link, 1, 60, clock)
    opened(link, 2, 2.6, clock)
    assert link.collapses == 1
    opened(link, 1, 0, clock)
    opened(link, 2, 2.4, clock)
    assert link.collapses == 1
