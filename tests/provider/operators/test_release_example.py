"""The example ``dags_example/xethub_release.py``, as a whole DAG."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from support.builders import binary, write
from support.documentation import run_as_file

pytestmark = pytest.mark.airflow

EXAMPLE = Path(__file__).parents[3] / "dags_example/xethub_release.py"
GOOD = b"species,mass\nAdelie,3700\n"
NOTHING = {"scan": "skipped", "check": "skipped", "merge": "skipped", "tag": "skipped", "announce": "skipped"}


@pytest.fixture
def release(connection, repo, run_dag, tmp_path):
    """Runs the release of a folder, and returns the run."""
    source = EXAMPLE.read_text().replace("local/penguins", repo.repo_id).replace("/tmp/", f"{tmp_path}/")
    number = 0

    def run(version, files):
        nonlocal number
        number += 1
        write(tmp_path / "corpus", files)
        # The database of these tests has each DAG once.
        named = source.replace("xethub_release", f"release_{repo.repo_id.replace('/', '_')}_{number}")
        (dag,) = [dag for dag in run_as_file(named.replace('"v1"', f'"{version}"'), "example") if dag.has_task("merge")]
        for task in dag.tasks:
            task.retries = 0
        return run_dag(dag)

    return run


def test_a_release_is_merged_tagged_and_announced_and_a_second_one_without_changes_is_not(repo, release, hook):
    first = release("v1", {"a.csv": GOOD, "b.bin": binary()})
    assert first.states == {
        **dict.fromkeys(("publish", "scan", "check", "merge", "tag", "announce"), "success"),
        "reject": "skipped",
    }
    (merged,) = first.xcoms("merge")
    assert {file["path"] for file in merged["files"]} == {"a.csv", "b.bin", "README.md"}
    head = hook.get_latest_commit(repo)
    assert (head["oid"], head["title"]) == (merged["oid"], "Release v1 (#1)")
    assert {file["path"] for file in hook.list_files(repo.at("v1"))} >= {"a.csv", "b.bin", "README.md"}
    second = release("v2", {})
    assert second.states == {"publish": "success", "reject": "skipped", **NOTHING}


def test_what_is_not_safe_is_rejected(hub, repo, release, hook):
    hub.scans.set("unsafe", "b.bin")
    run = release("v1", {"a.csv": GOOD, "b.bin": binary()})
    assert run.state == "failed"
    assert (run.states["scan"], run.states["reject"], run.states["merge"]) == ("failed", "success", "upstream_failed")
    assert XetHubConnection().get_pull_request(repo, 1)["status"] == "closed"
    assert [file["path"] for file in hook.list_files(repo)] == [".gitattributes"]


def test_what_fails_the_check_is_rejected(repo, release, hook):
    run = release("v1", {"a.csv": b"species,mass\n"})
    assert (run.states["check"], run.states["reject"], run.states["merge"]) == ("failed", "success", "upstream_failed")
    assert hook.get_pull_request(repo, 1)["status"] == "closed"
