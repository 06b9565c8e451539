"""Let a container upload a file with a token that no task of Airflow can open, and publish it.

The container makes a one-time key. Its public half travels as XCom to the token task, which seals a token to it. What
comes back may be an argument, an environment variable or a rendered template: only the holder of the private half opens
it. Here, ``BashOperator`` stands for ``DockerOperator`` or ``KubernetesPodOperator``; its two tasks share the folder
``work``, as two containers share a volume, and run a program that has ``xethub-token`` and ``hf_xet``, and no Airflow.

Parameters: ``repo_id`` of the dataset, ``file`` to upload, ``work``, an empty folder, and ``bin``, where the container
has its programs.
"""

from __future__ import annotations

import json
from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetTokenOperator

NEW_KEY = """
rm -f "$WORK/key.json"
"$BIN/xethub-token" new-key --key "$WORK/key.json"
"""

UPLOAD = """
printf %s "$SEALED" |
  "$BIN/xethub-token" open --key "$WORK/key.json" --to "$WORK/token.json" --repo "$REPO" --scope write
trap 'rm -f "$WORK/token.json"' EXIT
"$BIN/python" "$BIN/transfer.py" "$WORK/token.json" upload "$FILE" data.bin
"""

CONTAINER = {"WORK": "{{ params.work }}", "BIN": "{{ params.bin }}", "FILE": "{{ params.file }}"}

with DAG(
    "xethub_recipient",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    params={"repo_id": "local/dataset", "file": "/tmp/data.bin", "work": "/tmp/work", "bin": "/usr/bin"},  # noqa: S108
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
) as dag:
    new_key = BashOperator(task_id="new_key", bash_command=NEW_KEY, env=CONTAINER)
    token = XetTokenOperator(
        task_id="token",
        repo_id="{{ params.repo_id }}",
        repo_type="dataset",
        scope="write",
        recipient=new_key.output,
    )
    upload = BashOperator(
        task_id="upload",
        bash_command=UPLOAD,
        env={
            **CONTAINER,
            "SEALED": "{{ ti.xcom_pull(task_ids='token') }}",
            "REPO": "hf://datasets/{{ params.repo_id }}@main",
        },
        output_processor=json.loads,
        retries=0,  # the key is used up: clear new_key to try again
    )
    commit = XetCommitOperator(task_id="commit", files=[upload.output], repo_type="dataset")
    token >> upload
