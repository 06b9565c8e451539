"""Run a real Airflow whose credentials are recognisable, let everything fail, and search all that it leaves behind.

Exits with status 1 if a credential is where it should not be, if a place had nothing to search, or if something did not
happen that should have happened.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from demo import services
from leaks import places, stage
from leaks.cases import Case, cases
from leaks.forms import FORMS
from leaks.play import QUICK_EXAMPLES, Play, operators_in, plan_of_planted
from leaks.report import Allowed, Report
from leaks.search import Piece, Search
from leaks.visitors import Depth, Visitor
from leaks.watch import IN_MEMORY, Watch
from leaks.world import XET_MARK, World, marks

ALLOWED = (
    Allowed("Airflow's Fernet key", "configuration", "Airflow reads it from airflow.cfg", r"airflow\.cfg$"),
    Allowed("provider's Fernet key", "configuration", "the provider reads it from airflow.cfg", r"airflow\.cfg$"),
    Allowed("webhook secret", "configuration", "the API server reads it from airflow.cfg", r"airflow\.cfg$"),
    Allowed("ID token", "identity files", "the platform puts it there, and the provider writes none"),
    Allowed(
        "Xet token",
        "temporary files",
        "a task hands it over in a file with mode 0600, in memory",
        r"^/dev/shm/.*, mode 0600$",
    ),
    Allowed(
        "Xet token",
        "temporary files",
        "xethub-token opens it into a file with mode 0600, and the script of the recipient removes that",
        r"/examples/handed/token\.json, mode 0600$",
    ),
    Allowed(
        "private key of a recipient",
        "temporary files",
        "the recipient has it in a file with mode 0600, until it opens the token",
        r"/examples/handed/key\.json, mode 0600$",
    ),
    *(
        Allowed(kind, places.REQUEST_IDS, "hf_xet logs what a server repeats there, once a DAG imports it first")
        for kind in ("Xet token", "proxy password", "signature of a data URL")
    ),
)
"""Where a credential belongs. Everything else is a leak."""

_STARTED = time.monotonic()


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{time.monotonic() - _STARTED:6.1f} s  {text}", flush=True)


def main() -> int:
    """Run it, and return the exit status."""
    options = _options()
    stage.allow_core_dumps()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="xethub-leaks-"))
    try:
        with ExitStack() as stack:
            report, pieces = _run(folder, stack, is_quick=options.quick, only=options.only)
        say("stopped Airflow; searching")
        report.add(pieces)
        report.add(left_behind(folder / "airflow-run"))
        print(f"\n{report.table()}\n")
        problems = report.all_problems()
        print(*problems[: options.most], sep="\n", file=sys.stderr)
        searched = report.searched.values()
        count, size = sum(each.pieces for each in searched), sum(each.size for each in searched)
        found = f"{len(report.leaks)} leaks, {len(problems)} problems in all" if problems else "Nothing leaked"
        say(f"{found}: searched {count} pieces, {size / 1e6:.0f} MB.")
        return 1 if problems else 0
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _stop(*_: object) -> None:
    """End everything that was started; whoever is impatient must not leave an Airflow running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit("Stopped.")


def _run(folder: Path, stack: ExitStack, *, is_quick: bool, only: Sequence[str]) -> tuple[Report, list[Piece]]:
    """Run Airflow, and return what has to be searched of it while it runs."""
    world = World(folder, cases(is_quick=is_quick, only=only), stack)
    setting = stage.Stage(folder / "airflow-run")
    metrics = stack.enter_context(stage.MetricsSink())
    described = {case.name: _described(world, case) for case in world.cases}
    downloads = str(setting.folder / "downloads")
    plan = {
        "cases": described,
        "broken": described["mixed"],
        "planted": plan_of_planted(setting, world),
        "sources": str(world.sources),
        "downloads": downloads,
    }
    is_quick = is_quick or bool(only)
    names = QUICK_EXAMPLES if is_quick else [path.stem for path in stage.EXAMPLES.glob("*.py")]
    stage.prepare(setting, world, plan, names, metrics.port)
    say(f"started {len(world.hubs)} local Hubs and a proxy")
    with stage.airflow(setting) as process:
        say("Airflow runs: API server, scheduler, DAG processor, triggerer, at DEBUG")
        watched = [setting.folder / "temporary", setting.folder / "examples" / "handed"]
        with Watch(process.pid, watched, setting.database) as watch:
            url = setting.env["AIRFLOW__API__BASE_URL"]
            visitors = [Visitor(url, user, password) for user, password in setting.passwords.items()]
            admin = visitors[0]
            pieces = [admin.ask("POST", "/api/v2/connections", json=fields) for fields in world.connections()]
            play = Play(setting, world, watch, admin, say)
            play.run(is_quick=is_quick)
            world.rotate_identities()
            play.send_webhooks()
            pieces += [*play.test_connections(), *play.webhook_answers]
            core_dumps = play.check_core_dumps()
            runs, examples = play.all_runs(), len(play.all_examples())
            say("all DAGs have ended; asking the API")
            # Of the other cases, what each task left is searched in the database and in files only.
            others = {case.dag_id for case in world.cases} - {case.dag_id for case in cases(is_quick=True)}
            near = {dag_id: run_ids for dag_id, run_ids in runs.items() if dag_id not in others}
            for visitor in visitors:
                depth: Depth = "xcoms" if is_quick or visitor is not admin else "all"
                closely = near if visitor.user in ("admin", "viewer") else {}
                pieces += visitor.ask_for_everything(runs, closely, depth)
                say(f"{visitor.user}: responses by status {dict(sorted(visitor.statuses.items()))}")
    pieces += (seen := watch.pieces())
    pieces += places.opened((piece for piece in seen if piece.place == "triggers"), world.airflow_key)
    pieces += [Piece("metrics", f"datagram {number}", each) for number, each in enumerate(metrics.received, 1)]
    pieces += places.files("identity files", world.identity_files)
    credentials = world.credentials()
    report = Report(Search(marks(credentials)), places.PLACES, ALLOWED, world.planted_in(places.PLACES))
    report.problems += play.problems
    report.problems += _missing(setting.database)
    report.problems += [
        f"The role {visitor.user} was refused nothing: does it have the right one?"
        for visitor in visitors[1:-1]
        if not visitor.refused
    ]
    if dumps := [str(path) for path in folder.rglob("core*") if path.name == "core" or path.name[5:].isdigit()]:
        report.problems.append(f"Core dumps were left: {', '.join(dumps)}")
    tasks = ", ".join(f"{count} {state}" for state, count in sorted(play.states.items()))
    count = sum(len(set(each)) for each in credentials.values())
    unreadable = f"; {len(watch.unreadable)} could not be read" if watch.unreadable else ""
    report.facts = [
        f"Cases reached: {len(play.reached)} of {len(world.cases)}. "
        f"Example DAGs that succeeded: {len(play.examples)} of {examples}.",
        f"Tasks: {tasks}.",
        f"Credentials: {count}, of {len(credentials)} kinds, each in {len(FORMS)} forms.",
        f"Looked {watch.rounds} times at {len(watch.processes)} processes{unreadable}.",
        core_dumps,
    ]
    return report, pieces


def _described(world: World, case: Case) -> dict[str, Any]:
    """Return what the generated DAG of a case has to know."""
    return {
        "name": case.name,
        "tasks": case.tasks,
        "conn_id": case.conn_id,
        "dag_id": case.dag_id,
        "repo_id": world.repo(case).repo_id,
        "records": world.records[case.name],
    }


def left_behind(folder: Path) -> list[Piece]:
    """Return what Airflow left on disk."""
    home, logs = folder / "home", folder / "logs"
    database = folder / "airflow" / "airflow.db"
    return [
        *places.rows(database),
        *places.pages(database),
        *places.files("task logs", folder / "airflow" / "logs"),
        *places.files("component logs", logs / "standalone.log"),
        *places.client_logs(logs / "hf_xet"),
        *places.files("OpenLineage", folder / "openlineage.jsonl"),
        # What may be in them for a while must be gone now.
        *places.files("temporary files", folder / "temporary", folder / "examples" / "handed", *handed_over()),
        *places.files("caches", home),
        *places.files("manifests", folder / "manifests"),
        *places.files("downloads", folder / "downloads"),
        *places.files("configuration", folder / "airflow" / "airflow.cfg"),
    ]


def handed_over() -> list[Path]:
    """Return the files in memory that still have a Xet token of this run."""
    files = (path for path in IN_MEMORY.rglob("*") if path.is_file())
    return [path for path in files if XET_MARK.encode() in path.read_bytes()]


def _missing(database: Path) -> list[str]:
    """Return the operators, sensors and decorators of the provider that no task had."""
    package = services.ROOT / "provider" / "airflow_provider_xethub"
    wanted = {"@task.xethub"}
    for name in ("operators", "sensors"):
        for path in (package / name).glob("*.py"):
            wanted |= {
                each.name
                for each in ast.parse(path.read_text()).body
                if isinstance(each, ast.ClassDef) and each.name.endswith(("Operator", "Sensor"))
            }
    wanted -= _BASES
    return [f"No task was a {name}." for name in sorted(wanted - operators_in(database))]


_BASES = {
    "XetCommittingOperator",
    "XetLimitedOperator",
    "XetOperator",
    "XetPullRequestOperator",
    "XetRepositoryOperator",
    "XetSensor",
    "XetTransferOperator",
}
"""Classes that are never tasks themselves."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make leaks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few cases and examples: two minutes instead of fifteen")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="CASE", help="the quick form, with these cases of the full one, too"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave everything in this folder, which is new")
    parser.add_argument("--most", type=int, default=60, help="print so many problems at most. Default: 60")
    options = parser.parse_args()
    if options.keep:
        options.keep = options.keep.absolute()
        options.keep.mkdir(parents=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
