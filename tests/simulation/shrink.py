"""Makes a failing plan shorter: takes out steps, then faults, then files, as long as it still fails in the same way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from simulation.generator import Plan

MOST_RUNS = 60


def shrink(plan: Plan, still_fails: Callable[[Plan], bool], most_runs: int = MOST_RUNS) -> Plan:
    """Return the shortest plan that was found.

    Nothing else than taking out is tried, so that what remains is part of what the seed drew.

    :param plan: it fails.
    :param still_fails: runs a plan, and returns whether it fails in the same way. Threads make it not quite
        deterministic: what fails only now and then may be taken out too late, but never too early.
    :param most_runs: how often to run plans at most.
    """
    runs = 0
    for parts_of in (_steps, _faults, _files):
        size = max(1, len(parts_of(plan)) // 2)
        while runs < most_runs and len(parts_of(plan)) >= 1:
            for start in reversed(range(0, len(parts_of(plan)), size)):
                if runs >= most_runs:
                    break
                candidate = _without(plan, parts_of, start, size)
                if candidate is None:
                    continue
                runs += 1
                if still_fails(candidate):
                    plan = candidate
            if size == 1:
                break
            size //= 2
    return plan


Part = tuple[Any, Any]
"""A list or a mapping, and the index or key of something that can be taken out of it."""


def _steps(plan: Plan) -> list[Part]:
    return [(plan["steps"], index) for index in range(len(plan["steps"]))]


def _faults(plan: Plan) -> list[Part]:
    return [(step["faults"], index) for step in plan["steps"] for index in range(len(step["faults"]))]


def _files(plan: Plan) -> list[Part]:
    return [(owner["files"], path) for step in plan["steps"] for owner in _owners(step) for path in owner["files"]]


def _owners(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what has files: the step itself, or each part of a fan-out."""
    yield from (each for each in (step, *step.get("parts", ())) if "files" in each)


def _without(plan: Plan, parts_of: Callable[[Plan], list[Part]], start: int, size: int) -> Plan | None:
    """Return a copy without some parts; ``None`` where nothing would be left of a plan or of a source."""
    shorter = copy.deepcopy(plan)
    for container, key in reversed(parts_of(shorter)[start : start + size]):
        if parts_of is not _faults and len(container) == 1:
            return None
        del container[key]
    return shorter
