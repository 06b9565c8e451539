"""Notices a transfer that crawls, and says with how many requests at a time to go on. Pure: no I/O, no clock.

A transfer can move without getting anywhere: users report one that drops from gigabytes to a megabyte per second once
the client has many requests open, and stays there for hours (huggingface_hub#4893, xet-core#850). It is started again
with fewer requests. What is compared is the transfer with its own best, so that a link that is slow by nature, or made
slow by ``max_bandwidth``, never counts as crawling.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """When a transfer crawls. Rates are bytes per second.

    :param window: seconds over which a rate must be low.
    :param best_window: seconds over which the best rate is measured.
    :param best_bytes: a rate only counts as the best if this many bytes arrived at it: the first megabytes of an upload
        only fill buffers of the system, and the first seconds of many links are faster than the rest.
    :param share: below this share of its own best, a transfer crawls.
    :param least: a transfer below this rate crawls, whatever its best was. Links of 100 kB/s exist.
    :param left: seconds that the rest would take at the low rate; for less, starting again is not worth it.
    :param gain: with fewer requests, the rate must be this many times as high; otherwise, the requests were not to
        blame.
    :param settle: seconds to wait before starting again: what the old connections still hold has to drain, or the new
        ones would meet the same crowd.
    """

    window: float = 60.0
    best_window: float = 10.0
    best_bytes: int = 32_000_000
    share: float = 1 / 20
    least: float = 10_000.0
    left: float = 120.0
    gain: float = 3.0
    settle: float = 2.0

    @property
    def longest_gap(self) -> float:
        """Seconds without any movement after which a transfer waits rather than crawls: for a retry, or after a 429."""
        return self.window / 2

    @property
    def longest_pause(self) -> float:
        """Seconds between two samples after which the process itself was suspended, so that nothing is known."""
        return self.window / 6


FEW = 4
"""Requests at a time after the first restart: as many as a reported link bore, which collapsed with 6."""

RULES = Rules()
"""Those of all transfers; tests use shorter ones."""


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


@dataclass(frozen=True)
class Rate:
    """Bytes per second: over the last window, at the end of it, and at best."""

    now: float
    last: float
    best: float


class Rates:
    """The rates of a transfer over time.

    :param rules: how long the windows are.
    """

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules = rules
        self._samples: deque[Sample] = deque()
        self._gap_began = 0.0
        self._last_gap = float("-inf")
        self.best = 0.0

    def add(self, sample: Sample) -> Rate | None:
        """Take a sample, and return the rate, if the transfer moved slowly but steadily for a whole window.

        :returns: ``None`` while nothing is known, nothing waits for the network, nothing moves, or little is left.
        """
        rules, samples = self._rules, self._samples
        if samples and not 0 <= sample.at - samples[-1].at <= rules.longest_pause:
            samples.clear()
        if samples and sample.moved < samples[-1].moved:  # another session of the client counts from zero
            samples.clear()
        if not samples:
            self._gap_began, self._last_gap = sample.at, float("-inf")
        elif (sample.moved, sample.done) != (samples[-1].moved, samples[-1].done):
            self._gap_began = sample.at
        if sample.at - self._gap_began > rules.longest_gap or not sample.waits:
            self._last_gap = sample.at
        samples.append(sample)
        while len(samples) > 1 and sample.at - samples[1].at >= rules.window:
            samples.popleft()
        self._measure_best()
        first = samples[0]
        passed = sample.at - first.at
        if passed < rules.window or self._last_gap >= first.at:
            return None
        rate = _rate(first, sample)
        if rate <= 0 or (sample.total - sample.done) / rate < rules.left:
            return None
        return Rate(rate, _rate(self._some_time_ago(), sample), self.best)

    def _measure_best(self) -> None:
        last, earlier = self._samples[-1], self._some_time_ago()
        passed, moved = last.at - earlier.at, last.moved - earlier.moved
        if passed >= self._rules.best_window and moved >= self._rules.best_bytes:
            self.best = max(self.best, moved / passed)

    def _some_time_ago(self) -> Sample:
        """Return the sample at the beginning of the last ``best_window``; the oldest if there is none."""
        last = self._samples[-1]
        for sample in reversed(self._samples):
            if last.at - sample.at >= self._rules.best_window:
                return sample
        return self._samples[0]


def _rate(first: Sample, last: Sample) -> float:
    return max(last.moved - first.moved, last.done - first.done) / max(last.at - first.at, 0.001)


@dataclass(frozen=True)
class Verdict:
    """What to do about a transfer that crawls.

    :param rate: bytes per second now.
    :param best: the best rate of the transfer; 0 if it was never measured.
    :param concurrency: with how many requests at a time to start again; ``None`` to go on as it is, for good.
    :param has_failed: fewer requests at a time did not help.
    """

    rate: float
    best: float
    concurrency: int | None
    has_failed: bool = False


class Watch:
    """Decides over all attempts of one transfer. At most three attempts have fewer requests at a time.

    :param concurrency: requests at a time that the first attempt may have.
    :param rules: when a transfer crawls.
    :param returns: whether to go back to the first concurrency where fewer requests did not help. Not for transfers
        that lose much by starting again.
    """

    def __init__(self, concurrency: int, rules: Rules = RULES, *, returns: bool = True) -> None:
        self._rules = rules
        self._first = concurrency
        self._returns = returns
        self._rates = Rates(rules)
        self._before: float | None = None
        self._is_over = False
        self.concurrency = concurrency

    def add(self, sample: Sample) -> Verdict | None:
        """Take a sample, and return what to do, if anything is to be done."""
        if self._is_over:
            return None
        rate = self._rates.add(sample)
        if rate is None:
            return None
        if self._before is not None:
            if rate.now >= self._before * self._rules.gain:
                # Fewer requests helped. From here on, the transfer is compared with what it reaches now.
                self._before = None
                self._rates = Rates(self._rules)
                return None
            return self._next(rate)
        if rate.now < max(rate.best * self._rules.share, self._rules.least):
            return self._next(rate)
        return None

    def _next(self, rate: Rate) -> Verdict:
        """Choose the next number of requests: at most :data:`FEW`, then half as many each time."""
        failed = self._before is not None
        best, before = self._rates.best, self._before or min(rate.now, rate.last)
        self._rates = Rates(self._rules)
        self._rates.best = best
        if self.concurrency > 1:
            self._before = before
            self.concurrency = min(FEW, self.concurrency // 2)
            return Verdict(rate.now, best, self.concurrency, failed)
        self._is_over = True
        goes_back = self._returns and self.concurrency < self._first
        if goes_back:
            self.concurrency = self._first
        return Verdict(rate.now, best, self._first if goes_back else None, True)
