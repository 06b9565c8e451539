"""Upload in two tasks, and publish both uploads in one pull request that also deletes an outdated folder."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator

MODEL = {"repo_id": "local/model"}

with DAG(
    "xethub_commit",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={"folder": "/tmp/model"},  # noqa: S108
):
    weights = XetUploadOperator(
        task_id="weights", source="{{ params.folder }}", patterns="*.bin", commit=False, **MODEL
    )
    texts = XetUploadOperator(
        task_id="texts", source="{{ params.folder }}", patterns="*.json", path_in_repo="config", commit=False, **MODEL
    )

    XetCommitOperator(
        task_id="publish",
        files=[weights.output, texts.output],
        delete="outdated/",
        commit_message="Weights and configuration of {{ run_id }}",
        create_pr=True,
        **MODEL,
    )
