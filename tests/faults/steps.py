"""What a task requests, divided into steps: a method and a route, each for the first such request and for others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from faults.columns import COLUMNS, DURATIONS, Column, Duration
from xethub_local.control.logged_request import LoggedRequest

Place = Literal["first", "later"]

_PARAMETER = re.compile(r"\{(\w+)\}")
_VALUES = {"kind": "(models|datasets|spaces)", "path": ".*"}


@dataclass(frozen=True, order=True)
class Step:
    """Requests of a task that have the same place in the protocol.

    :param route: the method and the template of the route.
    :param place: ``first``: from the first such request on. ``later``: from the second one on.
    """

    route: str
    place: Place = "first"

    @property
    def pattern(self) -> str:
        """The regular expression that matches its requests, as a fault takes it."""
        parts, end = [], 0
        for found in _PARAMETER.finditer(self.route):
            parts.append(re.escape(self.route[end : found.start()]))
            parts.append(_VALUES.get(found[1], "[^/]+"))
            end = found.end()
        return "".join([*parts, re.escape(self.route[end:])])

    @property
    def skip(self) -> int:
        """How many such requests come before it."""
        return 0 if self.place == "first" else 1

    def __str__(self) -> str:
        return f"{self.route} {self.place}"

    @classmethod
    def parse(cls, text: str) -> Step:
        """Return the step that a string shows."""
        route, _, place = text.rpartition(" ")
        return cls(route, "first" if place == "first" else "later")


def steps_of(requests: Iterable[LoggedRequest]) -> list[Step]:
    """Return the steps of a task, in the order of their first request."""
    found: dict[Step, None] = {}
    for request in requests:
        step = Step(request.route)
        found[step if step not in found else Step(request.route, "later")] = None
    return list(found)


def faults_at(step: Step) -> Sequence[tuple[Column, Duration]]:
    """Return what can go wrong at a step. At a later one it happens once: what lasts is met at the first one."""
    columns = [column for column in COLUMNS.values() if re.fullmatch(column.route, _example(step.route))]
    durations = DURATIONS if step.place == "first" else DURATIONS[:1]
    return [(column, duration) for column in columns for duration in durations if duration in column.durations]


def _example(route: str) -> str:
    """Return the method and a path that a route has."""
    return _PARAMETER.sub("x", route)
