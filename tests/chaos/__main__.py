"""Run a distributed Airflow whose processes are killed in an order drawn from a seed, and print what does not hold.

100 uploads, commits, sensors and downloads run on two workers, while workers, scheduler, triggerer, Redis and the local
Hub are killed and started again. Exits with status 1 if anything did not hold at the end.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import conftest  # noqa: F401 - sets the environment of all tests, before Airflow is imported
from chaos import deployment, facts, plan, servers
from chaos.run import Chaos, Happened, retries_by_task
from chaos.verdict import Facts, misses
from support.celery_airflow import descendants, kill_tree


def main() -> int:
    options = _options()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    offset = 0 if options.right_clock or not shutil.which("cc") else plan.clock_offset(seed)
    items = plan.items(seed, options.tasks)
    # An interrupted run ends what it started, as a finished one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers.adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="xethub-chaos-"))
    began = time.monotonic()
    failed = ["the run did not end"]
    try:
        _say(f"Seed {seed}: {options.tasks} tasks of each kind on {options.executor}. Starting the servers …")
        if not offset and not options.right_clock:
            _say("There is no C compiler (apt-get install gcc libc6-dev): all clocks are right.")
        _write_sources(folder, seed, items)
        with deployment.fleet(folder, options.executor, offset) as fleet:
            clock = f"; the clock of {deployment.SKEWED} is {offset:+d} s off" if offset else ""
            _say(f"Ready after {time.monotonic() - began:.0f} s{clock}.")
            chaos = Chaos(fleet, seed, items, options.minutes, _say)
            try:
                chaos.run()
                for line in facts.unfinished(fleet, chaos.run_id):
                    _say(f"Not done: {line}")
                running = chaos.leave()
                found = facts.gather(fleet, seed, items, chaos.run_id, running)
            finally:
                chaos.leave(0)
        failed = misses(found)
        for line in failed:
            _say(f"MISS {line}")
        _say(_table(seed, options, offset, chaos.happened, found, failed))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for pid in descendants(servers.own_pid()):
            kill_tree(pid)
        if options.keep or failed:
            _say(f"Logs and data are in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="what files and kills are drawn from. Default: a new one each time")
    parser.add_argument("--tasks", type=int, default=100, help="uploads, commits, sensors and downloads. Default: 100")
    parser.add_argument("--minutes", type=float, default=30, help="no further kill after so many minutes. Default: 30")
    parser.add_argument("--executor", choices=["celery", "edge"], default="celery", help="Default: celery")
    parser.add_argument("--right-clock", action="store_true", help="leave the clocks of both workers alone")
    parser.add_argument("--keep", action="store_true", help="keep logs and data also if everything held")
    options = parser.parse_args()
    if options.tasks < 1:
        parser.error("--tasks must be at least 1")
    return options


def _write_sources(folder: Path, seed: int, items: Sequence[plan.Item]) -> None:
    for item in items:
        (place := folder / "sources" / item.name).mkdir(parents=True)
        for name, content in item.files(seed).items():
            (place / name).write_bytes(content)
    (folder / "shared").mkdir()


def _table(
    seed: int, options: argparse.Namespace, offset: int, happened: Happened, found: Facts, failed: Sequence[str]
) -> str:
    done = sum(each.state == "success" for each in found.tasks)
    complete = {each.item for each in found.downloads if each.files == found.wanted_downloads.get(each.item)}
    retries = retries_by_task(found)
    published = sum(found.files.get(path) == wanted for path, wanted in found.wanted_files.items())
    rows = {
        "Seed": seed,
        "Executor": options.executor,
        "Clock of one worker": f"{offset:+d} s" if offset else "right",
        "Seconds": round(happened.seconds),
        "Kills": f"{happened.kills.total()}: {_counts(happened.kills)}",
        "Aimed at a request": happened.aimed,
        "Tasks hit by kills": happened.tasks_hit,
        "Ended by themselves": _counts(happened.by_themselves) or 0,
        "Tasks succeeded": f"{done} of {found.wanted_tasks}",
        "Retries": f"{sum(total for total, _ in retries.values())}, at most "
        f"{max((most for _, most in retries.values()), default=0)} of one task: "
        + (", ".join(f"{task} {total} (at most {most})" for task, (total, most) in retries.items()) or "none"),
        "Commits": f"{len(found.commits)} found, {len(found.wanted_commits)} wanted",
        "Published files": f"{published} of {len(found.wanted_files)}; {len(found.files)} found",
        "Downloads": f"{len(complete)} of {len(found.wanted_downloads)}",
        "Temporary files": f"{len(found.temporary)}; {len(found.abandoned)} of killed tasks on workers where the task "
        "did not run again",
        "Branches, tags and pull requests": len(found.refs) + len(found.pull_requests),
        "Places with a credential": len(found.credentials),
        "Misses": len(failed),
    }
    return "\n" + "\n".join(f"{name:<34}{value}" for name, value in rows.items())


def _counts(counted: object) -> str:
    assert hasattr(counted, "items")
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted; all processes have ended.")
