"""The example DAGs of the recipes "Create and delete repositories" and "Keep only what you need"."""

from __future__ import annotations

import importlib.util
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_provider_xethub import CommitRequest, Repo
from support.airflow_runs import run_dag
from support.builders import TEXT, binary, write

pytestmark = pytest.mark.airflow

EXAMPLES = Path(__file__).parents[3] / "dags_example"


@pytest.fixture
def example(tmp_path, connection, airflow_db):
    """Returns what loads an example and gives it a folder to publish."""
    folder = write(tmp_path / "photos", {"a.bin": binary(), "species.csv": TEXT})

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        dag = module.publish.dag
        for task in dag.tasks:
            task.retries = 0
            if hasattr(task, "source"):
                task.source = str(folder)
        return dag, folder, module

    return load


def stored(hub, repo_id):
    return [each for each in hub.repositories.find_all() if each.repo_id == repo_id]


def test_the_scratch_repository_is_gone_and_the_nightly_one_is_there(hub, hook, example):
    dag, _, _ = example("xethub_repositories")
    run = run_dag(dag)
    assert set(run.states.values()) == {"success"}, run.states
    assert not stored(hub, "local/nightly-scratch")
    assert stored(hub, "local/nightly")[0].private
    repo = Repo("local/nightly", "dataset")
    assert [file["path"] for file in hook.list_files(repo)] == [".gitattributes", "README.md", "species.csv"]
    assert [ref["name"] for ref in hook.list_refs(repo) if ref["kind"] == "tag"]


def test_old_versions_go_and_their_storage_can_be_freed(hub, hook, example):
    dag, folder, module = example("xethub_retention")
    repo = Repo("local/versions", "dataset")
    hook.create_repo(repo)
    for day in range(1, module.KEPT + 2):
        (folder / "a.bin").write_bytes(binary(seed=day))
        hook.publish(folder, CommitRequest(repo, (), message=f"{day}"))
        hook.squash_history(repo)
        hook.create_tag(repo, f"2026-01-{day:02}")
    (folder / "a.bin").write_bytes(binary(seed="today"))
    run = run_dag(dag)
    assert set(run.states.values()) == {"success"}, run.states
    tags = [ref["name"] for ref in hook.list_refs(repo) if ref["kind"] == "tag"]
    assert (len(tags), tags[0]) == (module.KEPT, "2026-01-03")
    # The example keeps what was pushed within seven days.
    (freed,) = run.xcoms("free")
    assert (freed["file_count"], freed["kept"]) == (0, module.KEPT)
    listed = hook.delete_unreferenced_files(repo, min_age=timedelta(0))
    assert listed["file_count"] == 2
