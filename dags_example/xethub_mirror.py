"""Keep a folder of a repository equal to a local folder, and another worker's copy equal to the repository.

``plan`` is a dry run, whose log and XCom say what would be added, changed and removed. ``publish`` does it in one
commit. ``fetch`` makes the copy equal to that commit.

Parameters: ``source`` and ``destination``, the folders; ``repo_id``, a dataset. Connection: ``xethub_default``.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetMirrorOperator

FOLDER = {"repo_id": "{{ params.repo_id }}", "repo_type": "dataset", "path_in_repo": "data"}
WHAT = {"source": "{{ params.source }}", "exclude": ["*.tmp", "logs/"], "protect": "archive/"}

with DAG(
    "xethub_mirror",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["xethub"],
    doc_md=__doc__,
    params={"repo_id": "local/corpus", "source": "/tmp/corpus", "destination": "/tmp/corpus-copy"},  # noqa: S108
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
):
    plan = XetMirrorOperator(task_id="plan", dry_run=True, **WHAT, **FOLDER)
    publish = XetMirrorOperator(
        task_id="publish", commit_message="Corpus of {{ run_id }}", max_delete_share=0.2, **WHAT, **FOLDER
    )
    fetch = XetMirrorOperator(
        task_id="fetch",
        destination="{{ params.destination }}",
        revision="{{ ti.xcom_pull('publish')['oid'] }}",
        **FOLDER,
    )

    plan >> publish >> fetch
