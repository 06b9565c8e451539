"""Run every operator, sensor and trigger against every fault of the local Hub, and compare with what was recorded.

Exits with a status other than 0 if a cell ends otherwise than ``tests/faults/matrix.json`` says, or if something does
not hold that must hold in every cell. ``--accept`` writes that file, and ``docs/faults.md`` from it.
"""

from __future__ import annotations

import argparse
import fnmatch
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import conftest  # noqa: F401 - sets the environment of all tests, before Airflow is imported
from faults import matrix, page, worker
from faults.matrix import OUTCOMES, CellKey, Matrix
from faults.results import Result, Undisturbed
from faults.rows import ROWS
from faults.steps import faults_at

_CHUNK = 12
_AGAIN = 2
"""How often a cell is run again, beside one other, if time may be why it did not end as recorded."""


def main() -> int:
    options = _options()
    started = time.monotonic()
    recorded, before = matrix.load(), matrix.load()
    with tempfile.TemporaryDirectory(prefix="xethub-faults-") as folder:
        pool = ProcessPoolExecutor(options.processes, multiprocessing.get_context("fork"), worker.start, (folder,))
        with pool:
            found, results, missing = _run(pool, folder, before, recorded, options)
    is_partial = bool(options.sample or options.faults)
    changed = matrix.changes(before, found, is_sample=is_partial) + [f"{' | '.join(key)}: gone" for key in missing]
    wrong = [f"{_name(result)}: {text}" for result in results for text in result.violations]
    for title, lines in (("Does not hold", wrong), ("Changed", changed)):
        if lines:
            print(f"{title}:", *lines, sep="\n  ")
    if options.verbose:
        for result in results:
            print(_name(result), result.cell, *result.trace, sep="\n  ")
    print(_table(found, wrong, changed, time.monotonic() - started))
    if options.accept and not is_partial:
        print(f"Written: {matrix.FILE.name}, {page.FILE.name}")
        return 1 if wrong else 0
    return 1 if wrong or changed else 0


def _run(
    pool: ProcessPoolExecutor, folder: str, before: Matrix, recorded: Matrix, options: argparse.Namespace
) -> tuple[Matrix, list[Result], list[CellKey]]:
    """Return the cells, how they ended, and those of a sample that do not exist any more.

    :param before: what was recorded; ``recorded``: what is recorded now.
    """
    kinds = {
        name: row.kind.__name__
        for name, row in ROWS.items()
        if any(fnmatch.fnmatch(each, one) for each in (name, row.kind.__name__) for one in options.rows.split(","))
    }
    chosen: list[CellKey] | None = None
    if options.sample:
        chosen = matrix.sample([key for key in recorded.cells if key[0] in kinds], options.sample, options.seed)
    rows = [name for name in kinds if chosen is None or any(key[0] == name for key in chosen)]
    normal: dict[str, Undisturbed] = {
        each.row: each
        for each in (
            future.result() for future in as_completed([pool.submit(worker.undisturbed, folder, row) for row in rows])
        )
    }
    keys: list[CellKey] = [
        (row, str(step), f"{column.name} {duration}")
        for row in rows
        for step in normal[row].steps
        for column, duration in faults_at(step)
    ]
    missing: list[CellKey] = []
    if chosen is not None:
        known = set(keys)
        missing = [key for key in chosen if key not in known]
        keys = [key for key in chosen if key in known]
    keys = [key for key in keys if fnmatch.fnmatch(key[2], options.faults or "*")]
    futures = [
        pool.submit(worker.cells, folder, normal[row], part)
        for row in rows
        for part in _parts([key for key in keys if key[0] == row])
    ]
    found = Matrix(kinds={row: kinds[row] for row in rows})
    results: list[Result] = []
    left = Counter(key[0] for key in keys)
    for number, future in enumerate(as_completed(futures)):
        part = future.result()
        results += part
        found.cells |= {each.key: each.cell for each in part}
        left[part[0].row] -= len(part)
        if options.accept and chosen is None and not options.faults and not left[part[0].row]:
            _accept(recorded, found, part[0].row)
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {len(futures)}", end="", file=sys.stderr)
    # What is to be accepted is expected to differ.
    results = _again(pool, folder, normal, results, Matrix() if options.accept else before)
    found.cells |= {each.key: each.cell for each in results}
    for row in rows:
        if options.accept and chosen is None and not options.faults:
            _accept(recorded, found, row)
    return found, results, missing


def _again(
    pool: ProcessPoolExecutor, folder: str, normal: Mapping[str, Undisturbed], results: list[Result], recorded: Matrix
) -> list[Result]:
    """Return the results, those of some cells anew: a busy machine is slower than some timeouts here.

    These are the cells that differ from what was recorded, or that Airflow ended because of the time that they took.
    A real change shows again. What must hold in every cell has to hold in the first run: a race may show only once.
    """
    found = {result.key: result for result in results}
    for _ in range(_AGAIN):
        keys = [result.key for result in found.values() if result.may_depend_on_time(recorded)]
        for two in (keys[at : at + 2] for at in range(0, len(keys), 2)):
            futures = [pool.submit(worker.cells, folder, normal[key[0]], [key]) for key in two]
            found |= {result.key: result for future in futures for result in future.result()}
    return list(found.values())


def _accept(recorded: Matrix, found: Matrix, row: str) -> None:
    """Write a row as soon as it is complete, so that a run that is interrupted has not been in vain."""
    cells = {key: cell for key, cell in found.cells.items() if key[0] == row}
    recorded.update(Matrix(cells, {row: found.kinds[row]}))
    recorded.kinds = {name: recorded.kinds[name] for name in ROWS if name in recorded.kinds}
    matrix.FILE.write_text(matrix.dump(recorded))
    page.FILE.write_text(page.render(matrix.load(), [name for name in ROWS if name not in recorded.kinds]))


def _parts(keys: Sequence[CellKey]) -> list[Sequence[CellKey]]:
    return [keys[at : at + _CHUNK] for at in range(0, len(keys), _CHUNK)]


def _name(result: Result) -> str:
    return f"{result.row} | {result.step} | {result.fault}"


def _table(found: Matrix, wrong: Sequence[str], changed: Sequence[str], seconds: float) -> str:
    counts = Counter(cell.outcome for cell in found.cells.values())
    rows = {
        "Rows": len(found.kinds),
        "Steps": len({key[:2] for key in found.cells}),
        "Faults": len({key[2] for key in found.cells}),
        "Cells": len(found.cells),
        **{f"  {outcome}": counts[outcome] for outcome in OUTCOMES},
        "Requests": sum(cell.requests for cell in found.cells.values()),
        "Seconds": round(seconds),
        "Does not hold": len(wrong),
        "Changed": len(changed),
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="record what comes out, and write the page")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="run so many of the recorded cells, the same ones each time"
    )
    parser.add_argument("--seed", default="", help="of the sample: another one draws other cells")
    parser.add_argument(
        "--rows",
        default="*",
        metavar="PATTERN",
        help="only rows whose names, or classes, match one of these, separated by commas",
    )
    parser.add_argument("--faults", metavar="PATTERN", help="only faults that match, such as 'stall *'")
    parser.add_argument(
        "--processes", type=int, default=2 * (os.cpu_count() or 1), help="most of them wait. Default: two for each core"
    )
    parser.add_argument("--verbose", action="store_true", help="print how each try ended")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
