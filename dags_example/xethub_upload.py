"""Publish a folder in one commit."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetUploadOperator

with DAG(
    "xethub_upload",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={"folder": "/tmp/model"},  # noqa: S108
):
    XetUploadOperator(
        task_id="upload",
        source="{{ params.folder }}",
        repo_id="local/model",
        commit_message="Training run {{ run_id }}",
    )
