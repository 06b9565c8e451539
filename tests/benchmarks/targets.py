"""What is to be reached, in one table, and whether it is. Whoever misses a target may measure the row once more."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.ratios import Ratio, paired
from benchmarks.tasks import FEW, FORGETFUL, HUB, OPERATORS, TUNED
from benchmarks.turn import AGAIN, ALL, DAG_RUN, FROM_DISK, SOME

Row = tuple[str, str, str]
"""Case, step, profile."""

Pair = tuple[dict[str, Any], dict[str, Any]]
"""What was measured of this provider, and of the other one."""


@dataclass(frozen=True)
class Rule:
    """What every row of some cases has to reach beside another contender.

    :param what: ``speed``: how many times as fast this provider is, at least ``bound``. ``memory``: its peak memory as
        a part of the other's, at most ``bound``.
    :param low: at least this is the lower end of the interval of the speed.
    :param cases: ``None`` for all cases.
    :param steps: ``None`` for all steps.
    :param profiles: ``None`` for all links.
    """

    what: Literal["speed", "memory"]
    other: str
    bound: float
    low: float | None = None
    cases: tuple[str, ...] | None = None
    steps: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None

    def applies(self, row: Row) -> bool:
        if row[1] == DAG_RUN:
            return False  # most of it is the scheduler's
        chosen = (self.cases, self.steps, self.profiles)
        return all(names is None or name in names for name, names in zip(row, chosen, strict=True))


_DISTANCES = ("+0 ms", "+50 ms")
RULES = (
    Rule("speed", HUB, 1.0, low=0.97),
    Rule("memory", HUB, 1.0),
    Rule("speed", HUB, 1.3, cases=("s3", "object")),
    Rule("speed", FORGETFUL, 10, cases=("unchanged",), steps=(AGAIN, FROM_DISK)),
    Rule("speed", TUNED, 0.95, cases=("large",), steps=("upload, new", "upload, 1 % changed"), profiles=_DISTANCES),
    Rule("speed", TUNED, 0.95, cases=("large",), steps=("download",), profiles=_DISTANCES),
    Rule("memory", HUB, 1 / 3, cases=("large", "fast"), steps=("download",)),
)
CRAWLS = 10.0
NOTICED = 1.5
"""On the link that collapses under many requests: the default client takes at least so many times as long as one that
knows how many it bears, and this provider at most so many."""
MOST_READ = 0.01
"""Of an unchanged folder, at most this part is read."""


@dataclass(frozen=True)
class Target:
    """What was to be reached in one row, and what was."""

    row: Row
    text: str
    value: float
    bound: float
    at_least: bool
    ratio: Ratio | None = None
    low: float | None = None

    @property
    def met(self) -> bool:
        if self.low is not None and self.ratio is not None and self.ratio.low < self.low:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def figure(self) -> str:
        interval = "" if self.ratio is None else f" ({short(self.ratio.low)} - {short(self.ratio.high)})"
        return short(self.value) + interval

    @property
    def wanted(self) -> str:
        low = "" if self.low is None else f" ({short(self.low)})"
        return f"{'>=' if self.at_least else '<='} {short(self.bound)}{low}"

    @property
    def verdict(self) -> str:
        return "met" if self.met else "missed"

    def __str__(self) -> str:
        return f"{self.verdict.upper():<7}{self.text}: {self.figure}, wanted {self.wanted}"


def targets(results: Mapping[str, Any]) -> list[Target]:
    """Judge the results; those with tiny sizes are not judged."""
    return [] if results["quick"] else list(_judged(results["measured"]))


def pairs(measured: Iterable[dict[str, Any]], other: str) -> dict[Row, list[Pair]]:
    """Return what this provider and another one measured one after the other, for each row."""
    sides: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {OPERATORS: {}, other: {}}
    for each in measured:
        if each["contender"] in sides:
            key = (each["case"], each["step"], each["profile"], each["repetition"], each["number"])
            sides[each["contender"]][key] = each
    found: dict[Row, list[Pair]] = {}
    for key, ours in sides[OPERATORS].items():
        if theirs := sides[other].get(key):
            found.setdefault(key[:3], []).append((ours, theirs))
    return found


def speed(found: list[Pair]) -> Ratio:
    """Return how many times as fast this provider is."""
    return paired(theirs["seconds"] / ours["seconds"] for ours, theirs in found)


def _judged(measured: list[dict[str, Any]]) -> Iterator[Target]:
    for rule in RULES:
        for row, found in pairs(measured, rule.other).items():
            if rule.what == "speed" and rule.applies(row):
                yield _speed(rule, row, found)
            elif rule.applies(row) and all(theirs["peak"] for _, theirs in found):
                yield _memory(rule, row, found)
    yield from _crawled([each for each in measured if each["case"] == "crawl"])
    yield from _counted([each for each in measured if each["contender"] == OPERATORS])


def _speed(rule: Rule, row: Row, found: list[Pair]) -> Target:
    ratio = speed(found)
    text = f"{named(row)}: times as fast as {rule.other}"
    return Target(row, text, ratio.median, rule.bound, at_least=True, ratio=ratio, low=rule.low)


def _memory(rule: Rule, row: Row, found: list[Pair]) -> Target:
    part = statistics.median(ours["peak"] / theirs["peak"] for ours, theirs in found)
    return Target(row, f"{named(row)}: peak memory as a part of {rule.other}'s", part, rule.bound, at_least=False)


def _crawled(measured: list[dict[str, Any]]) -> Iterator[Target]:
    for step, who, bound, at_least in ((SOME, HUB, CRAWLS, True), (ALL, OPERATORS, NOTICED, False)):
        of_step = [each for each in measured if each["step"] == step]
        theirs, best = ([each["seconds"] for each in of_step if each["contender"] == name] for name in (who, FEW))
        if theirs and best:
            row = ("crawl", step, of_step[0]["profile"])
            value = statistics.median(theirs) / statistics.median(best)
            yield Target(row, f"{named(row)}: {who}, times as long as {FEW}", value, bound, at_least)


def _counted(measured: list[dict[str, Any]]) -> Iterator[Target]:
    """What is not a comparison: requests, commits and bytes that one task takes."""
    rows: dict[Row, list[dict[str, Any]]] = {}
    for each in measured:
        rows.setdefault((each["case"], each["step"], each["profile"]), []).append(each)
    for row, runs in rows.items():
        case, step, _ = row
        if case == "mapped":
            most = max(each["hub_requests"] for each in runs)
            yield Target(row, f"{named(row)}: Hub requests", most, 5 + math.ceil(int(step.split()[0]) / 256), False)
            yield Target(row, f"{named(row)}: commits", max(each["commits"] for each in runs), 1, at_least=False)
        if step in (AGAIN, FROM_DISK):
            part = statistics.median(each["read"] / each["size"] for each in runs)
            yield Target(row, f"{named(row)}: bytes read as a part of the folder", part, MOST_READ, at_least=False)


def named(row: Row) -> str:
    """Return a row's name."""
    return ", ".join(row)


def short(value: float) -> str:
    """Return a figure with as many digits as it is worth."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
