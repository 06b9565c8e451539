"""Wait for a file without holding a worker slot, and download exactly the file that arrived."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor

MODEL = {"repo_id": "local/model"}

with DAG(
    "xethub_sensor",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={"destination": "/tmp/model-in/"},  # noqa: S108
):
    arrived = XetFileSensor(
        task_id="arrived", path="weights.bin", mode="reschedule", poke_interval=30, timeout=3600, **MODEL
    )

    XetDownloadOperator(task_id="download", files=arrived.output, destination="{{ params.destination }}")
