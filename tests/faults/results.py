"""What processes return: values that need no Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from faults.matrix import Cell, CellKey, Matrix
from faults.steps import Step

Effects = dict[str, str]
"""What there is at the Hub and on the worker: facts by what they are about."""


@dataclass(frozen=True)
class Undisturbed:
    """What a row does without faults.

    :param steps: in their order.
    :param after: what there is then.
    :param value: the result of the task, without what differs from run to run.
    """

    row: str
    steps: Sequence[Step]
    after: Effects
    value: Any


@dataclass
class Result:
    """What came of a cell.

    :param violations: what must not be, whatever the matrix says.
    :param trace: how each try ended.
    :param timed_out: whether Airflow ended a try, or the trigger did not fire in time.
    """

    row: str
    step: Step
    fault: str
    cell: Cell
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    timed_out: bool = False

    @property
    def key(self) -> CellKey:
        """The place in the matrix."""
        return (self.row, str(self.step), self.fault)

    def may_depend_on_time(self, recorded: Matrix) -> bool:
        """Return whether a busy machine may be why it is not as recorded.

        How many requests were sent depends on it, too: one that a task sends ahead may or may not leave before another
        one fails.
        """
        if self.timed_out or self.violations:
            return self.timed_out
        before = recorded.cells.get(self.key)
        return before is not None and not self.cell.is_like(before)
