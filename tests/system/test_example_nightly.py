"""The example ``dags_example/xethub_nightly.py`` in a real Airflow: three nights, one of them without a change.

The consumer fetches exactly what each night published, and nothing after the night without a change.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from demo import left_behind, services
from support.builders import TEXT, binary, names, write
from support.celery_airflow import until
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

CORPUS = Repo("local/corpus", "dataset")
FIRST = {"a.bin": binary(seed=1), "notes.csv": TEXT}
MANY = {f"{n:03}.csv": f"{n}\n".encode() for n in range(149)} | {"big.bin": binary(seed=2)}
PATIENCE = 240


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: other examples have a repository of the same name."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


def test_a_consumer_fetches_what_each_night_published_and_is_not_red_without_a_change(hub, connection, tmp_path):
    hub.create_repo(CORPUS.repo_id, "dataset")
    env = services.environment(tmp_path) | {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")}
    env |= {"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False"}
    example = (services.ROOT / "dags_example/xethub_nightly.py").read_text()
    write(tmp_path / "dags", {"nightly.py": example.replace('schedule="@daily"', "schedule=None").encode()})
    home = Path(env["HOME"])
    source, copy = write(home / "nightly/photos", FIRST), home / "nightly/copy"
    services.prepare_airflow(env, hub.url, hub.token())

    with services.airflow(tmp_path, env) as airflow:

        def runs(dag: str) -> list[dict]:
            return airflow.get(f"/dags/{dag}/dagRuns", order_by="run_after")["dag_runs"]

        def over(dag: str, number: int) -> bool:
            done = [run["state"] for run in runs(dag)]
            assert "failed" not in done, (dag, done)
            return len(done) == number and set(done) == {"success"}

        def states(dag: str, run_id: str) -> dict[str, str]:
            tasks = airflow.get(f"/dags/{dag}/dagRuns/{run_id}/taskInstances")["task_instances"]
            return {task["task_id"]: task["state"] for task in tasks}

        def night(number: int) -> dict[str, str]:
            run_id = airflow.start_run("xethub_nightly", {})
            until(lambda: over("xethub_nightly", number), PATIENCE, f"night {number}")
            return states("xethub_nightly", run_id)

        until(lambda: airflow.get("/dags/xethub_nightly_consumer"), PATIENCE, "the DAGs")

        assert night(1) == {"publish": "success", "report": "success"}
        until(lambda: over("xethub_nightly_consumer", 1), PATIENCE, "the consumer of the first night")
        assert names(copy) == sorted(f"photos/{name}" for name in FIRST)

        assert night(2) == {"publish": "skipped", "report": "success"}
        assert len(airflow.get("/assets/events")["asset_events"]) == 1

        shutil.rmtree(copy)
        write(source, MANY)
        assert night(3) == {"publish": "success", "report": "success"}
        # Whatever is committed before the consumer reads the event:
        theirs = write(tmp_path / "theirs", {"photos/000.csv": b"theirs\n", "photos/theirs.csv": TEXT})
        XetHubConnection().publish(theirs, CommitRequest(CORPUS, (), delete=["photos/001.csv"]))
        until(lambda: over("xethub_nightly_consumer", 2), PATIENCE, "the consumer of the third night")
        last = runs("xethub_nightly_consumer")[-1]["dag_run_id"]
        assert states("xethub_nightly_consumer", last) == {"published": "success", "fetch": "success"}
        assert names(copy) == sorted(f"photos/{name}" for name in MANY)
        assert all((copy / "photos" / name).read_bytes() == content for name, content in MANY.items())
        event = airflow.get("/assets/events", order_by="timestamp")["asset_events"][-1]["extra"]
        assert (len(event["files"]), event["file_count"], event["complete"]) == (100, 150, False)

        # Nobody needs an event to run the consumer: it has nothing to do then.
        run_id = airflow.start_run("xethub_nightly_consumer", {})
        until(lambda: over("xethub_nightly_consumer", 3), PATIENCE, "the consumer without an event")
        assert states("xethub_nightly_consumer", run_id) == {"published": "success", "fetch": "skipped"}
    found = left_behind.find(
        {"the Hub token": hub.token()}, tmp_path / "airflow" / "airflow.db", [tmp_path / "airflow", tmp_path / "logs"]
    )
    assert not found
