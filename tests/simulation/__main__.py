"""Runs seeds, and prints what they found: ``make simulate SEED=7`` or ``make simulate MINUTES=5``."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import conftest  # noqa: F401 - sets the environment of all tests before Airflow is imported

from simulation.generator import Plan, plan
from simulation.simulate import Outcome, Simulation
from xethub_local.server import LocalHub


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="xethub-simulation-") as name:
        folder = Path(name)
        log = folder / "log"
        out = _redirect_output(log)
        with LocalHub(folder / "hub") as hub:
            simulation = Simulation(hub, folder / "worlds", log)
            total, failures = Totals(), 0
            for each in _plans(options):
                outcome = simulation.run(each)
                total.add(outcome)
                if options.verbose:
                    print(*outcome.trace, sep="\n", file=out)
                if outcome.violations:
                    failures += 1
                    print(f"Seed {each['seed']} failed:", file=out)
                    for number, violation in outcome.violations:
                        print(f"  step {number} ({each['steps'][number]['do']}): {violation}", file=out)
                    print(
                        *outcome.trace[-6:],
                        json.dumps(each["steps"][outcome.violations[0][0]]),
                        sep="\n  ",
                        file=out,
                        flush=True,
                    )
            print(total.table(failures), file=out, flush=True)
            if options.keep_log:
                Path(options.keep_log).write_bytes(log.read_bytes())
    return 1 if failures else 0


class Totals:
    """The figures of all seeds."""

    def __init__(self) -> None:
        self.seeds = self.steps = self.tries = self.requests = 0
        self.seconds = 0.0
        self.faults: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.steps += outcome.steps
        self.tries += outcome.tries
        self.requests += outcome.requests
        self.seconds += outcome.seconds
        self.faults += outcome.faults
        self.operations += outcome.operations

    def table(self, failures: int) -> str:
        """Return the closing table."""
        rows = [
            ("seeds", f"{self.seeds}"),
            ("seconds", f"{self.seconds:.0f}"),
            ("steps", f"{self.steps} ({_counts(self.operations)})"),
            ("tries", f"{self.tries}"),
            ("requests", f"{self.requests}"),
            (
                "faults that acted",
                f"{self.faults.total() if hasattr(self.faults, 'total') else sum(self.faults.values())} ({_counts(self.faults)})",
            ),
            ("failures", f"{failures}"),
        ]
        return "\n".join(f"{name:<18} {value}" for name, value in rows)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the first seed (default: a new one each time)")
    parser.add_argument("--seeds", type=int, default=None, help="how many seeds (default: 1, or as fit into --minutes)")
    parser.add_argument("--minutes", type=float, default=None, help="how long to go on with further seeds")
    parser.add_argument("--replay", type=Path, default=None, help="run the plan in this file instead")
    parser.add_argument("--verbose", action="store_true", help="print every try")
    parser.add_argument("--keep-log", default=None, help="where to keep everything that was logged")
    return parser.parse_args()


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    if options.replay:
        yield json.loads(options.replay.read_text())
        return
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000_000)
    end = time.monotonic() + 60 * options.minutes if options.minutes else None
    count = options.seeds or (None if end else 1)
    number = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        yield plan(first + number)
        number += 1


def _redirect_output(log: Path) -> TextIO:
    """Send what this process and its children print to a file; return the standard output as it was."""
    out = os.fdopen(os.dup(1), "w")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return out


if __name__ == "__main__":
    sys.exit(main())
