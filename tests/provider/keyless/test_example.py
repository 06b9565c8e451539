"""The example ``dags_example/xethub_keyless.py``, as a whole DAG."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builders import TEXT, write
from support.documentation import run_as_file

pytestmark = pytest.mark.airflow

EXAMPLE = Path(__file__).parents[3] / "dags_example/xethub_keyless.py"


def test_the_example_publishes_waits_and_downloads(hub, make_repo, publisher, keyless, run_dag, tmp_path, monkeypatch):
    private = make_repo(private=True)
    publisher(private)
    keyless("xethub_keyless")
    monkeypatch.delenv("AIRFLOW_CONN_XETHUB_DEFAULT")
    write(tmp_path / "penguins", {"penguins.csv": TEXT})
    source = EXAMPLE.read_text().replace("local/penguins", private.repo_id).replace("/tmp/", f"{tmp_path}/")
    (dag,) = [dag for dag in run_as_file(source, "example") if dag.has_task("wait")]
    for task in dag.tasks:
        task.retries = 0
    run = run_dag(dag)
    assert set(run.states.values()) == {"success"}
    assert (tmp_path / "penguins-back" / "keyless" / "penguins.csv").read_bytes() == TEXT
    assert not hub.log.requests(status=401)
