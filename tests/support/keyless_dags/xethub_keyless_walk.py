"""What a keyless connection does in one run: a token, uploads, a commit, waiting for another worker, a download."""

from __future__ import annotations

import os

from airflow.sdk import dag

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor

FOLDER = os.environ["KEYLESS_FOLDER"]
WHERE = {"repo_id": "local/keyless", "repo_type": "dataset"}


@dag(schedule=None)
def xethub_keyless_walk():
    token = XetTokenOperator(task_id="token", scope="write", **WHERE)
    upload = XetUploadOperator.partial(task_id="upload", commit=False, token=token.output).expand(
        source=[f"{FOLDER}/in/a.bin", f"{FOLDER}/in/b.csv"]
    )
    commit = XetCommitOperator(task_id="commit", files=upload.output, commit_message="Keyless, {{ run_id }}")
    wait = XetFileSensor(task_id="wait", path="from-another-worker.bin", deferrable=True, poke_interval=1, **WHERE)
    download = XetDownloadOperator(task_id="download", destination=f"{FOLDER}/out", **WHERE)
    token >> upload
    commit >> wait >> download


xethub_keyless_walk()
