"""Start a DAG on each commit to a repository, and download the files that it changed."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_xethub import changes_of
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger

CORPUS = {"repo_id": "local/corpus", "repo_type": "dataset"}

commits = XetRevisionTrigger(**CORPUS, poke_interval=30)
corpus = Asset("hf://datasets/local/corpus", watchers=[AssetWatcher(name="corpus_commits", trigger=commits)])

with DAG(
    "xethub_watch", schedule=[corpus], catchup=False, tags=["xethub"], default_args={"retries": 3}, max_active_runs=1
):

    @task
    def new_commits(triggering_asset_events=None) -> list[dict]:
        events = triggering_asset_events.get(corpus, [])
        return [event.extra["payload"] for event in events if event.extra.get("payload")]

    @task
    def changes(triggering_asset_events=None) -> dict:
        return changes_of(triggering_asset_events)

    changed = changes()
    new_commits() >> changed
    XetDownloadOperator(task_id="download", files=changed, destination="~/xethub_watch", on_empty="skip")
