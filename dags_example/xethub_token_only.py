"""Download a model on workers that have a read token and nothing else: neither the connection nor a Hub token.

The worker of the queue ``hub`` has the connection. It lists the files, and fetches a token. The records contain the
content of small files that are not in CAS, such as ``README.md`` and ``config.json``. The workers of the queue ``gpu``
have only the Fernet key, which opens the token and this content.

Parameters: ``repo_id`` and ``revision`` of the model, ``destination``, a folder that the workers of ``gpu`` share.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_xethub.operators.xethub import (
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetTokenOperator,
)

MODEL = {"repo_id": "{{ params.repo_id }}", "revision": "{{ params.revision }}"}

with DAG(
    "xethub_token_only",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    params={"repo_id": "local/model", "revision": "main", "destination": "/tmp/model-copy"},  # noqa: S108
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
):
    files = XetListOperator(task_id="list_files", queue="hub", **MODEL)
    token = XetTokenOperator(task_id="token", queue="hub", **MODEL)
    download = XetDownloadOperator(
        task_id="download",
        files=files.output,
        destination="{{ params.destination }}",
        token=token.output,
        xethub_conn_id=None,
        queue="gpu",
    )

    @task(queue="gpu")
    def load(files: list[dict]) -> str:
        [config] = [file["local_path"] for file in files if file["path"] == "config.json"]
        return json.loads(Path(config).read_text())["model_type"]

    files >> token  # as late as possible: it expires within minutes
    load(download.output)
    download >> XetForgetTokenOperator(task_id="forget_token", queue="hub").as_teardown(setups=token)
