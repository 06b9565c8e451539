"""List the tables of a dataset, and download them."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetListOperator

with DAG(
    "xethub_download",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={"destination": "/tmp/penguins-tables"},  # noqa: S108
):
    tables = XetListOperator(task_id="list_tables", repo_id="local/penguins", repo_type="dataset", patterns="*.csv")

    XetDownloadOperator(
        task_id="download",
        files=tables.output,
        destination="{{ params.destination }}",
        on_empty="skip",  # the dataset may have no tables yet
    )
