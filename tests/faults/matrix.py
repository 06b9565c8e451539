"""The matrix as a file: what came of each cell, in lines that do not depend on time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

FILE = Path(__file__).parent / "matrix.json"
FORMAT = 1

Outcome = Literal["success", "retried", "waits", "error", "final", "not met"]
"""``success``: the first try succeeds. ``retried``: one of Airflow's retries does. ``waits``: a sensor or trigger polls
until the fault is over, or until its timeout. ``error``: all retries fail. ``final``: Airflow does not retry.
``not met``: the task does not get to the step."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

CellKey = tuple[str, str, str]
"""Row, step and fault."""


@dataclass(frozen=True)
class Cell:
    """What came of a cell.

    :param retries: of Airflow.
    :param requests: of all tries; 0 for a row that polls, which does so more or less often.
    :param error: class and first 100 characters of the message of the last try.
    :param effects: ``done`` if everything is as after a run without faults, ``none``, or what differs.
    """

    outcome: Outcome
    retries: int = 0
    requests: int = 0
    error: str = ""
    effects: str = "done"

    def is_like(self, other: Cell) -> bool:
        """Return whether nothing but the number of requests differs, and that by little.

        A client that works on several files at a time may have sent one more or less when another one failed.
        """
        few = max(2, other.requests // 4)
        same = ("outcome", "retries", "effects", "error")
        return (
            all(getattr(self, name) == getattr(other, name) for name in same)
            and abs(self.requests - other.requests) <= few
        )


@dataclass
class Matrix:
    """All cells.

    :param kinds: the classes of the rows, by row.
    """

    cells: dict[CellKey, Cell] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """The rows, in their order."""
        return list(self.kinds)

    def update(self, other: Matrix) -> None:
        """Replace the rows that another matrix has, except cells that are like they were."""
        for row in other.kinds:
            self.kinds[row] = other.kinds[row]
        new = dict(other.cells)
        for key, cell in self.cells.items():
            if key[0] not in other.kinds or (key in new and new[key].is_like(cell)):
                new[key] = cell
        self.cells = new


def changes(recorded: Matrix, found: Matrix, *, is_sample: bool = False) -> list[str]:
    """Return what is different from what was recorded.

    :param is_sample: whether cells may be missing.
    """
    lines = []
    for key, cell in found.cells.items():
        before = recorded.cells.get(key)
        if before is None:
            lines.append(f"{' | '.join(key)}: new: {_shown(cell)}")
        elif not cell.is_like(before):
            lines.append(f"{' | '.join(key)}: {_shown(cell)}; it was {_shown(before)}")
    if not is_sample:
        gone = [key for key in recorded.cells if key[0] in found.kinds and key not in found.cells]
        lines += [f"{' | '.join(key)}: gone" for key in gone]
    return lines


def _shown(cell: Cell) -> str:
    error = f" ({cell.error})" if cell.error else ""
    return f"{cell.outcome}, {cell.retries} retries, {cell.requests} requests, {cell.effects}{error}"


def sample(cells: Iterable[CellKey], count: int, seed: str = "") -> list[CellKey]:
    """Return so many cells, of as many rows and faults as possible, and the same ones for the same seed."""
    ranked = sorted(cells, key=lambda key: hashlib.sha256(" ".join([seed, *key]).encode()).digest())
    chosen: dict[CellKey, None] = {}
    rows: set[str] = set()
    faults: set[str] = set()
    for key in ranked:
        if key[0] not in rows or key[2] not in faults:
            rows.add(key[0])
            faults.add(key[2])
            chosen[key] = None
    for key in ranked:
        chosen[key] = None
    return list(chosen)[:count]


def load(file: Path = FILE) -> Matrix:
    """Read a matrix."""
    if not file.exists():
        return Matrix()
    value: Mapping[str, Any] = json.loads(file.read_text())
    texts: Mapping[str, str] = value["texts"]
    found = Matrix()
    for row, content in value["rows"].items():
        found.kinds[row] = content["class"]
        for step, groups in content["steps"].items():
            for text, faults in groups.items():
                outcome, retries, requests, error, effects = text.split(" | ")
                cell = Cell(outcome, int(retries), int(requests), texts.get(error, ""), texts.get(effects, effects))
                found.cells |= {(row, step, fault): cell for fault in faults.split(", ")}
    return found


def dump(matrix: Matrix) -> str:
    """Return a matrix as text: a line for all faults of a step that end the same, with digests for long texts."""
    texts: dict[str, str] = {}

    def short(text: str) -> str:
        if text in ("", "done", "none"):
            return text or "-"
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        texts[digest] = text
        return digest

    rows: dict[str, Any] = {row: {"class": kind, "steps": {}} for row, kind in matrix.kinds.items()}
    for (row, step, fault), cell in sorted(matrix.cells.items()):
        line = f"{cell.outcome} | {cell.retries} | {cell.requests} | {short(cell.error)} | {short(cell.effects)}"
        groups = rows[row]["steps"].setdefault(step, {})
        groups[line] = f"{groups[line]}, {fault}" if line in groups else fault
    value = {"format": FORMAT, "texts": dict(sorted(texts.items())), "rows": rows}
    return json.dumps(value, indent=0, ensure_ascii=False, separators=(",", ":")) + "\n"
