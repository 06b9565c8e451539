"""One upload and one download, with the operators and with ``huggingface_hub`` in tasks, as DAG authors write them."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator

REPO_ID, REPO_TYPE = "bench/data", "dataset"

with DAG("whole_operators", schedule=None, params={"source": "", "name": "", "back": ""}):
    upload = XetUploadOperator(
        task_id="upload",
        repo_id=REPO_ID,
        repo_type=REPO_TYPE,
        source="{{ params.source }}",
        path_in_repo="{{ params.name }}",
    )
    download = XetDownloadOperator(
        task_id="download",
        repo_id=REPO_ID,
        repo_type=REPO_TYPE,
        path="{{ params.name }}",
        destination="{{ params.back }}/",
    )
    upload >> download

with DAG("whole_huggingface_hub", schedule=None, params={"source": "", "name": "", "back": ""}):

    @task(task_id="upload")
    def upload_file(source: str, name: str) -> str:
        from huggingface_hub import HfApi

        return HfApi().upload_file(path_or_fileobj=source, path_in_repo=name, repo_id=REPO_ID, repo_type=REPO_TYPE).oid

    @task(task_id="download")
    def download_file(name: str, back: str) -> str:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(REPO_ID, name, repo_type=REPO_TYPE, local_dir=back)

    name = "{{ params.name }}"
    upload_file("{{ params.source }}", name) >> download_file(name, "{{ params.back }}")
