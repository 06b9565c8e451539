"""Release a dataset: open a pull request, wait for the Hub's scan, check it, merge it, tag it, start the consumers."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, task

from airflow_provider_xethub import Card
from airflow_provider_xethub.assets.xethub import event_extra
from airflow_provider_xethub.operators.pull_requests import XetClosePullRequestOperator, XetMergePullRequestOperator
from airflow_provider_xethub.operators.refs import XetCreateTagOperator
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.sensors.scans import XetScanSensor

CORPUS = {"repo_id": "local/penguins", "repo_type": "dataset"}
RETRIES = {"retries": 2, "retry_delay": timedelta(minutes=1)}

released = Asset("hf://datasets/local/penguins")

with DAG(
    "xethub_release",
    schedule=None,
    catchup=False,
    default_args=RETRIES,
    tags=["xethub"],
    params={"folder": "/tmp/corpus", "version": "v1"},  # noqa: S108
):
    publish = XetUploadOperator(
        task_id="publish",
        source="{{ params.folder }}",
        card=Card(data={"license": "cc0-1.0"}, facts={"Version": "{{ params.version }}"}),
        commit_message="Release {{ params.version }}",
        create_pr=True,
        **CORPUS,
    )
    # Empty if nothing changed since the last release: then the tasks below are skipped.
    proposed = {"pull_request": publish.output, "on_empty": "skip", **CORPUS}

    scan = XetScanSensor(task_id="scan", deferrable=True, poke_interval=30, timeout=3600, **proposed)

    @task
    def check(scanned: dict) -> str:
        """Check what was scanned; whatever is added to the pull request later is not merged."""
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from airflow.providers.common.compat.sdk import AirflowFailException

        from airflow_provider_xethub import Repo
        from airflow_provider_xethub.hooks.xethub import XetHubConnection

        hook = XetHubConnection()
        repo = Repo.from_uri(scanned["repo"]).at(scanned["oid"])
        with TemporaryDirectory() as folder:
            hook.download(folder, hook.list_files(repo, patterns="*.csv"), require_safe=True)
            empty = [path.name for path in Path(folder).rglob("*.csv") if len(path.read_text().splitlines()) < 2]
        if empty:
            raise AirflowFailException(f"{', '.join(empty)} has no rows. Nothing is released.")
        return scanned["oid"]

    checked = check(scan.output)

    reject = XetClosePullRequestOperator(
        task_id="reject", comment="Run {{ run_id }} rejected this release.", trigger_rule="one_failed", **proposed
    )
    merge = XetMergePullRequestOperator(task_id="merge", head_commit=checked, **proposed)

    tag = XetCreateTagOperator(
        task_id="tag", tag="{{ params.version }}", revision="{{ ti.xcom_pull('merge')['oid'] }}", **CORPUS
    )

    @task(outlets=[released])
    def announce(merged: dict, outlet_events=None) -> None:
        outlet_events[released].extra = event_extra(merged)

    [scan, checked] >> reject
    merge >> tag >> announce(merge.output)


with DAG(
    "xethub_release_consumer",
    schedule=[released],
    catchup=False,
    default_args=RETRIES,
    max_active_runs=1,
    tags=["xethub"],
):

    @task
    def commit(triggering_asset_events=None) -> str:
        return triggering_asset_events[released][-1].extra["oid"]

    XetDownloadOperator(
        task_id="download",
        revision=commit(),
        destination="/tmp/released",  # noqa: S108
        require_safe=True,
        **CORPUS,
    )
