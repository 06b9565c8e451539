"""Publish to a repository that is created where it is missing, and try it first in one that is deleted at the end."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_xethub.operators.refs import XetCreateTagOperator
from airflow_provider_xethub.operators.repositories import XetCreateRepoOperator, XetDeleteRepoOperator
from airflow_provider_xethub.operators.xethub import XetCopyOperator, XetUploadOperator

SCRATCH = {"repo_id": "local/nightly-scratch", "repo_type": "dataset"}
NIGHTLY = {"repo_id": "local/nightly", "repo_type": "dataset"}

with DAG(
    "xethub_repositories",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 2},
    params={"folder": "/tmp/photos"},  # noqa: S108
):
    scratch = XetCreateRepoOperator(task_id="scratch", **SCRATCH)
    trial = XetUploadOperator(task_id="trial", source="{{ params.folder }}", **SCRATCH)
    create = XetCreateRepoOperator(task_id="create", license="cc-by-4.0", **NIGHTLY)
    publish = XetCopyOperator(task_id="publish", source_repo_id=SCRATCH["repo_id"], patterns="*.csv", **NIGHTLY)
    tag = XetCreateTagOperator(task_id="tag", tag="{{ dag_run.run_after | ds }}", **NIGHTLY)
    # A teardown: it also runs if a task before it has failed.
    delete = XetDeleteRepoOperator(task_id="delete", confirm="local/nightly-scratch", missing_ok=True, **SCRATCH)

    scratch >> trial >> publish >> tag
    create >> publish
    publish >> delete.as_teardown(setups=scratch)
