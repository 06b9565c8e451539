"""The short examples in ``dags_example``, as whole DAGs. Longer ones have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builders import binary, write
from support.documentation import run_as_file
from support.repository_trees import read_tree, set_tree

EXAMPLES = Path(__file__).parents[3] / "dags_example"


@pytest.fixture
def example(make_repo, connection, run_dag, tmp_path):
    """Runs an example in a repository and a folder of its own, and returns the run."""

    def run(name, repo, placeholder):
        source = (EXAMPLES / f"{name}.py").read_text().replace(placeholder, repo.repo_id)
        (dag,) = [dag for dag in run_as_file(source.replace("/tmp/", f"{tmp_path}/"), name) if dag.tasks]
        for task in dag.tasks:
            task.retries = 0
        return run_dag(dag)

    return run


@pytest.fixture
def model(make_repo):
    return make_repo("model")


def test_xethub_upload_publishes_a_folder(example, hub, model, tmp_path):
    write(tmp_path / "model", {"weights.bin": binary(), "config.json": b"{}"})
    run = example("xethub_upload", model, "local/model")
    assert run.states == {"upload": "success"}
    assert read_tree(hub, model) == {"weights.bin": binary(), "config.json": b"{}"}
    assert run.xcoms("upload")[0]["title"] == f"Training run {run.run_id}"


def test_xethub_commit_opens_one_pull_request_with_both_uploads_and_the_deletion(example, hub, model, tmp_path):
    set_tree(hub, model, {"outdated/old.bin": binary(seed=3), "kept.bin": binary(seed=4)})
    write(tmp_path / "model", {"weights.bin": binary(), "config.json": b"{}"})
    run = example("xethub_commit", model, "local/model")
    assert set(run.states.values()) == {"success"}
    (published,) = run.xcoms("publish")
    assert set(read_tree(hub, model)) == {"outdated/old.bin", "kept.bin"}
    proposed = read_tree(hub, model, f"refs/pr/{published['pull_request_number']}")
    assert proposed == {"weights.bin": binary(), "config/config.json": b"{}", "kept.bin": binary(seed=4)}


def test_xethub_download_fetches_the_tables_only(example, hub, repo, tmp_path):
    set_tree(hub, repo, {"a/species.csv": b"Adelie\n", "photo.bin": binary()})
    assert set(example("xethub_download", repo, "local/penguins").states.values()) == {"success"}
    folder = tmp_path / "penguins-tables"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == {"a/species.csv"}


def test_xethub_sensor_downloads_what_arrived(example, hub, model, tmp_path):
    set_tree(hub, model, {"weights.bin": binary(), "other.bin": binary(seed=2)})
    assert set(example("xethub_sensor", model, "local/model").states.values()) == {"success"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "model-in").iterdir()} == {"weights.bin": binary()}


def test_xethub_token_lets_one_task_upload_and_is_deleted(example, hub, model, tmp_path):
    write(tmp_path / "model", {"weights.bin": binary()})
    run = example("xethub_token", model, "local/model")
    assert set(run.states.values()) == {"success"}
    assert run.xcoms("token") == []
    assert [file["path"] for file in run.xcoms("upload")[0]] == ["weights.bin"]
    assert read_tree(hub, model) == {}


def test_xethub_transform_publishes_the_results_of_all_tables_in_one_commit(example, hub, repo):
    set_tree(hub, repo, {f"raw/{year}.csv": b"species,mass\nGentoo,5\nAdelie,3\nGentoo,4\n" for year in (2025, 2026)})
    run = example("xethub_transform", repo, "local/penguins")
    assert set(run.states.values()) == {"success"}
    assert {("count", 0), ("count", 1)} <= set(run.states)
    expected = b"species,rows\nAdelie,1\nGentoo,2\n"
    tree = read_tree(hub, repo)
    assert {path: tree[path] for path in tree if path.startswith("counts/")} == {
        "counts/2025.csv": expected,
        "counts/2026.csv": expected,
    }
    assert len(run.xcoms("publish")) == 1


def test_xethub_object_storage_goes_both_ways(example, hub, repo, tmp_path):
    set_tree(hub, repo, {"published/a.bin": binary(seed=2), "other.bin": binary(seed=3)})
    write(tmp_path / "inbox", {"new.bin": binary()})
    assert set(example("xethub_object_storage", repo, "local/corpus").states.values()) == {"success"}
    assert read_tree(hub, repo)["inbox/new.bin"] == binary()
    outbox = tmp_path / "outbox"
    assert [str(path.relative_to(outbox)) for path in outbox.rglob("*.bin")] == ["published/a.bin"]
