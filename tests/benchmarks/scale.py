"""How tasks grow: with the number of files, with the size of one file, with mapped tasks, with waiting triggers.

Run it with ``make scale``. Each point is measured once, in a fresh process, with a local Hub of its own that starts
empty; the results are written after each point. ``--report-only`` measures nothing and writes tables and charts into
``docs/scale.md``. What fails is reported, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report, scale_report
from benchmarks.bench import DOCS, clean_environment, end_when_asked
from benchmarks.scale_series import SERIES, Place
from benchmarks.turn import Worker


def main() -> int:
    options = _options()
    if options.report_only:
        results = _read(options.results)
        scale_report.write_docs(results, options.docs)
    else:
        end_when_asked()
        with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as name:
            results = measure(options, Path(name))
    print(scale_report.text(results))
    return 1 if results["failed"] else 0


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the points that were asked for; those of earlier runs stay."""
    known = _read(options.results) if options.results and options.results.exists() else {"points": []}
    results: dict[str, Any] = {"machine": report.machine(), "points": known["points"], "failed": []}
    environment = clean_environment(folder)
    worker = Worker(environment)
    try:
        for name in options.series:
            for x in options.points or (SERIES[name].quick if options.quick else SERIES[name].points):
                print(f"{name}, {x:,} {SERIES[name].unit} …", file=sys.stderr, flush=True)
                place = folder / "place"
                place.mkdir()
                try:
                    found = SERIES[name].measure(Place(worker, place, environment, 1.0 if options.quick else 30.0), x)
                except Exception as error:
                    print(f"{name}, {x} failed: {error}", file=sys.stderr, flush=True)
                    results["failed"].append({"what": f"{name}, {x}", "error": f"{type(error).__name__}: {error}"})
                else:
                    others = [each for each in results["points"] if (each["series"], each["x"]) != (name, x)]
                    results["points"] = sorted(
                        others + [point.to_json() for point in found], key=lambda each: (each["series"], each["x"])
                    )
                shutil.rmtree(place)
                if options.results:
                    options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    finally:
        worker.stop()
    return results


def _read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small points: shows that it works")
    parser.add_argument("--series", nargs="+", choices=list(SERIES), default=list(SERIES), help="only these")
    parser.add_argument("--points", nargs="+", type=int, help="only these numbers of files, bytes, tasks or triggers")
    parser.add_argument("--folder", type=Path, help="where to keep the data meanwhile; by default the system's")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="JSON; by default docs/scale.json, with --quick none"
    )
    parser.add_argument("--report-only", action="store_true", help="measure nothing; write the results into the docs")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="for --report-only; by default docs")
    options = parser.parse_args()
    if options.results is None and (options.report_only or not options.quick):
        options.results = options.docs / "scale.json"
    return options


if __name__ == "__main__":
    sys.exit(main())
