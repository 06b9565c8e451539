"""A task as a worker runs it: a supervisor, which forks the process of the task. ``python -m support.supervised_task``.

The Execution API is in memory, of the supervisor; all else is Airflow's, and configured by the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRACE_ID, RUN_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
"""The trace of the DAG run, and its span, which is the parent of the task's."""


def run(dag_file: Path, dag_id: str, task_id: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a task of a DAG file in processes of its own; standard output has its log.

    :param variables: what the environment has besides that of the test.
    """
    spec = json.dumps({"file": dag_file.name, "dag_id": dag_id, "task_id": task_id})
    environment = {
        **os.environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dag_file.parent),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **variables,
    }
    command = [sys.executable, "-m", __name__, spec]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def main() -> None:
    """Supervise the task that the argument describes; the exit status is that of its process."""
    from airflow.sdk.api.datamodels import _generated as models
    from airflow.sdk.execution_time import supervisor

    from support.airflow_runs import RUN_ID, ExecutionApi

    spec: dict[str, Any] = json.loads(sys.argv[1])
    fields = {
        "id": uuid.uuid4(),
        "task_id": spec["task_id"],
        "dag_id": spec["dag_id"],
        "run_id": RUN_ID,
        "try_number": 1,
        "map_index": -1,
        "dag_version_id": uuid.uuid4(),
        "context_carrier": {"traceparent": f"00-{TRACE_ID}-{RUN_SPAN}-01"},
    }
    known = models.TaskInstance.model_fields  # each Airflow has others
    ti = models.TaskInstance(**{name: value for name, value in fields.items() if name in known})
    supervise = getattr(supervisor, "supervise_task", None) or supervisor.supervise
    sys.exit(
        supervise(
            ti=ti,
            bundle_info=models.BundleInfo(name="dags-folder", version=None),
            dag_rel_path=spec["file"],
            token="",
            client=ExecutionApi().client(),
            subprocess_logs_to_stdout=True,
        )
    )


if __name__ == "__main__":
    main()
