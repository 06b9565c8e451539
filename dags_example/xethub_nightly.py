"""Publish a folder every night, and let another DAG fetch exactly what was published."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, task

from airflow_provider_xethub import files_of
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator

CORPUS = {"repo_id": "local/corpus", "repo_type": "dataset"}
PHOTOS = Asset("hf://datasets/local/corpus/photos")
NIGHTLY = {"catchup": False, "max_active_runs": 1, "tags": ["xethub"], "default_args": {"retries": 3}}

with DAG("xethub_nightly", schedule="@daily", **NIGHTLY):
    publish = XetUploadOperator(
        task_id="publish",
        source="~/nightly/photos",
        path_in_repo="photos",
        commit_message="Photos of {{ run_id }}",
        on_unchanged="skip",
        outlets=[PHOTOS],
        **CORPUS,
    )

    @task(trigger_rule="none_failed")
    def report(published: dict | None = None) -> str:
        return published["url"] if published else "Nothing was new."

    report(publish.output)


# --- the consumer, usually in a file of its own

with DAG("xethub_nightly_consumer", schedule=[PHOTOS], **NIGHTLY):

    @task
    def published(triggering_asset_events=None) -> list[dict]:
        return files_of(triggering_asset_events)

    XetDownloadOperator(task_id="fetch", files=published(), destination="~/nightly/copy", on_empty="skip")
