"""Let a program that is not Airflow upload with a Xet token, and publish what it uploaded.

The program is ``docs/examples/hand_over/transfer.py``, in any environment that has ``hf_xet``: a virtual environment
without Airflow, or a container. It gets the token as a file that is gone when the task ends, and prints a Xet file
record.

Parameters: ``python``, the interpreter of that environment, ``program``, ``file`` to upload, and ``path_in_repo``.
"""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetForgetTokenOperator, XetTokenOperator

CORPUS = {"repo_id": "local/corpus", "repo_type": "dataset"}

with DAG(
    "xethub_hand_over",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    params={
        "python": "/opt/transfer/bin/python",
        "program": "/opt/transfer/transfer.py",
        "file": "/tmp/report.parquet",  # noqa: S108
        "path_in_repo": "reports/today.parquet",
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
):
    token = XetTokenOperator(task_id="token", scope="write", **CORPUS)

    @task(execution_timeout=timedelta(hours=2))
    def upload(token: dict, params: dict) -> list[dict]:
        with XetHubConnection().hand_over(token, scope="write") as path:
            command = [params["python"], params["program"], path, "upload", params["file"], params["path_in_repo"]]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    uploaded = upload(token.output)
    publish = XetCommitOperator(
        task_id="publish", files=uploaded, commit_message="Report of {{ dag_run.run_after | ds }}", **CORPUS
    )
    uploaded >> XetForgetTokenOperator(task_id="forget_token").as_teardown(setups=token)
