"""Run the task of a pod in a process of its own, for a test to stop or to kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from support.airflow_runs import new_dag, run_one

DAG_ID = "pods"


def pod_task(secret: Mapping[str, Any], **arguments: Any) -> Any:
    """Return a ``KubernetesPodOperator`` with a ``XetTokenSecret`` of these arguments."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    from airflow_provider_xethub.callbacks.kubernetes import XetTokenSecret
    from support.kubernetes_api import NAMESPACE

    with new_dag() as dag:
        # The labels of pods and Secrets have it, and a later attempt is of the same DAG.
        dag.dag_id = DAG_ID
        given: dict[str, Any] = {"callbacks": [XetTokenSecret(**secret)], **arguments}
        return KubernetesPodOperator(
            task_id="pod",
            name="pod",
            namespace=NAMESPACE,
            image="python",
            in_cluster=False,
            startup_check_interval_seconds=0,
            base_container_status_polling_interval=0.05,
            retries=2,
            **given,
        )


@contextmanager
def pod_process(secret: Mapping[str, Any], **arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Run such a task in another process; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.pod_task", json.dumps([secret, arguments])],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def main() -> None:
    secret, arguments = json.loads(sys.argv[1])
    run_one(pod_task(secret, **arguments))


if __name__ == "__main__":
    main()
