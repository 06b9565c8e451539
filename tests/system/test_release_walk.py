"""The example ``dags_example/xethub_release.py`` in a real Airflow: from a pull request to a tag and its consumer."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.repo import Repo
from demo import left_behind, services
from support.builders import binary, write
from support.waiting import until
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "dags_example/xethub_release.py"
CORPUS = Repo("local/penguins", "dataset")


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: other examples have a repository of the same name."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


def test_a_release_goes_from_a_pull_request_to_a_tag_and_its_consumer(hub, connection, tmp_path):
    hub.create_repo(CORPUS.repo_id, "dataset")
    folder = write(tmp_path / "corpus", {"d/a.csv": b"species,mass\nAdelie,3700\n", "b.bin": binary()})
    dags = tmp_path / "dags"
    dags.mkdir()
    text = EXAMPLE.read_text().replace("/tmp/", f"{tmp_path}/").replace("poke_interval=30", "poke_interval=1")
    (dags / EXAMPLE.name).write_text(text)
    env = services.environment(tmp_path) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    }
    services.prepare_airflow(env, hub.url, hub.token())
    logs = tmp_path / "logs"
    all_logs = [logs / f"{name}.log" for name in ("triggerer", "scheduler", "dag-processor")]
    command = [str(services.BIN / "airflow"), "triggerer", "--skip-serve-logs"]
    hook = XetHubConnection()

    with (
        services.airflow(tmp_path, env) as airflow,
        services.running("The triggerer", command, env, logs / "triggerer.log"),
    ):

        def states(run_id: str) -> dict[str, str]:
            found = airflow.get(f"/dags/xethub_release/dagRuns/{run_id}/taskInstances")["task_instances"]
            return {each["task_id"]: each["state"] for each in found}

        def consumed() -> dict | None:
            runs = (airflow.get("/dags/xethub_release_consumer/dagRuns") or {}).get("dag_runs", [])
            return next((run for run in runs if run["state"] in ("success", "failed")), None)

        until(lambda: airflow.get("/dags/xethub_release") and airflow.get("/dags/xethub_release_consumer"), *all_logs)
        hub.scans.set("queued")
        run_id = airflow.start_run("xethub_release", {"version": "v7"})
        # The scan lags: the task waits in the triggerer, and nothing is merged meanwhile.
        until(lambda: states(run_id).get("scan") == "deferred", *all_logs)
        polls = len(hub.log.requests("POST .*/paths-info/.*"))
        until(lambda: len(hub.log.requests("POST .*/paths-info/.*")) > polls + 1, *all_logs)
        assert hook.get_pull_request(CORPUS, 1)["status"] == "open"
        hub.scans.clear()
        consumer = until(consumed, *all_logs)
        assert consumer["state"] == "success"
        assert consumer["run_type"] == "asset_triggered"
        finished = until(lambda: (now := states(run_id)).get("announce") == "success" and now, *all_logs)
        assert finished["reject"] == "skipped"
        merged = airflow.xcom("xethub_release", run_id, "merge")
        assert (merged["oid"], merged["created"]) == (hook.get_latest_commit(CORPUS)["oid"], True)
        refs = hook.api.list_repo_refs(CORPUS.repo_id, repo_type="dataset")
        assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v7", merged["oid"])]
        (event,) = airflow.get("/assets/events")["asset_events"]
        assert (event["extra"]["oid"], event["extra"]["file_count"]) == (merged["oid"], 3)
    for path in ("d/a.csv", "b.bin"):
        assert (tmp_path / "released" / path).read_bytes() == (folder / path).read_bytes()
    card = (tmp_path / "released" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\n---\n")
    assert f"| Run | `{run_id}` |" in card
    assert "| Version | `v7` |" in card
    found = left_behind.find(
        {"the Hub token": hub.token()}, tmp_path / "airflow" / "airflow.db", [tmp_path / "airflow", logs]
    )
    assert not found
