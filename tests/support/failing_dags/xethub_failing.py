"""Tasks that fail, each in a way that people meet at night; ``tests/system/ui`` looks at their logs.

Without ``retries``, so that the first failure is the last.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor

CORPUS: dict[str, Any] = {"repo_id": "local/failing", "repo_type": "dataset", "xethub_conn_id": "xethub_prod"}
MISSING: dict[str, Any] = {"repo_id": "local/no-such-data", "repo_type": "dataset", "xethub_conn_id": "xethub_prod"}
OUT = "/nowhere/that/is/written"

with DAG("xethub_failing", schedule=None, params={"destination": OUT}):
    folder = "{{ params.destination }}"
    XetDownloadOperator(task_id="not_found", destination=folder, **MISSING)
    XetUploadOperator(task_id="forbidden", source=__file__, **{**CORPUS, "xethub_conn_id": "xethub_readonly"})
    XetDownloadOperator(task_id="hub_down", destination=folder, **{**CORPUS, "xethub_conn_id": "xethub_down"})
    XetDownloadOperator(task_id="damaged", path="a.bin", destination=folder, **CORPUS)
    XetFileSensor(task_id="deferred", path="later.bin", deferrable=True, poke_interval=2, **CORPUS)

    @task.xethub(**MISSING)
    def decorated(file: Any = None) -> None:
        """Never called: its input does not exist."""

    @task
    def hook_in_a_task() -> None:
        from airflow_provider_xethub.hooks.xethub import XetHubConnection

        hook = XetHubConnection("xethub_prod")
        hook.list_files(hook.repo(MISSING["repo_id"], MISSING["repo_type"]))

    decorated()
    hook_in_a_task()
