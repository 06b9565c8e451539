"""Paired ratios: what two contenders, measured one after the other, say about each other.

A machine is faster in one minute than in the next, and both of a pair meet the same minute. So each pair gives a
ratio, and the median of the ratios is the result. Its interval is that of order statistics, which assumes nothing about
how ratios are distributed: the interval from the k-th smallest to the k-th largest of n ratios misses their true median
with a probability of 2 * P(B < k), where B counts heads in n throws of a coin.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

WANTED = 0.95


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, and the interval in which the true median lies.

    :ivar confidence: the probability that it does. Five pairs reach 0.94 at most, which is their whole range.
    """

    median: float
    low: float
    high: float
    pairs: int
    confidence: float


def paired(ratios: Iterable[float]) -> Ratio:
    """Return the median and the narrowest interval of order statistics that reaches 95 %, or the whole range.

    :raises ValueError: there is none.
    """
    ordered = sorted(ratios)
    if not ordered:
        raise ValueError("There is no pair: a ratio needs at least one.")
    count = len(ordered)
    k = 1
    while k < (count + 1) // 2 and _confidence(count, k + 1) >= WANTED:
        k += 1
    return Ratio(statistics.median(ordered), ordered[k - 1], ordered[-k], count, _confidence(count, k))


def _confidence(count: int, k: int) -> float:
    return 1 - 2 * sum(math.comb(count, heads) for heads in range(k)) / float(2**count)
