"""Run the provider in a world full of faults, each run drawn from a seed, and print what does not hold.

A plan that fails is shortened as long as it still fails, and written to a file that ``--replay`` runs again. Exits with
status 1 if any plan failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import conftest  # noqa: F401 - sets the environment of all tests, before Airflow is imported
from simulation.generator import FORMAT, Plan, plan
from simulation.shrink import shrink
from simulation.simulate import Outcome, Simulation
from xethub_local.server import LocalHub


def main() -> int:
    options = _options()
    if options.processes > 1 and not options.replay:
        totals = _side_by_side(options)
        print(totals)
        return 1 if totals.failures else 0
    totals = Totals()
    with tempfile.TemporaryDirectory(prefix="xethub-simulation-") as name:
        folder = Path(name)
        out = _redirect_output(folder / "log")
        with LocalHub(folder / "hub") as hub:
            simulation = Simulation(hub, folder / "worlds", folder / "log")
            for each in _plans(options):
                try:
                    outcome = simulation.run(each)
                except Exception:
                    # Where stderr goes is removed with the folder.
                    print(f"Seed {each['seed']} could not be run:", traceback.format_exc(), file=out, flush=True)
                    return 2
                totals.add(outcome)
                if options.verbose:
                    print(f"Seed {each['seed']}", *outcome.trace, sep="\n  ", file=out)
                if outcome.violations:
                    _report(simulation, each, outcome, options, out)
        if options.keep_log:
            options.keep_log.write_bytes((folder / "log").read_bytes())
    if options.totals:
        options.totals.write_text(json.dumps(vars(totals)))
    else:
        print(totals, file=out)
    return 1 if totals.failures else 0


@dataclass
class Totals:
    """The figures of all runs."""

    seeds: int = 0
    failures: int = 0
    steps: int = 0
    tries: int = 0
    requests: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)

    def merge(self, part: Mapping[str, Any]) -> None:
        """Add the figures of another process."""
        for name, value in part.items():
            known = getattr(self, name)
            setattr(self, name, known + (Counter(value) if isinstance(known, Counter) else value))

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.seeds += 1
        self.failures += bool(outcome.violations)
        self.steps += outcome.steps
        self.tries += outcome.tries
        self.requests += outcome.requests
        self.seconds += outcome.seconds
        self.faults += outcome.faults
        self.operations += outcome.operations

    def __str__(self) -> str:
        rows = {
            "Seeds": self.seeds,
            "Seconds": round(self.seconds),
            "Steps": f"{self.steps}: {_counts(self.operations)}",
            "Tries of tasks": self.tries,
            "Requests": self.requests,
            "Faults that acted": f"{self.faults.total()}: {_counts(self.faults)}",
            "Failures": self.failures,
        }
        return "\n".join(f"{name:<18} {value}" for name, value in rows.items())


def _side_by_side(options: argparse.Namespace) -> Totals:
    """Run the seeds in several processes, each with a Hub of its own: most of a run is waiting."""
    first, totals = _first_seed(options), Totals()
    count = min(options.processes, options.seeds or options.processes)
    with tempfile.TemporaryDirectory(prefix="xethub-simulation-") as name:
        parts = [Path(name, f"{number}.json") for number in range(count)]
        running = []
        for number, part in enumerate(parts):
            arguments = [f"--seed={first + number}", f"--every={count}", f"--totals={part}"]
            arguments += [f"--failures={options.failures}"]
            if options.seeds:
                # Of 10 seeds in 4 processes, two have 3 and two have 2.
                arguments.append(f"--seeds={(options.seeds - number + count - 1) // count}")
            if options.minutes:
                arguments.append(f"--minutes={options.minutes}")
            arguments += ["--verbose"] * options.verbose + ["--no-shrink"] * (not options.shrink)
            running.append(subprocess.Popen([sys.executable, "-m", "simulation", *arguments]))
        try:
            codes = [process.wait() for process in running]
        finally:
            for process in running:
                process.terminate()
        for code, part in zip(codes, parts, strict=True):
            if part.exists():
                totals.merge(json.loads(part.read_text()))
            else:
                print(f"A process ended with status {code} before it had run its seeds.")
                totals.failures += 1
    return totals


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def _report(simulation: Simulation, failing: Plan, outcome: Outcome, options: argparse.Namespace, out: TextIO) -> None:
    print(f"Seed {failing['seed']} failed:", *_lines(failing, outcome), sep="\n  ", file=out, flush=True)
    if options.shrink:
        broken = {violation.invariant for _, violation in outcome.violations}

        def still_fails(candidate: Plan) -> bool:
            return bool(broken & {violation.invariant for _, violation in simulation.run(candidate).violations})

        failing = shrink(failing, still_fails)
    file = options.failures / f"simulation-{failing['seed']}.json"
    file.write_text(json.dumps(failing, indent=2) + "\n")
    print(f"  The shortest plan that fails has {len(failing['steps'])} of its steps. Run it again with:", file=out)
    print(f"  make simulate ARGS='--replay {file}'", file=out, flush=True)


def _lines(failing: Plan, outcome: Outcome) -> Sequence[str]:
    steps = failing["steps"]
    found = [f"step {number} ({steps[number]['do']}): {violation}" for number, violation in outcome.violations]
    return [*found, *outcome.trace[-6:]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed. Default: a new one each time")
    parser.add_argument("--seeds", type=int, help="how many seeds. Default: 1, or as many as fit into --minutes")
    parser.add_argument("--every", type=int, default=1, help="how far the next seed is from the one before. Default: 1")
    parser.add_argument("--processes", type=int, default=1, help="how many seeds to run at the same time. Default: 1")
    parser.add_argument("--totals", type=Path, metavar="FILE", help="write the figures to this file, as JSON")
    parser.add_argument("--minutes", type=float, help="start no further seed after so many minutes")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the plan in this file instead")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="do not shorten plans that fail")
    parser.add_argument("--failures", type=Path, default=Path(), help="folder for plans that fail. Default: this one")
    parser.add_argument("--keep-log", type=Path, metavar="FILE", help="keep everything that was logged in this file")
    parser.add_argument("--verbose", action="store_true", help="print each try of each task")
    return parser.parse_args()


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    if options.replay:
        found: Plan = json.loads(options.replay.read_text())
        if found.get("format") != FORMAT:
            sys.exit(f"{options.replay} has format {found.get('format')}; this version runs format {FORMAT}.")
        yield found
        return
    first = _first_seed(options)
    end = time.monotonic() + 60 * options.minutes if options.minutes else None
    count = options.seeds or (None if end else 1)
    number = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        yield plan(first + number * options.every)
        number += 1


def _first_seed(options: argparse.Namespace) -> int:
    return options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000_000)


def _redirect_output(log: Path) -> TextIO:
    """Send what this process and its children print and log to a file; return the standard output as it was."""
    out = os.fdopen(os.dup(1), "w")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Whatever is logged is searched for credentials, except what the local Hub logs: it issues them.
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    for name in ("xethub_local", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return out


if __name__ == "__main__":
    sys.exit(main())
