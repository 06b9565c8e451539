"""How fast the operators are beside what DAG authors write today, and beside the bare transfer client.

Everything in one run, so that all meet the same machine. Each contender moves the same files to and from a local Hub, a
process of its own with an empty folder, over several links. Each task is a fresh process, forked from one that has
Airflow in it, as on an Airflow worker; caches are empty unless the step says otherwise; contenders take turns; every
downloaded byte is compared with its source. Where a target is missed, the case is measured once more over that link,
and all of its measurements count.

Run it with ``make bench``. ``--report-only`` measures nothing, and writes tables and charts into ``docs/benchmarks.md``
and some figures into ``README.md``.
What fails is reported, and the others go on; the results are written after each case. Exits with status 1 where
something failed or a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks import front_door, report
from benchmarks.cases import CASES, order
from benchmarks.fast_s3 import program
from benchmarks.profiles import Profile, enter_namespace, shaped
from benchmarks.scheduler import Scheduler
from benchmarks.servers import HubServer, ObjectStore, object_store
from benchmarks.sizes import DEFAULT, FULL, QUICK, Sizes
from benchmarks.targets import RULES, targets
from benchmarks.tasks import BARE, TUNED
from benchmarks.turn import Turn, Worker

DOCS = Path(__file__).parents[2] / "docs"
_PLAIN = (BARE, TUNED)
_PLAIN_REPETITIONS = 2
"""The bare client is measured so often, except where a target compares with it."""


def main() -> int:
    options = _options()
    if options.report_only:
        results = _read(options.results)
        busy = options.docs / "benchmarks-busy.json"
        report.write_docs(results, _read(busy) if busy.exists() else None, options.docs)
        if (readme := options.docs.parent / "README.md").exists():
            front_door.write(results, readme)
        print(report.text(results))
        return 0
    if any(CASES[name].is_stored for name in options.cases) and not options.quick:
        # Before the namespace, which has no way to what it is built from. If it fails, the case says so.
        with suppress(SystemExit):
            program()
    no_namespace = enter_namespace()
    end_when_asked()
    run = Run(options)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name, beside(options.busy):
        run.all(Path(name), no_namespace)
    print(report.text(run.results))
    return 0 if not run.results["failed"] and all(target.met for target in targets(run.results)) else 1


class Run:
    """All cases that were asked for. What was measured so far is in the file of results after each case."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._s3 = ObjectStore()
        self._sizes: Sizes = QUICK if options.quick else FULL if options.full else DEFAULT
        self.results: dict[str, Any] = {
            "machine": report.machine(),
            "quick": options.quick,
            "busy": options.busy,
            "measured": [],
            "failed": [],
            "skipped": {},
        }

    def all(self, folder: Path, no_namespace: str | None) -> None:
        """Measure them."""
        environment = clean_environment(folder)
        self._environment, self._worker = environment, Worker(environment)
        self._scheduler = Scheduler(folder / "scheduler", environment)
        try:
            for name in self._options.cases:
                if no_namespace and any(profile.rate for profile in CASES[name].profiles):
                    self.results["skipped"][name] = no_namespace
                    continue
                self._case(folder, name)
                if self._options.results:
                    _keep(self.results, self._options.results)
                self._scheduler.stop()
        finally:
            self._scheduler.stop()
            self._worker.stop()

    def _case(self, folder: Path, name: str) -> None:
        sources, profiles = folder / name, CASES[name].profiles
        with ExitStack() as stack:
            try:
                CASES[name].make(sources, self._sizes)
                if CASES[name].is_stored:
                    server = object_store(folder / "objects", self._environment, quick=self._options.quick)
                    self._s3 = stack.enter_context(server)
                    self._s3.fill(sources)
            except (Exception, SystemExit) as error:
                self._failed(name, error)
                return
            self._repeat(folder, name, profiles, 0)
            missed = {target.row[2] for target in targets(self._of(name)) if not target.met}
            if again := [profile for profile in profiles if profile.name in missed]:
                self._repeat(folder, name, again, self._options.repetitions)
        shutil.rmtree(sources)

    def _of(self, name: str) -> dict[str, Any]:
        return {**self.results, "measured": [each for each in self.results["measured"] if each["case"] == name]}

    def _repeat(self, folder: Path, name: str, profiles: Iterable[Profile], first: int) -> None:
        for repetition in range(first, first + min(self._options.repetitions, CASES[name].repetitions or 1_000)):
            for profile in profiles:
                for contender in order(CASES[name].contenders, repetition):
                    if repetition < _PLAIN_REPETITIONS or contender not in _PLAIN or _is_judged(name, contender):
                        self._turn(folder, name, profile, contender, repetition)

    def _turn(self, folder: Path, name: str, profile: Profile, contender: str, repetition: int) -> None:
        label = f"{name}, {profile.name}, {contender}, {repetition + 1}"
        print(f"{label} …", file=sys.stderr, flush=True)
        place = folder / "turn"
        place.mkdir()
        try:
            with HubServer(place / "hub", self._environment, profile) as hub, shaped(profile):
                turn = Turn(
                    *(name, contender, profile, repetition, self._worker, hub, self._s3),
                    *(place, folder / name, self._sizes, self._scheduler),
                )
                CASES[name].run(turn)
            self.results["measured"] += [each.to_json() for each in turn.measured]
        except (Exception, SystemExit) as error:
            self._failed(label, error)
        finally:
            shutil.rmtree(place)

    def _failed(self, what: str, error: BaseException) -> None:
        print(f"{what} failed: {error}", file=sys.stderr, flush=True)
        self.results["failed"].append({"what": what, "error": f"{type(error).__name__}: {error}"[-3000:]})


def _is_judged(case: str, contender: str) -> bool:
    return any(rule.other == contender and case in (rule.cases or ()) for rule in RULES)


def end_when_asked() -> None:
    """End as by Ctrl-C when asked to terminate: servers are stopped and folders removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """Keep one processor busy, if wanted, for as long as the block lasts."""
    if not busy:
        yield
        return
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def clean_environment(folder: Path) -> dict[str, str]:
    """Return this process's environment with an Airflow of its own and without settings of the clients.

    Python keeps its bytecode, as wherever packages are installed.
    """
    ours = ("HF_", "HUGGING", "AIRFLOW", "AWS_", "RUST_LOG", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "dGhpcyBpcyBvbmx5IHVzZWQgaW4gdGhlIHRlc3RzISE=",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "HF_XET_CACHE": str(folder / "no-cache"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "TMPDIR": str(folder),
    }


def _keep(results: dict[str, Any], path: Path) -> None:
    """Write the results; what the file has of other cases stays."""
    known: list[dict[str, Any]] = []
    if path.exists():
        old = _read(path)
        if (old["quick"], old["busy"]) == (results["quick"], results["busy"]):
            cases = {run["case"] for run in results["measured"]}
            known = [run for run in old["measured"] if run["case"] not in cases]
    kept = {**results, "measured": known + results["measured"]}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, judges nothing")
    parser.add_argument("--full", action="store_true", help="the sizes that the documentation speaks of; takes hours")
    parser.add_argument("--busy", action="store_true", help="beside a process that keeps one processor busy")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="only these")
    parser.add_argument("--repetitions", type=int, default=5, help="how often to measure everything (5)")
    parser.add_argument("--folder", type=Path, help="where to keep the data meanwhile; by default the system's")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="JSON; by default docs/benchmarks.json, with --busy docs/benchmarks-busy.json, with --quick none",
    )
    parser.add_argument("--report-only", action="store_true", help="measure nothing; write the results into the docs")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="for --report-only; by default docs")
    options = parser.parse_args()
    if options.quick:
        options.repetitions = 1
    if options.results is None and (options.report_only or not options.quick):
        options.results = options.docs / f"benchmarks{'-busy' if options.busy else ''}.json"
    return options


if __name__ == "__main__":
    sys.exit(main())
