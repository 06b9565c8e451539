"""A real Airflow for whole tasks: API server, scheduler with its executor, and DAG processor."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from benchmarks.profiles import NEAR
from benchmarks.servers import HubServer
from benchmarks.tasks import HUB, OPERATORS
from demo import services

_DAGS = Path(__file__).with_name("dags")
_PATIENCE = 300.0
WHOLE = {OPERATORS: "whole_operators", HUB: "whole_huggingface_hub"}
"""The DAG of each contender."""


class Scheduler:
    """Starts with the first run, with a Hub of its own that stays.

    :param folder: for its data.
    :param environment: of the Hub.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._stack = ExitStack()
        self._airflow: services.Airflow | None = None

    def run(self, dag_id: str, conf: Mapping[str, str]) -> dict[str, float]:
        """Run a DAG; return the seconds of each task from its start to its end, and under ``""`` those of the run."""
        airflow = self._airflow or self._start()
        run_id = airflow.start_run(dag_id, conf)
        deadline = time.monotonic() + _PATIENCE
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        while (run := airflow.get(path))["state"] not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"The run of {dag_id} did not end within {_PATIENCE:.0f} seconds.")
            time.sleep(0.2)
        tasks = airflow.get(f"{path}/taskInstances")["task_instances"]
        if run["state"] == "failed":
            states = {each["task_id"]: each["state"] for each in tasks}
            raise RuntimeError(f"The run of {dag_id} failed: {states}. The logs are below {self._folder}.")
        seconds = {each["task_id"]: _between(each["start_date"], each["end_date"]) for each in tasks}
        return {**seconds, "": _between(run["queued_at"], run["end_date"])}

    def stop(self) -> None:
        """End it, if it was started."""
        self._stack.close()
        self._airflow = None

    def _start(self) -> services.Airflow:
        hub = self._stack.enter_context(HubServer(self._folder / "hub", self._environment, NEAR))
        connection = json.dumps({"conn_type": "xethub", "host": hub.url, "password": hub.token})
        env = {
            **services.environment(self._folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
            "AIRFLOW_CONN_XETHUB_DEFAULT": connection,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_XET_CACHE": str(self._folder / "home" / "xet"),
        }
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run([str(services.BIN / "airflow"), "db", "migrate"], env=env, check=True, capture_output=True)
        self._airflow = self._stack.enter_context(services.airflow(self._folder, env))
        deadline = time.monotonic() + _PATIENCE
        while len(self._airflow.get("/dags")["dags"]) < len(WHOLE) and time.monotonic() < deadline:
            time.sleep(0.5)
        # The first tasks wait for the disk and the compiler.
        warm = self._folder / "warm.bin"
        warm.write_bytes(b"warm")
        for number, dag_id in enumerate(WHOLE.values()):
            self.run(dag_id, {"source": str(warm), "name": f"warm-{number}.bin", "back": str(self._folder / "back")})
        return self._airflow


def _between(start: str, end: str) -> float:
    return (_moment(end) - _moment(start)).total_seconds()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not know Z
