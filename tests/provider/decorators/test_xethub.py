"""``@task.xethub``: a function gets local files, and what it makes is published in one commit."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from airflow.sdk import task

from airflow_provider_xethub.decorators.xethub import XetDecoratedOperator, xethub_task
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetListOperator, XetTokenOperator
from support.airflow_runs import RUN_ID, new_dag
from support.builders import TEXT, binary, commits, publish
from support.decorated import (
    RAW,
    lower,
    run,
    texts,
)

pytestmark = pytest.mark.airflow

# --- what the function gets -------------------------------------------------------------------------------------------


def test_a_transform_is_five_lines_and_one_commit(hub, raw, repo, where, tmp_path):
    before = commits(hub, repo)
    done = run(lower, patterns="raw/*.csv", path_in_repo="clean", **where)
    assert done.value["created"]
    assert [file["path"] for file in done.value["files"]] == ["clean/a.csv", "clean/b.csv"]
    assert texts(hub, repo, tmp_path, "clean/a.csv", "clean/b.csv") == [b"a,b\n", b"c,d\n"]
    assert commits(hub, repo) == before + 1
    assert done.xcoms["received"]["files"] == 2
    assert done.xcoms["transfer"]["files"] == 0  # both are inline
    assert done.value["title"] == "Upload lower of " + done.value["title"].rpartition(" ")[2]


def test_the_places_that_a_function_asks_for_fit_together(raw, where):
    def look(output, folder, files, file):
        assert files == [file] == [folder / "raw/a.csv"]
        assert file.read_bytes() == RAW["raw/a.csv"]
        assert list(output.iterdir()) == []
        (output / "seen.txt").write_text("yes")

    assert [file["path"] for file in run(look, path="raw/a.csv", **where).value["files"]] == ["seen.txt"]


def test_a_folder_keeps_the_paths_of_the_repository_and_files_their_order(raw, where):
    def look(folder, files):
        return [str(file.relative_to(folder)) for file in files]

    assert run(look, read_only=True, path="raw", **where).value == ["raw/a.csv", "raw/deep/b.csv"]
    assert run(look, read_only=True, paths=["raw/deep/b.csv", "other.bin"], **where).value == [
        "other.bin",
        "raw/deep/b.csv",
    ]
    assert "other.bin" in run(look, read_only=True, **where).value


def test_a_function_that_reads_nothing_downloads_nothing(hub, connection, repo, where, tmp_path):
    def produce(output):
        (output / "new.csv").write_bytes(TEXT)

    done = run(produce, **where)
    assert "received" not in done.xcoms
    assert done.value["created"]
    assert texts(hub, repo, tmp_path, "new.csv") == [TEXT]


@pytest.mark.parametrize("many", [False, True])
def test_what_is_returned_is_published_and_nothing_else_that_was_written(hub, raw, repo, where, tmp_path, many):
    def produce(file, output):
        (output / "scratch.tmp").write_text("not this")
        (output / "wanted.csv").write_text("x\n")
        return [output / "wanted.csv", file] if many else output / "wanted.csv"

    done = run(produce, path="raw/a.csv", path_in_repo="made/" if many else "made/x.csv", **where)
    expected = ["made/a.csv", "made/wanted.csv"] if many else ["made/x.csv"]
    assert [file["path"] for file in done.value["files"]] == expected


def test_a_path_in_object_storage_may_be_returned(hub, connection, repo, where, tmp_path):
    (tmp_path / "stored.csv").write_bytes(TEXT)

    def produce():
        from airflow.sdk import ObjectStoragePath

        return ObjectStoragePath(f"file://{tmp_path}/stored.csv")

    assert run(produce, path_in_repo="s.csv", **where).value["files"][0]["path"] == "s.csv"


def test_another_repository_may_be_the_source(hub, raw, repo, where, make_repo, tmp_path):
    target = make_repo("model")
    source = {f"source_{name}": value for name, value in where.items()}
    done = run(lower, path="raw/a.csv", repo_id=target.repo_id, repo_type="model", **source)
    assert done.value["repo"] == target.uri
    assert texts(hub, target, tmp_path, "a.csv") == [b"a,b\n"]


def test_the_branch_that_is_written_is_also_the_one_that_is_read(hub, raw, repo, where, tmp_path):
    hub.repositories.create_branch(repo.uri.removeprefix("hf://").partition("@")[0], "next")
    publish(repo, tmp_path / "later", {"raw/a.csv": b"LATER\n"})
    run(lower, path="raw/a.csv", path_in_repo="clean", revision="next", **where)
    assert texts(hub, repo.at("next"), tmp_path, "clean/a.csv") == [b"a,b\n"]


# --- arguments --------------------------------------------------------------------------------------------------------


def test_other_arguments_are_passed_as_to_any_task_and_may_be_templates(raw, where):
    def tell(prefix, *, files, suffix="!", run_id=None, **context):
        return [prefix, len(files), suffix, run_id, context["ds"], sorted({"files", "prefix"} & set(context))]

    done = run(tell, "{{ ds }}", read_only=True, path="raw", call={"suffix": "?"}, **where)
    assert done.value == ["2026-11-20", 2, "?", RUN_ID, "2026-11-20", []]
    assert done.rendered["op_kwargs"] == {"prefix": "2026-11-20", "suffix": "?"}


def test_fields_may_use_the_arguments_of_the_function(raw, where):
    def take(day, file, output):
        (output / "x.csv").write_bytes(file.read_bytes())

    done = run(take, "a", path="raw/{{ task.op_kwargs.day }}.csv", path_in_repo="out/{{ task.op_kwargs.day }}", **where)
    assert [file["path"] for file in done.value["files"]] == ["out/a/x.csv"]
    assert done.rendered["path"] == "raw/a.csv"


@pytest.mark.parametrize("how", ["record", "path"])
def test_the_caller_may_say_which_file(raw, where, how):
    def name(file):
        return file.name

    given = {"record": raw[1], "path": "raw/a.csv"}[how]
    assert run(name, read_only=True, call={"file": given}, **where).value == "a.csv"


@pytest.mark.parametrize("given", ["list", "lists", "commit", "paths"])
def test_the_caller_may_say_which_files(raw, where, given):
    def list_names(files):
        return [file.name for file in files]

    value = {
        "list": raw[1:],
        "lists": [raw[1:2], raw[2:]],
        "commit": {"files": raw[1:]},
        "paths": ["raw/a.csv", "raw/deep/b.csv"],
    }
    assert run(list_names, read_only=True, call={"files": value[given]}, **where).value == ["a.csv", "b.csv"]


def test_records_say_where_the_result_goes_if_nothing_else_does(raw, repo):
    done = run(lower, files=raw[1:2], path_in_repo="clean")
    assert done.value["repo"] == repo.uri


def test_it_maps_over_files_uploads_without_a_connection_and_one_task_commits(
    hub,
    connection,
    repo,
    where,
    run_dag,
    tmp_path,
):
    """The listing decides how many tasks there are; each works with the token alone."""
    publish(repo, tmp_path / "before", {f"in/{number}.bin": binary(4000 + number, number) for number in range(3)})
    before = commits(hub, repo)
    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", scope="write", **where)
        listing = XetListOperator(task_id="listing", path="in", **where)

        @task.xethub(token=token.output, xethub_conn_id=None, commit=False, path_in_repo="out")
        def reverse(factor, file, output):
            (output / file.name).write_bytes(file.read_bytes()[::-1] * factor)

        made = reverse.partial(factor=2).expand(file=listing.output)
        token >> made
        XetCommitOperator(task_id="commit", files=made, **where)
    result = run_dag(dag)
    assert set(result.states.values()) == {"success"}, result.states
    assert commits(hub, repo) == before + 1
    expected = [binary(4000 + number, number)[::-1] * 2 for number in range(3)]
    assert texts(hub, repo, tmp_path, *(f"out/{number}.bin" for number in range(3))) == expected


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.0 stores no XCom that is None")
def test_keys_of_the_result_may_be_xcoms_of_their_own(hub, raw, repo, where, run_dag):
    with new_dag() as dag:
        done = task.xethub(multiple_outputs=True, path="raw/a.csv", path_in_repo="clean", **where)(lower)()

        @task
        def use(oid, files):
            return [oid, files[0]["path"]]

        use(done["oid"], done["files"])
    result = run_dag(dag)
    assert result.xcoms("use") == [[result.xcoms("lower")[0]["oid"], "clean/a.csv"]]


def test_fields_of_mapped_tasks_may_use_their_own_arguments(hub, raw, repo, where, run_dag):
    with new_dag() as dag:

        @task.xethub(read_only=True, path="raw/{{ task.op_kwargs.name }}.csv", **where)
        def read(name, file):
            return f"{name} {file.read_text()}"

        read.expand(name=["a", "deep/b"])
    assert run_dag(dag).xcoms("read") == ["a A,B\n", "deep/b C,D\n"]


def test_the_imported_decorator_is_the_same_and_takes_a_bare_function(connection):
    @xethub_task
    def bare(output): ...

    with new_dag():
        operator = bare().operator
        assert isinstance(operator, XetDecoratedOperator)
        assert operator.task_id == "bare"
        assert task.xethub(bare.function)().operator.task_type == "XetDecoratedOperator"
        assert operator.custom_operator_name == "@task.xethub"
