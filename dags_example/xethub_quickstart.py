"""Publish a folder with one mapped task for each file, wait for it, and read it back.

One task fetches a write token. Mapped tasks upload with it, on workers that have no Hub credential. One task
publishes all files in one commit. A sensor waits for a file to arrive. With a read token, the last transfer downloads
and verifies the files. At the end both tokens are deleted.

Parameters: ``folder`` to publish, ``destination`` to download into. Connection: ``xethub_default``.
"""

from __future__ import annotations

import filecmp
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor

CORPUS = {"repo_id": "local/penguins", "repo_type": "dataset"}

with DAG(
    "xethub_quickstart",
    description="Scoped tokens, parallel upload, one commit, a sensor, a verified download",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    doc_md=__doc__,
    params={
        "folder": Param("/tmp/penguins", type="string", description="Folder to publish"),  # noqa: S108
        "destination": Param("/tmp/penguins-copy", type="string", description="Folder to download into"),  # noqa: S108
    },
):

    @task
    def find_files(params: dict) -> list[str]:
        return sorted(str(path) for path in Path(params["folder"]).iterdir())

    @task
    def compare(files: list[dict], params: dict) -> int:
        for file in files:
            original = Path(params["folder"], file["path"])
            if not filecmp.cmp(original, file["local_path"], shallow=False):
                raise ValueError(f"{file['path']} differs from the uploaded file")
        return len(files)

    write_token = XetTokenOperator(task_id="write_token", scope="write", **CORPUS)

    upload = XetUploadOperator.partial(
        task_id="upload", commit=False, token=write_token.output, xethub_conn_id=None
    ).expand(source=find_files())

    publish = XetCommitOperator(
        task_id="publish", files=upload.output, commit_message="Penguins of {{ run_id }}", **CORPUS
    )

    arrived = XetFileSensor(
        task_id="arrived", path="penguins.csv", mode="reschedule", poke_interval=30, timeout=600, **CORPUS
    )

    read_token = XetTokenOperator(task_id="read_token", scope="read", **CORPUS)

    download = XetDownloadOperator(
        task_id="download",
        files=publish.output,
        destination="{{ params.destination }}",
        token=read_token.output,
        xethub_conn_id=None,
    )

    forget_tokens = XetForgetTokenOperator(task_id="forget_tokens").as_teardown(setups=[write_token, read_token])

    # A token is not a template field, so a mapped task needs this dependency written out.
    write_token >> upload
    publish >> arrived >> read_token
    download >> forget_tokens
    compare(download.output)
