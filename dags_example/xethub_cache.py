"""Fill the Hugging Face cache of a volume, and read it without the Hub."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.operators.xethub import XetDownloadOperator

REPO_ID = "local/penguins"

with DAG(
    "xethub_cache",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 2},
    params={"cache": "/tmp/huggingface-cache"},  # noqa: S108
):
    fill = XetDownloadOperator(
        task_id="fill_cache", repo_id=REPO_ID, repo_type="dataset", destination=HubCache("{{ params.cache }}")
    )

    @task
    def read_offline(snapshot: str, cache: str) -> bool:
        """Find the files as every library of Hugging Face does, and see that it is the folder of the first task."""
        from huggingface_hub import snapshot_download

        return snapshot_download(REPO_ID, repo_type="dataset", cache_dir=cache, local_files_only=True) == snapshot

    read_offline(fill.output["snapshot"], "{{ params.cache }}")
