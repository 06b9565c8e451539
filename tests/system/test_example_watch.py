"""The example ``dags_example/xethub_watch.py`` in a real Airflow: a commit starts its DAG."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from demo import left_behind, services
from support.builders import TEXT, binary, publish, write
from support.waiting import until
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

DAG = "xethub_watch"
EXAMPLE = Path(__file__).parents[2] / f"dags_example/{DAG}.py"
CORPUS = Repo("local/corpus", "dataset")


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: other examples have a repository of the same name."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


def test_a_commit_starts_the_example_and_it_finds_what_changed(hub, connection, tmp_path):
    hub.create_repo(CORPUS.repo_id, "dataset")
    publish(CORPUS, tmp_path / "1", {"same.bin": binary(seed=1), "other.bin": binary(seed=2)})
    # Alone: the other examples make work, and the watcher would change if one of them named its asset without it.
    dags = tmp_path / "dags"
    dags.mkdir()
    # Impatient: it would look twice a minute, and each look is waited for here.
    often = EXAMPLE.read_text().replace("poke_interval=30", "poke_interval=2")
    assert often != EXAMPLE.read_text()
    (dags / EXAMPLE.name).write_text(often)
    env = services.environment(tmp_path) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    }
    services.prepare_airflow(env, hub.url, hub.token())
    logs = tmp_path / "logs"
    command = [str(services.BIN / "airflow"), "triggerer", "--skip-serve-logs"]

    def looks() -> int:
        return len(hub.log.requests(f"GET .*{CORPUS.repo_id}/commits/.*", status=200))

    def runs() -> list[dict]:
        return airflow.get(f"/dags/{DAG}/dagRuns")["dag_runs"]

    def is_over() -> dict | None:
        return next((run for run in runs() if run["state"] in ("success", "failed")), None)

    with (
        services.airflow(tmp_path, env) as airflow,
        services.running("The triggerer", command, env, logs / "triggerer.log"),
    ):
        until(lambda: airflow.get(f"/dags/{DAG}"), logs / "dag-processor.log")
        hub.log.clear()
        # The watcher's trigger runs: from here on it knows where it begins.
        until(lambda: looks() > 1, logs / "triggerer.log", logs / "dag-processor.log")
        assert not runs()
        request = CommitRequest(CORPUS, (), delete=["same.bin"])
        source = write(tmp_path / "2", {"other.bin": binary(seed=3), "new.csv": TEXT})
        XetHubConnection().publish(source, request)
        newest = XetHubConnection().get_latest_commit(CORPUS)
        run = until(is_over, logs / "triggerer.log", logs / "scheduler.log")
        assert run["state"] == "success"
        assert run["run_type"] == "asset_triggered"
        (told,) = airflow.xcom(DAG, run["dag_run_id"], "new_commits")
        assert {name: told[name] for name in newest} == newest
        changed = airflow.xcom(DAG, run["dag_run_id"], "changes")
        assert ([file["path"] for file in changed["files"]], changed["deleted"]) == (
            ["new.csv", "other.bin"],
            ["same.bin"],
        )
        assert len(airflow.xcom(DAG, run["dag_run_id"], "download")) == 2
        (event,) = airflow.get("/assets/events")["asset_events"]
        assert event["extra"] == {"from_trigger": True, "payload": told}
        # Nothing but that one commit starts it.
        seen = looks()
        until(lambda: looks() > seen)
        assert len(runs()) == 1
    found = left_behind.find(
        {"the Hub token": hub.token()}, tmp_path / "airflow" / "airflow.db", [tmp_path / "airflow", logs]
    )
    assert not found
