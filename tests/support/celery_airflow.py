"""A real distributed Airflow for tests: CeleryExecutor, Redis, and workers that share nothing but the network.

Each worker has a HOME, an AIRFLOW_HOME with its logs, client caches and a copy of the DAGs of its own, and cannot reach
the metadata database. Everything is started here, and ended by its process id.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import services

PATIENCE = 300.0
"""Seconds that anything may take: the machine may be busy."""

FINISHED = {"success", "failed", "upstream_failed", "skipped", "removed"}
_ONLY_FOR_SERVERS = ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")


@dataclass
class Worker:
    """A Celery worker.

    :param name: also its user name, by which Airflow says where a task ran, and its own queue.
    :param queues: what else it takes tasks from.
    :param env: what only its environment has.
    """

    name: str
    queues: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    home: Path = Path()
    process: subprocess.Popen[bytes] | None = None


class Fleet:
    """The running Airflow and its workers."""

    def __init__(self, folder: Path, env: Mapping[str, str], dags: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.env = dict(env)
        self.workers: dict[str, Worker] = {}
        self.airflow: services.Airflow
        self._dags = dags
        self._stack = stack

    def start(self, worker: Worker) -> None:
        """Start a worker; again, if it was killed."""
        place = self.folder / "workers" / worker.name
        worker.home = place / "home"
        if not place.exists():
            worker.home.mkdir(parents=True)
            shutil.copytree(self._dags, place / "dags")
        log = self.folder / "logs" / f"worker-{worker.name}.log"
        log.unlink(missing_ok=True)
        env = {name: value for name, value in self.env.items() if name not in _ONLY_FOR_SERVERS}
        env |= {
            "HOME": str(worker.home),
            "USER": worker.name,
            "LOGNAME": worker.name,
            "HF_HOME": str(worker.home / "huggingface"),
            "HF_XET_CACHE": str(worker.home / "xet"),
            "AIRFLOW_HOME": str(place / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"),
            **worker.env,
        }
        queues = ",".join((worker.name, *worker.queues))
        command = [str(services.BIN / "airflow"), "celery", "worker", "--celery-hostname", worker.name]
        command += [
            "--queues",
            queues,
            "--concurrency",
            "2",
            "--skip-serve-logs",
            "--without-mingle",
            "--without-gossip",
        ]
        name = f"The worker {worker.name}"
        process = self._stack.enter_context(running(name, command, env, log))
        worker.process = process
        self.workers[worker.name] = worker

    def wait_for_workers(self) -> None:
        for worker in self.workers.values():
            log = self.folder / "logs" / f"worker-{worker.name}.log"
            assert worker.process is not None
            ready = f"{worker.name} ready."
            services.wait_for(
                f"Worker {worker.name}", lambda log=log, ready=ready: ready in log.read_text(), worker.process, log
            )

    def kill(self, worker: Worker) -> None:
        """Kill a worker and all that it started, as if its machine had lost power."""
        assert worker.process is not None
        kill_tree(worker.process.pid)
        worker.process.wait()

    def run(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """Start a run, as soon as the DAG is known."""
        until(lambda: self.airflow.get(f"/dags/{dag_id}"), PATIENCE, f"DAG {dag_id}")
        return self.airflow.start_run(dag_id, conf)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        tasks: list[dict[str, Any]] = []
        while page := self.airflow.get(path, limit=100, offset=len(tasks))["task_instances"]:
            tasks += page
        return tasks

    def finish(self, dag_id: str, run_id: str, patience: float = PATIENCE) -> tuple[str, list[dict[str, Any]]]:
        """Wait until the run and its last teardown are over; return the run's state and its task instances."""

        def over() -> tuple[str, list[dict[str, Any]]] | None:
            state = self.airflow.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            if state not in FINISHED:
                return None
            tasks = self.tasks(dag_id, run_id)
            return (state, tasks) if all(task["state"] in FINISHED for task in tasks) else None

        return until(over, patience, f"the run {run_id}")

    def logs(self) -> Iterator[Path]:
        """All log files: of the servers, of the workers, of the tasks on each worker."""
        yield from (path for path in self.folder.rglob("*.log") if path.is_file())

    def tails(self, lines: int = 25) -> str:
        """The end of every log file, for a test that failed."""
        shown = []
        for path in sorted(self.logs()):
            end = path.read_text(errors="replace").splitlines()[-lines:]
            shown.append("\n".join([f"--- {path.relative_to(self.folder)}", *end]))
        return "\n".join(shown)


@contextmanager
def celery_airflow(folder: Path, dags: Path, workers: list[Worker]) -> Iterator[Fleet]:
    """Run Airflow with these workers for as long as the block lasts."""
    redis = shutil.which("redis-server")
    assert redis, "redis-server is not installed: apt-get install redis-server"
    with ExitStack() as stack:
        port = services.free_port()
        broker = f"redis://127.0.0.1:{port}"
        env = services.environment(folder) | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "16",
            "AIRFLOW__CELERY__BROKER_URL": f"{broker}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker}/1",
            # A worker that is gone is noticed soon.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
        }
        log = folder / "logs" / "redis.log"
        command = [redis, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        process = stack.enter_context(running("Redis", [*command, "--dir", str(folder)], env, log))
        services.wait_for("Redis", lambda: "Ready to accept connections" in log.read_text(), process, log)
        make_database(env)
        fleet = Fleet(folder, env, dags, stack)
        try:
            for worker in workers:
                fleet.start(worker)
            fleet.airflow = stack.enter_context(services.airflow(folder, env))
            fleet.wait_for_workers()
            services.require_loopback(process, *(worker.process for worker in workers if worker.process))
        except SystemExit as error:
            raise AssertionError(f"{error}\n{fleet.tails()}") from None
        yield fleet


def make_database(env: Mapping[str, str]) -> None:
    command = [str(services.BIN / "airflow"), "db", "migrate"]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout[-2000:] + done.stderr[-2000:]


@contextmanager
def running(name: str, command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and end with it the tasks that it started: those are in process groups of their own."""
    with services.running(name, command, env, log) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_tree(process.pid, below=True)


def kill_tree(pid: int, *, below: bool = False) -> None:
    """Kill a process and all below it, with SIGKILL; or only those ``below``."""
    pids = descendants(pid) if below else [pid, *descendants(pid)]
    for each in pids:
        # Stopped first, so that none starts another meanwhile.
        signal_to(each, signal.SIGSTOP)
    for each in [*pids, *descendants(pid)]:
        signal_to(each, signal.SIGKILL)


def signal_to(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """The processes below this one, now."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has ended
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found = list(parents.get(pid, []))
    for each in found:
        found += parents.get(each, [])
    return found


def until(check: Callable[[], Any], patience: float, what: str) -> Any:
    """Return what ``check`` returns, as soon as it is true."""
    deadline = time.monotonic() + patience
    while not (value := check()):
        assert time.monotonic() < deadline, f"{what}: not within {patience:.0f} s"
        time.sleep(0.2)
    return value


def connection(conn_id: str, **fields: Any) -> dict[str, str]:
    """The environment variable that is a connection."""
    return {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields)}
