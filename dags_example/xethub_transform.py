"""Transform each table of a dataset in a task of its own, and publish all results in one commit."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetListOperator

PENGUINS = {"repo_id": "local/penguins", "repo_type": "dataset"}

with DAG(
    "xethub_transform",
    schedule=None,
    catchup=False,
    tags=["xethub"],
    default_args={"retries": 3},
    params={"column": "species"},
):
    tables = XetListOperator(task_id="tables", path="raw", patterns="*.csv", **PENGUINS)

    @task.xethub(commit=False, path_in_repo="counts", **PENGUINS)
    def count(file: Path, output: Path, column: str) -> None:
        """Count the rows of a table by the values of a column."""
        import csv
        from collections import Counter

        with file.open(newline="") as table:
            counts = Counter(row[column] for row in csv.DictReader(table))
        lines = [f"{value},{number}\n" for value, number in sorted(counts.items())]
        (output / file.name).write_text(f"{column},rows\n{''.join(lines)}")

    counts = count.partial(column="{{ params.column }}").expand(file=tables.output)

    XetCommitOperator(task_id="publish", files=counts, on_empty="skip", **PENGUINS)
