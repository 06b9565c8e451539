"""How long to wait between two polls: always the same, or longer each time, as Airflow's sensors mean it."""

from __future__ import annotations

import random

_MOST_DOUBLINGS = 32
"""More would overflow, and be longer than any sensor waits."""


class Pace:
    """The wait until the next poll, for one of those who share a poll.

    With exponential backoff the n-th wait is between 1 and 2 times ``interval * 2 ** (n - 2)``, and at least a second:
    what ``BaseSensorOperator`` computes in poke mode.

    :param interval: seconds.
    :param is_exponential: double the wait after each poll.
    :param longest: the longest wait in seconds; counts with ``is_exponential`` only, as in Airflow.
    """

    def __init__(self, interval: float, *, is_exponential: bool = False, longest: float | None = None) -> None:
        self._interval = interval
        self._is_exponential = is_exponential
        self._longest = longest
        self._polls = 0
        self._last: float | None = None
        self.seconds = interval

    def polled(self, now: float) -> None:
        """Take note of a poll; one that came earlier than this one wanted it, for others, does not count.

        :param now: when it began, on a clock that only goes forward.
        """
        if not self._is_exponential or (self._last is not None and now < self._last + self.seconds):
            return
        self._last = now
        self._polls += 1
        least = max(int(self._interval * 2.0 ** (min(self._polls, _MOST_DOUBLINGS) - 2)), 1)
        wait = least * random.uniform(1.0, 2.0)  # noqa: S311
        self.seconds = wait if not self._longest else min(self._longest, wait)
