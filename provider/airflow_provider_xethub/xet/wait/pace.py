"""Compute the interval between two polls: constant, or with the exponential backoff of Airflow's sensors."""

from __future__ import annotations

import random

_MAX_DOUBLINGS = 32
"""More would overflow, and exceed every timeout."""


class Pace:
    """Compute the seconds to the next poll for one subscriber of a shared poll.

    With exponential backoff, the n-th interval is a random value between 1 and 2 times ``interval * 2 ** (n - 2)``, and
    at least a second: what ``BaseSensorOperator`` computes in poke mode.

    :param interval: seconds between two polls without backoff.
    :param is_exponential: double the interval after each poll.
    :param max_seconds: longest interval; applies only with ``is_exponential``, as in Airflow. ``None``: no limit.
    """

    def __init__(self, interval: float, *, is_exponential: bool = False, max_seconds: float | None = None) -> None:
        self._interval = interval
        self._is_exponential = is_exponential
        self._max_seconds = max_seconds
        self._polls = 0
        self._last: float | None = None
        self.seconds = interval

    def record_poll(self, now: float) -> None:
        """Count a poll and compute the next interval; a poll that was made early for other subscribers does not count.

        :param now: when the poll started, on a monotonic clock.
        """
        if not self._is_exponential or (self._last is not None and now < self._last + self.seconds):
            return
        self._last = now
        self._polls += 1
        shortest = max(int(self._interval * 2.0 ** (min(self._polls, _MAX_DOUBLINGS) - 2)), 1)
        seconds = shortest * random.uniform(1.0, 2.0)  # noqa: S311
        self.seconds = min(self._max_seconds, seconds) if self._max_seconds else seconds
