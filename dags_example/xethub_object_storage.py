"""Publish what is new in a bucket of S3, and write what others published into another one.

The bytes are streamed: they never touch the worker's disk. Every storage that Airflow supports works in the same way.

Parameters: ``inbox`` and ``outbox``, URIs such as ``s3://aws_default@lake/inbox/``. ``aws_default`` is the Airflow
connection. By default, both are folders on the worker.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator

CORPUS = {"repo_id": "local/corpus", "repo_type": "dataset"}

with DAG(
    "xethub_object_storage",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3},
    params={"inbox": "file:///tmp/inbox/", "outbox": "file:///tmp/outbox/"},
):
    upload = XetUploadOperator(
        task_id="upload", source="{{ params.inbox }}", path_in_repo="inbox", on_empty="skip", **CORPUS
    )
    download = XetDownloadOperator(
        task_id="download",
        patterns="published/*",
        destination="{{ params.outbox }}",
        on_empty="skip",
        trigger_rule="none_failed",  # also if there was nothing new
        **CORPUS,
    )

    upload >> download
