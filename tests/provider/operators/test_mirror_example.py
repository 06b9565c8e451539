"""Mirrors in whole DAGs: the example ``dags_example/xethub_mirror.py``, and mapped tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.operators.xethub import XetMirrorOperator
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, write
from support.documentation import run_as_file
from support.repository_trees import read_tree

pytestmark = pytest.mark.airflow

EXAMPLE = Path(__file__).parents[3] / "dags_example/xethub_mirror.py"


@pytest.fixture
def night(connection, repo, run_dag, tmp_path):
    """Runs the example once, and returns the run."""
    source = EXAMPLE.read_text().replace("local/corpus", repo.repo_id).replace("/tmp/", f"{tmp_path}/")
    numbers = iter(range(10))

    def run():
        # The database of these tests has each DAG once.
        named = source.replace("xethub_mirror", f"mirror_{repo.repo_id.replace('/', '_')}_{next(numbers)}")
        (dag,) = [dag for dag in run_as_file(named, "example") if dag.has_task("plan")]
        for task in dag.tasks:
            task.retries = 0
        return run_dag(dag)

    return run


def test_additions_changes_and_deletions_arrive_in_the_copy(hub, repo, night, tmp_path):
    names = [f"{number}.csv" for number in range(8)]
    write(tmp_path / "corpus", {**dict.fromkeys(names, TEXT), "archive/old.bin": binary(), "x.tmp": TEXT})
    first = night()
    assert set(first.states.values()) == {"success"}
    (tmp_path / "corpus/0.csv").unlink()
    (tmp_path / "corpus/archive/old.bin").unlink()
    write(tmp_path / "corpus", {"1.csv": b"new\n", "new/z.csv": TEXT})
    second = night()
    assert set(second.states.values()) == {"success"}
    (plan,), (published,), (fetched,) = (second.xcoms(task) for task in ("plan", "publish", "fetch"))
    assert published["plan"] == plan
    assert (plan["added"], plan["changed"]) == (["data/new/z.csv"], ["data/1.csv"])
    assert (plan["removed"], plan["kept"]) == (["data/0.csv"], ["data/archive/old.bin"])
    assert fetched["plan"]["removed"] == ["data/0.csv"]
    copy = tmp_path / "corpus-copy"
    there = {path.removeprefix("data/"): each for path, each in read_tree(hub, repo).items()}
    assert there == {name: (copy / name).read_bytes() for name in there}
    assert set(there) == {*names[1:], "new/z.csv", "archive/old.bin"}


def test_folders_are_mirrored_by_mapped_tasks(hub, repo, connection, run_dag, tmp_path):
    with new_dag("mapped_mirror") as dag:
        XetMirrorOperator.partial(task_id="mirror", repo_id=repo.repo_id, repo_type="dataset").expand_kwargs(
            [{"source": str(write(tmp_path / name, {"x.csv": TEXT})), "path_in_repo": name} for name in ("a", "b")]
        )
    assert run_dag(dag).states == {("mirror", 0): "success", ("mirror", 1): "success"}
    assert read_tree(hub, repo) == {"a/x.csv": TEXT, "b/x.csv": TEXT}
