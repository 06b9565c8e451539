"""Fan-out as a DAG author writes it: what can be mapped, what mapped tasks ask for, what becomes of those that fail."""

from __future__ import annotations

from collections import Counter

import pytest
from airflow.sdk import TaskGroup, task, task_group

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetForgetTokenOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, commits, content, write
from support.commit_builders import tree

pytestmark = pytest.mark.airflow

WITHOUT_CONNECTION = {"commit": False, "xethub_conn_id": None}


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    """A folder with files for uploads."""
    return write(tmp_path / "in", {"a.bin": binary(5000, 1), "b.bin": binary(5000, 2), "c.csv": TEXT * 100})


def write_token(where):
    return XetTokenOperator(task_id="token", scope="write", **where)


def publish(token, uploads, **options):
    """Commit what was uploaded, and forget the token."""
    commit = XetCommitOperator(task_id="publish", files=uploads.output, **options)
    commit >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)


def asked(hub):
    """What was asked of the Hub, which is not CAS."""
    return Counter(request.route.rpartition("/")[0] for request in hub.log.requests(".* /api/.*"))


def names_in_ui(run, task_id):
    """How Airflow names the mapped tasks for people, by map index."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.query(TaskInstance).filter_by(dag_id=run.dag_id, run_id=run.run_id, task_id=task_id)
        return [row.rendered_map_index for row in rows.order_by(TaskInstance.map_index)]


def test_sources_that_a_task_finds_are_mapped_and_named(hub, where, repo, source, run_dag, tmp_path):
    with new_dag("fan_out") as dag:
        token = write_token(where)

        @task
        def find():
            return sorted(str(path) for path in source.iterdir())

        upload = XetUploadOperator.partial(
            task_id="upload", token=token.output, map_index_template="{{ task.source }}", **WITHOUT_CONNECTION
        ).expand(source=find())
        token >> upload
        publish(token, upload)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert tree(hub, repo) == {"a.bin", "b.bin", "c.csv"}
    assert names_in_ui(run, "upload") == [f"{source}/{name}" for name in ("a.bin", "b.bin", "c.csv")]
    # Token, how each is stored, whether an earlier try was here; the read token for what is stored inline; the commit.
    assert asked(hub).total() <= 5
    assert commits(hub, repo) == 2


def test_every_argument_can_be_mapped_with_its_source(hub, where, repo, source, run_dag, tmp_path):
    each = [
        {"source": f"{source}/a.bin", "path_in_repo": "x/one.bin"},
        {"source": [f"{source}/a.bin", f"{source}/b.bin"], "path_in_repo": "y"},
        {"source": str(source), "patterns": "*.csv"},
    ]
    with new_dag("fan_out") as dag:
        token = write_token(where)
        upload = XetUploadOperator.partial(task_id="upload", token=token.output, **WITHOUT_CONNECTION).expand_kwargs(
            each
        )
        token >> upload
        publish(token, upload)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert tree(hub, repo) == {"x/one.bin", "y/a.bin", "y/b.bin", "c.csv"}
    assert content(hub, repo, "c.csv", tmp_path) == TEXT * 100


def test_uploads_in_mapped_task_groups_share_a_token(hub, where, repo, source, run_dag, tmp_path):
    with new_dag("fan_out") as dag:
        token = write_token(where)

        @task
        def develop(name):
            return str(write(tmp_path / name, {"photo.bin": binary(5000, name)}) / "photo.bin")

        @task_group
        def camera(name):
            return XetUploadOperator(
                task_id="upload", source=develop(name), path_in_repo=name, token=token.output, **WITHOUT_CONNECTION
            )

        group = camera.expand(name=["north/", "south/"])
        uploads = dag.get_task("camera.upload")
        assert uploads.upstream_task_ids == {"token", "camera.develop"}
        publish(token, uploads)
    assert group
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert content(hub, repo, "south/photo.bin", tmp_path) == binary(5000, "south/")
    assert tree(hub, repo) == {"north/photo.bin", "south/photo.bin"}
    assert run.xcoms("token") == []


def test_a_group_can_have_a_token_for_each_repository(hub, connection, make_repo, source, run_dag):
    repos = [make_repo(), make_repo()]
    with new_dag("fan_out") as dag:

        @task_group
        def mirror(repo_id):
            token = XetTokenOperator(task_id="token", scope="write", repo_id=repo_id, repo_type="dataset")
            upload = XetUploadOperator(task_id="upload", source=str(source), token=token.output, **WITHOUT_CONNECTION)
            publish(token, upload)

        mirror.expand(repo_id=[repo.repo_id for repo in repos])
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert [tree(hub, repo) for repo in repos] == [{"a.bin", "b.bin", "c.csv"}] * 2
    assert run.xcoms("mirror.token") == []


def test_one_that_fails_keeps_the_commit_from_being_made(hub, where, repo, source, run_dag):
    with new_dag("fan_out") as dag:
        token = write_token(where)
        upload = XetUploadOperator.partial(task_id="upload", token=token.output, **WITHOUT_CONNECTION).expand(
            source=[f"{source}/a.bin", f"{source}/missing.bin", f"{source}/b.bin"]
        )
        token >> upload
        publish(token, upload)
    run = run_dag(dag)
    assert [run.states["upload", index] for index in range(3)] == ["success", "failed", "success"]
    assert run.states["publish"] == "upstream_failed"
    assert run.states["forget"] == "success"
    assert run.xcoms("token") == []
    assert commits(hub, repo) == 1


@pytest.mark.parametrize("rule", ["all_done", "none_failed"])
def test_a_trigger_rule_publishes_what_is_there(hub, where, repo, source, run_dag, rule):
    with new_dag("fan_out") as dag:
        token = write_token(where)

        @task
        def choose(path):
            from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

            if path.endswith("b.bin"):
                raise AirflowFailException if rule == "all_done" else AirflowSkipException
            return path

        @task_group
        def one(path):
            XetUploadOperator(task_id="upload", source=choose(path), token=token.output, **WITHOUT_CONNECTION)

        one.expand(path=[f"{source}/a.bin", f"{source}/b.bin", f"{source}/c.csv"])
        publish(token, dag.get_task("one.upload"), trigger_rule=rule)
    run = run_dag(dag)
    states = [run.states["one.upload", index] for index in range(3)]
    assert states == ["success", "upstream_failed" if rule == "all_done" else "skipped", "success"]
    assert run.states["publish"] == "success"
    assert tree(hub, repo) == {"a.bin", "c.csv"}
    assert run.xcoms("token") == []


@pytest.mark.long
def test_two_hundred_uploads_ask_the_hub_for_nothing(hub, where, repo, run_dag, tmp_path):
    files = {f"{number:03}.{'csv' if number % 2 else 'bin'}": TEXT * 100 if number % 2 else binary(3000, number)
             for number in range(200)}  # fmt: skip
    folder = write(tmp_path / "in", files)
    with new_dag("fan_out") as dag:
        token = write_token(where)
        upload = XetUploadOperator.partial(task_id="upload", token=token.output, **WITHOUT_CONNECTION).expand(
            source=[str(folder / name) for name in files]
        )
        token >> upload
        publish(token, upload)
    run = run_dag(dag)
    assert run.state == "success", Counter(run.states.values())
    assert Counter(run.states.values())["success"] == 203
    counted = asked(hub)
    assert counted.total() <= 5 + 1, counted
    assert counted["POST /api/{kind}/{namespace}/{name}/commit"] == 1
    assert tree(hub, repo) == set(files)


def test_a_bound_token_works_in_the_mapped_tasks_that_it_is_for(run_dag, connection, repo, where, tmp_path):
    sources = [str(write(tmp_path / each, {f"{each}.bin": binary(seed=each)})) for each in "ab"]
    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", scope="write", bind="run", consumers="group.upload", **where)
        common = {"token": token.output, "commit": False}
        with TaskGroup("group"):
            upload = XetUploadOperator.partial(task_id="upload", **common).expand(source=sources)
        other = XetUploadOperator.partial(task_id="other", **common).expand(source=sources[:1])
        token >> [upload, other]
    run = run_dag(dag)
    expected = {"token": "success", ("group.upload", 0): "success", ("group.upload", 1): "success"}
    assert run.states == {**expected, ("other", 0): "failed"}
    assert run.xcoms("token")[0]["bound_to"]["run_id"] == run.run_id
