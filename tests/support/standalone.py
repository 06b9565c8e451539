"""``airflow standalone`` for tests: every component of Airflow under one process, as a newcomer starts it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from demo import services
from support.celery_airflow import FINISHED, running, until

PATIENCE = 600
"""Seconds that anything may take: the machine may be busy."""

# On a busy machine a component may stand still for longer than Airflow thinks possible.
PATIENT = {
    "AIRFLOW__API__WORKER_TIMEOUT": str(PATIENCE),
    "AIRFLOW__DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": str(PATIENCE),
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(PATIENCE),
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(PATIENCE),
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": str(PATIENCE),
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(PATIENCE),
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
}


@contextmanager
def standalone(folder: Path, *dags: Path, variables: Mapping[str, str] | None = None) -> Iterator[services.Airflow]:
    """Run it for as long as the block lasts, and yield its public API; at the end nothing of it is left running.

    :param dags: folders with DAGs; a copy of them is used.
    :param variables: what else its environment has.
    """
    for each in dags:
        shutil.copytree(each, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    env = services.environment(folder) | {
        **(variables or {}),
        "PYTHONPATH": str(Path(__file__).parent / "loopback"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # The second time that a DAG file is read, the assets of the first are active, and are watched.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
        "HF_XET_CACHE": str(folder / "home" / "xet"),
        **PATIENT,
    }
    log = folder / "logs" / "standalone.log"
    url = env["AIRFLOW__API__BASE_URL"]
    with running("Airflow", [str(services.BIN / "airflow"), "standalone"], env, log) as process:

        def healthy() -> bool:
            health = requests.get(f"{url}/api/v2/monitor/health", timeout=5).json()
            return all(part and part.get("status") == "healthy" for part in health.values())

        services.wait_for("Airflow", healthy, process, log, patience=PATIENCE)
        services.require_loopback(process)
        yield services.Airflow(url)


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    airflow: services.Airflow
    dag_id: str
    run_id: str

    def path(self, task: str = "", tab: str = "") -> str:
        """The address of a page of the run, or of one of its task instances; ``task`` may end in ``/mapped/0``."""
        path = f"/dags/{self.dag_id}/runs/{self.run_id}"
        path += f"/tasks/{task}" if task else ""
        return path + (f"/{tab}" if tab else "")

    def states(self) -> dict[str, str]:
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances"
        tasks = self.airflow.get(path, limit=100)["task_instances"]
        return {f"{task['task_id']}[{task['map_index']}]".replace("[-1]", ""): task["state"] for task in tasks}

    def finish(self, *, fails: bool = False) -> None:
        """Wait until all of it has succeeded, or, with ``fails``, has ended."""

        def over() -> bool:
            states = self.states()
            assert fails or not {"failed", "upstream_failed"} & set(states.values()), states
            run = self.airflow.get(f"/dags/{self.dag_id}/dagRuns/{self.run_id}")
            return run["state"] in FINISHED and set(states.values()) <= FINISHED

        until(over, PATIENCE, f"the end of {self.run_id}")
