"""How fast the operators are beside what DAG authors write today, and beside the bare transfer client.

Everything in one run, so that all meet the same machine. Each contender moves the same files to and from a local Hub, a
process of its own with an empty folder, as it is and with 50 ms added to each request. Each task is a fresh process,
forked from one that has Airflow in it, as on an Airflow worker; caches are empty unless the step says "again" or
"changed"; the order is shuffled; every downloaded byte is compared with its source.

Run it with ``make bench``. ``--report-only`` measures nothing and writes tables and charts into ``docs/benchmarks.md``.
Exits with status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from cases import CASES, QUICK, Measured, Sizes, Turn, Worker, make_sources, order
from servers import HubServer, S3Server

DELAYS = (0.0, 0.05)
DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    options = _options()
    if not options.report_only:
        measured = measure(options)
        results = {"machine": report.machine(), "quick": options.quick, "measured": [run.to_json() for run in measured]}
        if options.results:
            _keep(results, options.results)
    else:
        results = json.loads(options.results.read_text(encoding="utf-8"))
    print(report.text(results))
    if options.report_only:
        report.write_docs(results, options.docs)
        return 0
    return 0 if all(target.met for target in report.targets(results)) else 1


def measure(options: argparse.Namespace) -> list[Measured]:
    """Measure the cases that were asked for."""
    sizes = QUICK if options.quick else Sizes()
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        folder = Path(name)
        environment = clean_environment(folder)
        worker, s3 = Worker(environment), S3Server(environment)
        try:
            for case in options.cases:
                make_sources(folder, case, sizes, s3)
                for repetition in range(min(options.repetitions, CASES[case].most)):
                    for delay in DELAYS:
                        for contender in order(CASES[case].contenders, repetition):
                            label = f"{case}, +{delay * 1000:.0f} ms, {contender}, {repetition + 1}"
                            print(f"{label} …", file=sys.stderr, flush=True)
                            turn = folder / "turn"
                            turn.mkdir()
                            with HubServer(turn / "hub", environment, delay) as hub:
                                place = (worker, hub, s3, turn, folder, sizes, measured)
                                CASES[case].run(Turn(case, contender, delay, repetition, *place))
                            shutil.rmtree(turn)
                shutil.rmtree(folder / case)
        finally:
            worker.stop()
            s3.stop()
    return measured


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
        "TMPDIR": str(folder),
    }


def _keep(results: dict[str, Any], path: Path) -> None:
    """Write the results; what the file has of other cases stays."""
    known: list[dict[str, Any]] = []
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["quick"] == results["quick"]:
            cases = {run["case"] for run in results["measured"]}
            known = [run for run in old["measured"] if run["case"] not in cases]
    path.write_text(json.dumps({**results, "measured": known + results["measured"]}, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, judges nothing")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="only these")
    parser.add_argument("--repetitions", type=int, default=3, help="how often to measure everything (3)")
    parser.add_argument("--folder", type=Path, help="where to keep the data meanwhile; by default the system's")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="JSON; by default docs/benchmarks.json, with --quick none"
    )
    parser.add_argument("--report-only", action="store_true", help="measure nothing; write the results into the docs")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="for --report-only; by default docs")
    options = parser.parse_args()
    if options.quick:
        options.repetitions = 1
    if options.results is None and (options.report_only or not options.quick):
        options.results = options.docs / "benchmarks.json"
    return options


if __name__ == "__main__":
    sys.exit(main())
