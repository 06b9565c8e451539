"""Publish, wait and download over a connection that has no Hub token: the workers' own identity is exchanged for one.

The connection ``xethub_keyless`` names an identity, such as a file that the kubelet keeps fresh; the administrator
lists that file in ``[xethub] identity_files``; and the repository has a trusted publisher for it. See
``docs/keyless.md``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor

WHERE = {"xethub_conn_id": "xethub_keyless", "repo_id": "local/penguins", "repo_type": "dataset"}

with DAG(
    "xethub_keyless",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 2},
    params={"source": "/tmp/penguins", "destination": "/tmp/penguins-back"},  # noqa: S108
):
    upload = XetUploadOperator(
        task_id="upload", source="{{ params.source }}", path_in_repo="keyless", commit_message="Nightly", **WHERE
    )
    wait = XetFileSensor(task_id="wait", path="keyless/penguins.csv", deferrable=True, **WHERE)
    download = XetDownloadOperator(
        task_id="download", files=wait.output, destination="{{ params.destination }}/", **WHERE
    )
    upload >> wait >> download
