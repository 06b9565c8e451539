"""Fetch a token that one task of this run may use, use it there without a connection, and delete it in any case."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetForgetTokenOperator, XetTokenOperator, XetUploadOperator

with DAG(
    "xethub_token",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={"file": "/tmp/model/weights.bin"},  # noqa: S108
):
    token = XetTokenOperator(task_id="token", scope="write", repo_id="local/model", bind="run", consumers=["upload"])

    upload = XetUploadOperator(
        task_id="upload", source="{{ params.file }}", commit=False, token=token.output, xethub_conn_id=None
    )

    upload >> XetForgetTokenOperator(task_id="forget_token").as_teardown(setups=token)
