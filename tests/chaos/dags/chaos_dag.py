"""The DAG that runs while its processes are killed: what it uploads, commits, waits for and downloads is in its params.

Files are uploaded and committed in three ways. Sensors wait in the triggerer for what the first of them commits, and
downloads follow.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor

REPO: Any = {"repo_id": "{{ params.repo_id }}", "repo_type": "dataset"}
LISTS = ("published", "fetched", "direct", "parts")


@task
def of(name: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return what to map over."""
    return list((params or {})[name])


with DAG(
    "chaos",
    schedule=None,
    params={"repo_id": Param("", type="string"), **{name: Param([], type="array") for name in LISTS}},
    # How many are used is what the run is to show.
    default_args={"retries": 40, "retry_delay": timedelta(seconds=1)},
):

    @task_group
    def publish(source: Any, path_in_repo: Any, message: Any) -> None:
        upload = XetUploadOperator(task_id="upload", commit=False, source=source, path_in_repo=path_in_repo, **REPO)
        XetCommitOperator(task_id="commit", files=upload.output, commit_message=message, **REPO)

    @task_group
    def fetch(paths: Any, destination: Any) -> None:
        wait = XetFileSensor(
            task_id="wait", paths=paths, deferrable=True, poke_interval=2, timeout=7200, priority_weight=5, **REPO
        )
        XetDownloadOperator(task_id="download", files=wait.output, destination=destination, **REPO)

    publish.expand_kwargs(of.override(task_id="published")("published"))
    fetch.expand_kwargs(of.override(task_id="fetched")("fetched"))

    XetUploadOperator.partial(task_id="direct", **REPO).expand_kwargs(of.override(task_id="directs")("direct"))

    token = XetTokenOperator(task_id="token", scope="write", **REPO)
    parts = XetUploadOperator.partial(task_id="part", commit=False, token=token.output).expand_kwargs(
        of.override(task_id="parts")("parts")
    )
    commit = XetCommitOperator(task_id="commit_parts", files=parts.output, commit_message="all parts")
    token >> parts
    commit >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)
