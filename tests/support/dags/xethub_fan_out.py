"""The DAGs of ``test_fan_out_on_celery.py``: what runs where is in the queues.

Only the worker of the queue ``hub`` has the connection. The two workers of ``upload`` have not, and each of them is
also alone in a queue of its own, for files that are on that worker only.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetForgetTokenOperator,
    XetTokenOperator,
    XetUploadOperator,
)

OPTIONS: Any = {
    "schedule": None,
    "params": {"repo_id": Param("", type="string"), "sources": Param([], type="array")},
    "default_args": {"retries": 3, "retry_delay": timedelta(0)},
}


def note_environment(context: Any) -> None:
    """Keep what the process of an upload has in its environment when it is done."""
    folder = Path.home() / "environments"
    folder.mkdir(exist_ok=True)
    ti = context["ti"]
    (folder / f"{ti.task_id}-{ti.map_index}.json").write_text(json.dumps(dict(os.environ)))


@task(queue="hub")
def sources(params: dict[str, Any] | None = None) -> list[str]:
    return list((params or {})["sources"])


@task
def look_around() -> dict[str, Any]:
    """Say where this is, and whether the connection can be had here."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        BaseHook.get_connection("xethub_default")
    except AirflowNotFoundException:
        return {"home": os.environ["HOME"], "connection": False}
    return {"home": os.environ["HOME"], "connection": True}


def write_token() -> XetTokenOperator:
    return XetTokenOperator(
        task_id="token", scope="write", repo_id="{{ params.repo_id }}", repo_type="dataset", queue="hub"
    )


def upload(token: XetTokenOperator, task_id: str, queue: str, **options: Any) -> Any:
    return XetUploadOperator.partial(
        task_id=task_id,
        queue=queue,
        commit=False,
        token=token.output,
        xethub_conn_id=None,
        on_success_callback=note_environment,
        **options,
    )


def publish(token: XetTokenOperator, uploads: list[Any]) -> None:
    token >> uploads
    commit = XetCommitOperator(task_id="publish", files=[upload.output for upload in uploads], queue="hub")
    commit >> XetForgetTokenOperator(task_id="forget", queue="hub").as_teardown(setups=token)


with DAG("xethub_fan_out", **OPTIONS):
    token = write_token()
    uploads = [upload(token, "upload", "upload").expand(source=sources())]
    for worker in ("one", "two"):
        mapped = upload(token, f"upload_from_{worker}", worker, path_in_repo=f"own/{worker}/")
        uploads.append(mapped.expand(source=["~/own/*.bin", "~/own/*.csv"]))
        look_around.override(task_id=f"look_around_{worker}", queue=worker)()
    publish(token, uploads)

with DAG("xethub_fan_out_with_a_killed_worker", **OPTIONS):
    token = write_token()
    first = upload(token, "first", "upload").expand(source=["~/killed/first.bin"])
    rest = upload(token, "upload", "upload").expand(source=sources())
    first >> rest
    publish(token, [first, rest])
