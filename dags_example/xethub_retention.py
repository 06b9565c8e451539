"""Publish a version every night, keep the newest seven, and free the storage of all others."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.refs import (
    XetCreateTagOperator,
    XetDeleteTagOperator,
    XetSquashHistoryOperator,
)
from airflow_provider_xethub.operators.repositories import XetDeleteUnreferencedFilesOperator
from airflow_provider_xethub.operators.xethub import XetUploadOperator

VERSIONS = {"repo_id": "local/versions", "repo_type": "dataset"}
KEPT = 7

with DAG(
    "xethub_retention",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["xethub"],
    default_args={"retries": 2},
    params={"folder": "/tmp/photos"},  # noqa: S108
):
    publish = XetUploadOperator(task_id="publish", source="{{ params.folder }}", create_repo=True, **VERSIONS)
    # Before the tag: a tag keeps the history of its commit, and with it all versions before.
    squash = XetSquashHistoryOperator(task_id="squash", commit_message="{{ dag_run.run_after | ds }}", **VERSIONS)
    tag = XetCreateTagOperator(task_id="tag", tag="{{ dag_run.run_after | ds }}", **VERSIONS)

    @task
    def outdated() -> list[str]:
        """Return the tags to delete; their names are dates, so they are sorted by age."""
        hook = XetHubConnection()
        refs = hook.list_refs(hook.repo(VERSIONS["repo_id"], VERSIONS["repo_type"]))
        return [ref["name"] for ref in refs if ref["kind"] == "tag"][:-KEPT]

    names = outdated()
    delete = XetDeleteTagOperator.partial(task_id="delete", missing_ok=True, **VERSIONS).expand(tag=names)
    # It only lists what it would delete, until you set dry_run=False.
    free = XetDeleteUnreferencedFilesOperator(task_id="free", dry_run=True, trigger_rule="none_failed", **VERSIONS)

    publish >> squash >> tag >> names
    delete >> free
