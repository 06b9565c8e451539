"""A worker as Airflow's: a process with Airflow in it, from which each task is forked.

Reads one job a line from standard input, JSON: ``{"tasks": […], "at_once": n}``. Writes one line for each: a list with
the result of each task, see :mod:`tasks`, or what went wrong. A task may have a ``limit`` in seconds, and
``killed_when``: ``[url, token, route, count]``, so many requests to the routes of a local Hub with ``route`` in their
names. It is killed with SIGKILL then, as by the kernel where memory runs out.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from pathlib import Path
from typing import Any

# What a task's process has already when Airflow forks it, whatever the task does.
import airflow.sdk
import airflow.sdk.execution_time.supervisor
import airflow.sdk.execution_time.task_runner  # noqa: F401

from benchmarks import tasks

CLIENTS = (
    "hf_xet",
    "huggingface_hub",
    "boto3",
    "s3fs",
    "airflow_provider_xethub.xet.publish.commit",
    "airflow_provider_xethub.xet.cas.session",
)
LIMIT = 900
"""Seconds after which a task is killed, by default: a benchmark goes on without it."""

_POLL_SECONDS = 0.1

MORE = (
    "airflow_provider_xethub.xet.transfer.upload",
    "airflow_provider_xethub.xet.transfer.download",
    "airflow_provider_xethub.operators.xethub",
    "airflow.providers.amazon.aws.fs.s3",
)


def run_all(described: list[dict[str, Any]], at_once: int, folder: Path) -> list[dict[str, Any]]:
    """Run tasks, each in a fork of its own, so many at a time."""
    running: dict[int, int] = {}
    ended: dict[int, dict[str, Any]] = {}
    began = time.monotonic()
    waiting = list(enumerate(described))
    while waiting or running:
        if waiting and len(running) < at_once:
            number, task = waiting.pop(0)
            pid = os.fork()
            if not pid:
                _be_task(task, folder / str(number))
            running[pid] = number
        else:
            pid, status, usage = os.wait4(-1, 0)
            number = running.pop(pid)
            answer = folder / str(number)
            if answer.exists():
                ended[number] = json.loads(answer.read_text())
            elif "killed_when" in described[number] and os.WTERMSIG(status) == signal.SIGKILL:
                cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
                figures = {"seconds": time.monotonic() - began, "cpu": cpu, "peak": peak, "began": began, "read": 0}
                ended[number] = {**figures, "value": None, "pushed": {}}
            else:
                ended[number] = {"error": "the task's process died; after a limit of time it is killed"}
    return [ended[number] for number in range(len(described))]


def _be_task(task: dict[str, Any], answer: Path) -> None:
    began = time.monotonic()
    signal.alarm(task.get("limit", LIMIT))
    if "killed_when" in task:
        threading.Thread(target=_die_when, args=task["killed_when"], daemon=True).start()
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        os.environ.update(task["environment"])
        result = tasks.run(task, began)
    except BaseException:
        result = {"error": traceback.format_exc()[-3000:]}
    try:
        answer.write_text(json.dumps(result))
    finally:
        os._exit(0)


def _die_when(url: str, token: str, route: str, count: int) -> None:
    request = urllib.request.Request(f"{url}/_local/counters", headers={"Authorization": f"Bearer {token}"})
    while True:
        with urllib.request.urlopen(request, timeout=30) as answer:
            counters = json.loads(answer.read())["counters"]
        if sum(each["requests"] for each in counters if route in each["route"]) >= count:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _warm_up() -> None:
    """Let a fork import everything once, so that nobody's first task waits for the disk or the compiler."""
    pid = os.fork()
    if not pid:
        for name in (*CLIENTS, *MORE):
            importlib.import_module(name)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the clients cannot be imported"


def main() -> None:
    loaded = [name for name in CLIENTS if name in sys.modules]
    assert not loaded, f"Airflow itself has loaded {loaded}: a task would not have to."
    _warm_up()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run_all(job["tasks"], job["at_once"], Path(folder))), flush=True)


if __name__ == "__main__":
    main()
