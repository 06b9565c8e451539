"""Notices a transfer that crawls, and says with how many requests at a time to go on. Pure: no I/O, no clock.

A transfer can move without getting anywhere: users report one that drops from gigabytes to a megabyte per second once
the client has many requests open, and stays there for hours (huggingface_hub#4893, xet-core#850). It is started again
with fewer requests. What is compared is the transfer with its own best, so that a link that is slow by nature, or made
slow by ``max_bandwidth``, never counts as crawling. Whoever knows better what a link has to reach sets ``min_rate``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Rules:
    """When a transfer crawls. Rates are bytes per second.

    :param window: seconds over which a rate must be low, at most; where no best rate is known, always.
    :param least_window: seconds over which it must be low, at least.
    :param patience: as long as this part of what the whole transfer would take at its best rate, it must be low: a
        transfer of half a minute cannot wait for a minute, and one of an hour need not hurry.
    :param best_window: seconds over which the best rate is measured, at least.
    :param best_bytes: a rate only counts as the best if this many bytes arrived at it: the first megabytes of an upload
        only fill buffers of the system.
    :param share: below this share of its own best, a transfer crawls.
    :param least: a transfer below this rate crawls, whatever its best was. Links of 100 kB/s exist.
    :param left: of a transfer that would end so many windows later at the low rate, the rest is not worth a new start.
    :param gain: with fewer requests, the rate must be this many times as high; otherwise, the requests were not to
        blame.
    :param settle: seconds in which the client closes its connections before the transfer starts again.
    :param drain: further seconds to wait, at most, for what the old connections still hold: the new ones would meet the
        same crowd.
    """

    window: float = 60.0
    least_window: float = 5.0
    patience: float = 1 / 5
    best_window: float = 1.5
    best_bytes: int = 32_000_000
    share: float = 1 / 20
    least: float = 10_000.0
    left: float = 3.0
    gain: float = 3.0
    settle: float = 1.0
    drain: float = 30.0

    def window_of(self, total: int, best: float) -> float:
        """Return the seconds over which a transfer must be slow to crawl.

        :param total: its bytes.
        :param best: its best rate; 0 if that is unknown.
        """
        if not best:
            return self.window
        return min(self.window, max(self.least_window, self.patience * total / best))


FEW = 4
"""Requests at a time after the first restart: as many as a reported link bore, which collapsed with 6."""

RULES = Rules()
"""Those of all transfers; tests use shorter ones."""

_SMALL = 1_000_000
"""Files that have fewer bytes on average wait for responses rather than for bandwidth."""

_GAP = 1 / 2
"""After so much of a window without any movement, a transfer waits rather than crawls: for a retry, or after a 429."""

_PAUSE = 1 / 6
_LEAST_PAUSE = 1.5
"""After so much of a window between two samples, and so many seconds, the process was suspended: nothing is known."""


@dataclass(frozen=True)
class Sample:
    """How far a transfer is at one moment.

    :param at: seconds, by a clock that never goes back.
    :param moved: bytes that went over the network.
    :param done: bytes of content that are finished, including those that need not be sent.
    :param total: bytes of content.
    :param waits: whether the transfer waits for the network; otherwise it waits for a disk, or for its source.
    """

    at: float
    moved: int
    done: int
    total: int
    waits: bool = True


def is_bound_by_bandwidth(sizes: Collection[int]) -> bool:
    """Return whether the bandwidth decides how long a download of these files takes; otherwise, it never crawls."""
    return sum(sizes) >= _SMALL * max(1, len(sizes))


class Rates:
    """The rates of a transfer over time, in bytes per second.

    :param rules: how long the windows are.
    :param best: the best rate so far.
    """

    def __init__(self, rules: Rules = RULES, best: float = 0.0) -> None:
        self._rules = rules
        self._samples: list[Sample] = []
        self._still: list[float] = []  # for each sample, seconds since the last movement
        self._moved_at = 0.0
        self.best = best

    def add(self, sample: Sample) -> None:
        """Take a sample."""
        rules, samples = self._rules, self._samples
        if samples and not 0 <= sample.at - samples[-1].at <= max(_LEAST_PAUSE, rules.window * _PAUSE):
            self._forget(len(samples))
        if samples and sample.moved < samples[-1].moved:  # another session of the client counts from zero
            self._forget(len(samples))
        if not samples or (sample.moved, sample.done) != (samples[-1].moved, samples[-1].done):
            self._moved_at = sample.at
        samples.append(sample)
        self._still.append(sample.at - self._moved_at)
        self._forget(self._since(rules.window))
        first = samples[min(self._since(rules.best_window), self._before_moved(rules.best_bytes))]
        passed, moved = sample.at - first.at, sample.moved - first.moved
        if passed >= rules.best_window and moved >= rules.best_bytes:
            self.best = max(self.best, moved / passed)

    def last(self) -> float:
        """Return the rate of the last seconds, however steady; 0 at the very beginning."""
        first, last = self._samples[self._since(self._rules.best_window)], self._samples[-1]
        return _rate(first, last) if last.at - first.at >= self._rules.best_window else 0.0

    def steady(self, seconds: float, below: float = math.inf) -> float | None:
        """Return the rate over the last ``seconds``, if all the time the transfer moved and waited for the network.

        :returns: ``None`` if it did not, if the rate is not below ``below``, or if little is left.
        """
        last, start = self._samples[-1], self._since(seconds)
        first = self._samples[start]
        rate = _rate(first, last)
        if last.at - first.at < seconds or not 0 < rate < below:
            return None
        if (last.total - last.done) / rate < self._rules.left * seconds:
            return None
        recent = self._samples[start:]
        longest = max(after.at - before.at for before, after in pairwise(recent))
        waits = all(sample.waits for sample in recent) and max(self._still[start:]) <= seconds * _GAP
        return rate if waits and longest <= max(_LEAST_PAUSE, seconds * _PAUSE) else None

    def _forget(self, count: int) -> None:
        del self._samples[:count], self._still[:count]

    def _since(self, seconds: float) -> int:
        """Return the number of the sample at the beginning of the last ``seconds``; of the oldest if there is none."""
        return max(0, bisect_right(self._samples, self._samples[-1].at - seconds, key=lambda each: each.at) - 1)

    def _before_moved(self, count: int) -> int:
        """Return the number of the sample before the last ``count`` bytes moved; of the oldest if there is none."""
        return max(0, bisect_right(self._samples, self._samples[-1].moved - count, key=lambda each: each.moved) - 1)


def _rate(first: Sample, last: Sample) -> float:
    # Content that is finished counts where it need not be sent. Where it is, it may be finished long after it arrived.
    progress = max(last.moved, last.done) - max(first.moved, first.done)
    return max(last.moved - first.moved, progress) / max(last.at - first.at, 0.001)


@dataclass(frozen=True)
class Verdict:
    """What to do about a transfer that crawls.

    :param rate: bytes per second now.
    :param best: the best rate of the transfer; 0 if it was never measured.
    :param concurrency: with how many requests at a time to start again; ``None`` to go on as it is, for good.
    :param has_failed: fewer requests at a time did not help.
    :param is_too_slow: the rate is below the one that was demanded, and cannot be raised with fewer requests.
    """

    rate: float
    best: float
    concurrency: int | None
    has_failed: bool = False
    is_too_slow: bool = False


class Watch:
    """Decides over all attempts of one transfer. At most three attempts have fewer requests at a time.

    :param concurrency: requests at a time that the first attempt may have.
    :param rules: when a transfer crawls.
    :param returns: whether to go back to the first concurrency where fewer requests did not help. Not for transfers
        that lose much by starting again.
    :param min_rate: bytes per second that the transfer has to reach over the longest window; 0 for none.
    """

    def __init__(self, concurrency: int, rules: Rules = RULES, *, returns: bool = True, min_rate: float = 0.0) -> None:
        self._rules = rules
        self._first = concurrency
        self._returns = returns
        self._min_rate = min_rate
        self._rates = Rates(rules)
        self._before: float | None = None
        self._is_over = False
        self.concurrency = concurrency

    def add(self, sample: Sample) -> Verdict | None:
        """Take a sample, and return what to do, if anything is to be done."""
        rules, rates = self._rules, self._rates
        rates.add(sample)
        if self._is_over:
            return self._too_slow()
        window = rules.window_of(sample.total, rates.best)
        if self._before is None:
            slow = rates.steady(window, rates.best * rules.share)
            slow = slow or rates.steady(rules.window, max(self._min_rate, rules.least))
            return self._next(slow) if slow else None
        now = rates.steady(window)
        if now is None:
            return None
        if now >= self._before * rules.gain or self._before < self._min_rate <= now:
            # Fewer requests helped. From here on, the transfer is compared with what it reaches now.
            self._before = None
            self._rates = Rates(rules)
            return None
        return self._next(now)

    def helps(self) -> bool:
        """Return whether the transfer has fewer requests at a time than it began with, and is faster for it."""
        is_faster = self._before is None or self._rates.last() >= self._before * self._rules.gain
        return self.concurrency < self._first and is_faster

    def _next(self, slow: float) -> Verdict:
        """Choose the next number of requests: at most :data:`FEW`, then half as many each time."""
        failed, best = self._before is not None, self._rates.best
        before = self._before or min(slow, self._rates.last())
        if self.concurrency > 1:
            self._rates = Rates(self._rules, best)
            self._before = before
            self.concurrency = min(FEW, self.concurrency // 2)
            return Verdict(slow, best, self.concurrency, failed)
        self._is_over = True
        if too_slow := self._too_slow():
            return too_slow
        goes_back = self._returns and self.concurrency < self._first
        if goes_back:
            self._rates = Rates(self._rules, best)
            self.concurrency = self._first
        return Verdict(slow, best, self._first if goes_back else None, True)

    def _too_slow(self) -> Verdict | None:
        rate = self._rates.steady(self._rules.window, self._min_rate)
        return None if rate is None else Verdict(rate, self._rates.best, None, True, is_too_slow=True)
