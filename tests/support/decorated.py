"""Tasks made by ``@task.xethub``, each in a DAG of its own, and the repository that their functions read."""

from __future__ import annotations

from airflow.sdk import task

from support.airflow_runs import new_dag, run_one
from support.builders import content

RAW = {"raw/a.csv": b"A,B\n", "raw/deep/b.csv": b"C,D\n", "other.bin": b"\0" * 5000}


def run(function, *args, api=None, try_number=1, call=None, **arguments):
    """Decorate a function in a DAG of its own, call it, and run the task."""
    with new_dag():
        made = task.xethub(retries=2, **arguments)(function)(*args, **(call or {}))
    return run_one(made.operator, api=api, try_number=try_number)


def texts(hub, repo, folder, *paths):
    return [content(hub, repo, path, folder) for path in paths]


def lower(files, output):
    for file in files:
        (output / file.name).write_text(file.read_text().lower())
