"""``@task.xethub``: a function gets local files, and what it makes is published in one commit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from airflow.sdk import task

from airflow_provider_xethub.decorators import xethub as decorators
from airflow_provider_xethub.decorators.xethub import XetDecoratedOperator, xethub_task
from airflow_provider_xethub.exceptions import (
    XetCancelledError,
    XetIntegrityError,
    XetSourceError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.local.faults import Fault
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetListOperator, XetTokenOperator
from airflow_runs import RUN_ID, ExecutionApi, new_dag, run_one
from builders import TEXT, binary, commits, content, publish, sealed

RAW = {"raw/a.csv": b"A,B\n", "raw/deep/b.csv": b"C,D\n", "other.bin": b"\0" * 5000}


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def raw(hub, connection, repo, tmp_path):
    """The records of the repository's files."""
    files = publish(repo, tmp_path / "before", {**RAW, "other.bin": binary()})
    hub.log.clear()
    return files


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; after a test nothing may be left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def run(function, *args, api=None, try_number=1, call=None, **arguments):
    """Decorate a function in a DAG of its own, call it, and run the task."""
    with new_dag():
        made = task.xethub(retries=2, **arguments)(function)(*args, **(call or {}))
    return run_one(made.operator, api=api, try_number=try_number)


def texts(hub, repo, folder, *paths):
    return [content(hub, repo, path, folder) for path in paths]


# --- what the function gets -------------------------------------------------------------------------------------------


def lower(files, output):
    for file in files:
        (output / file.name).write_text(file.read_text().lower())


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


@pytest.mark.slow
def test_it_maps_over_files_uploads_without_a_connection_and_one_task_commits(
    hub, connection, repo, where, run_dag, tmp_path
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


@pytest.mark.slow
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


@pytest.mark.slow
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


# --- retries, damage, stopping ----------------------------------------------------------------------------------------


def test_a_retry_after_a_lost_answer_finds_the_commit_of_the_first_try(hub, raw, repo, where):
    before = commits(hub, repo)
    hub.faults.add(Fault("POST .*/commit/.*", times=1, lose_answer=True))
    hub.faults.add(Fault("GET .*/commits/.*", status=400, times=1))
    with new_dag():
        operator = task.xethub(retries=2, path="raw", path_in_repo="clean", **where)(lower)().operator
    first = run_one(operator)
    assert first.error is not None
    assert commits(hub, repo) == before + 1
    hub.log.clear()
    second = run_one(operator, try_number=2)
    assert second.value["created"]
    assert not hub.log.requests("POST .*/commit/.*")
    assert commits(hub, repo) == before + 1


def test_a_second_run_with_the_same_result_commits_nothing(hub, raw, repo, where):
    assert run(lower, path="raw", path_in_repo="clean", **where).value["created"]
    before = commits(hub, repo)
    assert not run(lower, path="raw", path_in_repo="clean", **where).value["created"]
    assert commits(hub, repo) == before


def test_a_damaged_download_never_reaches_the_function(hub, raw, where):
    def touch(files):
        raise AssertionError("called")

    hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    done = run(touch, path="other.bin", read_only=True, **where)
    assert isinstance(done.error, XetIntegrityError)
    assert not done.is_final


def test_an_error_of_the_function_is_the_tasks_error_and_publishes_nothing(hub, raw, repo, where):
    def fail(file, output):
        (output / "half.csv").write_text("half")
        raise KeyError("column")

    before = commits(hub, repo)
    done = run(fail, path="raw/a.csv", **where)
    assert isinstance(done.error, KeyError)
    assert not done.is_final
    assert commits(hub, repo) == before


def test_a_function_may_skip_its_task(hub, raw, repo, where):
    def skip(file):
        raise AirflowSkipException("nothing today")

    assert run(skip, path="raw/a.csv", **where).state == "skipped"


def be_busy():
    """Work for a long time, in many short calls: once hf_xet has run, a signal did not always end one long sleep."""
    for _ in range(6000):
        time.sleep(0.01)


def in_a_moment(condition):
    """Stop this process's task as Airflow does, once the condition holds."""

    def stop():
        while not condition():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()


def test_a_task_that_is_stopped_in_its_function_stops_at_once_and_publishes_nothing(hub, raw, repo, where):
    working = threading.Event()

    def work(file, output):
        (output / "half.csv").write_text("half")
        working.set()
        be_busy()

    before = commits(hub, repo)
    in_a_moment(working.is_set)
    done = run(work, path="raw/a.csv", **where)
    assert isinstance(done.error, XetCancelledError)
    assert not done.is_final
    assert commits(hub, repo) == before


@pytest.mark.parametrize("route", ["GET /cas/.*/v./reconstructions/.*", "POST /cas/.*/v1/xorb(s|-grants)/.*"])
def test_a_task_that_is_stopped_in_its_transfers_leaves_nothing(hub, raw, repo, where, route):
    def copy(file, output):
        (output / "copy.bin").write_bytes(os.urandom(5000))

    before = commits(hub, repo)
    fault = Fault(route, delay=5)
    hub.faults.add(fault)
    in_a_moment(lambda: hub.faults.acted(fault))
    done = run(copy, path="other.bin", **where)
    assert isinstance(done.error, XetCancelledError)
    hub.faults.clear()
    assert commits(hub, repo) == before


def test_a_function_that_takes_too_long_is_ended_and_publishes_nothing(hub, raw, repo, where):
    def work(output):
        (output / "half.csv").write_text("half")
        be_busy()

    before = commits(hub, repo)
    done = run(work, execution_timeout=timedelta(seconds=2), **where)
    assert type(done.error).__name__ == "AirflowTaskTimeout"
    assert commits(hub, repo) == before


def test_a_function_that_catches_what_stops_it_publishes_nothing(hub, raw, repo, where):
    def stubborn(file, output):
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        (output / "late.csv").write_text("late")

    before = commits(hub, repo)
    done = run(stubborn, path="raw/a.csv", **where)
    assert "Task stubborn was stopped; stubborn() went on. Nothing was published." in done.text
    assert not done.is_final
    assert commits(hub, repo) == before


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ("done", "returned a str ('done')"),
        (7, "returned a int (7)"),
        ({"a": 1}, "returned a dict ({'a': 1})"),
        ([Path("a"), "b"], "returned a str ('b')"),
        ([], "returned an empty list"),
        (b"x" * 500, "returned a bytes (b'xxx"),
    ],
)
def test_anything_else_that_a_function_returns_is_refused(hub, connection, repo, where, returned, what):
    def wrong(output):
        return returned

    done = run(wrong, **where)
    assert done.is_final
    assert f"wrong() {what}" in done.text
    assert "@task.xethub publishes the Path or the list of Paths" in done.text
    assert len(done.text) < 400
    assert commits(hub, repo) == 1


def test_a_function_that_makes_nothing_is_told_so(hub, connection, repo, where):
    def no_output(): ...

    def empty(output):
        (output / "folder").mkdir()

    done = run(no_output, **where)
    assert done.is_final
    assert "no_output() returned None and has no parameter output" in done.text
    done = run(empty, **where)
    assert done.is_final
    assert "empty() returned None and wrote no file into output" in done.text


def test_a_returned_path_that_does_not_exist_is_named(connection, where, tmp_path):
    def wrong():
        return tmp_path / "nowhere.csv"

    done = run(wrong, **where)
    assert isinstance(done.error, XetSourceError)
    assert "nowhere.csv: does not exist" in done.text


def test_several_files_are_too_many_for_file(raw, where):
    def one(file): ...

    done = run(one, path="raw", read_only=True, **where)
    assert done.is_final
    assert "one() wants one file, and there are 2. Give it the parameter files instead, or map it" in done.text


@pytest.mark.parametrize(
    ("arguments", "call", "text"),
    [
        ({"path": "a", "patterns": "*"}, {}, "give only one of path and patterns"),
        ({"path": "a"}, {"files": ["b"]}, "give only one of path and files= in the call"),
        ({}, {"output": "/tmp"}, "the task itself makes output; leave it out of the call"),
        ({"read_only": True}, {}, "read_only=True uploads nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_dag_file(arguments, call, text):
    with new_dag(), pytest.raises(ValueError, match=text):
        xethub_task(**arguments)(lower)(**call)


def test_files_that_no_parameter_takes_are_refused_in_the_dag_file():
    def nobody(output): ...

    with (
        new_dag(),
        pytest.raises(ValueError, match=r"path is given, but nobody\(\) has none of the parameters file, fi"),
    ):
        xethub_task(path="a")(nobody)()


def test_functions_that_cannot_be_called_by_name_are_refused_in_the_dag_file():
    async def later(file): ...

    def several(*files): ...

    def only(file, /): ...

    def yields(file):
        yield file

    for function, text in [(later, "async"), (yields, "generators"), (several, r"\*args"), (only, "positional-only")]:
        with new_dag(), pytest.raises(TypeError, match=text):
            xethub_task(function)()
    with new_dag(), pytest.raises(TypeError, match="Give file and files by name"):
        xethub_task(lower)(["a"])
    with new_dag(), pytest.raises(TypeError, match="missing a required argument: 'more'"):
        xethub_task(lambda file, more: None)()
    with new_dag(), pytest.raises(TypeError, match="multiple values for argument 'more'"):
        xethub_task(lambda file, more: None)(1, more=2)


def test_records_and_another_source_are_refused(raw, where):
    done = run(lower, files=raw[1:2], source_repo_id="acme/other", **where)
    assert done.is_final
    assert "Xet file records say where they come from; leave out source_repo_id" in done.text


@pytest.mark.parametrize("given", [[], [[]], {"files": []}])
def test_an_empty_list_of_files_is_refused(connection, where, given):
    done = run(lower, call={"files": given}, **where)
    assert done.is_final
    assert "the list of files is empty" in done.text


def test_what_cannot_be_written_is_refused_before_the_function_works(hub, raw, repo, where, connection):
    def work(file, output):
        raise AssertionError("called")

    connection(password=hub.token("read"))
    done = run(work, path="raw/a.csv", **where)
    assert done.is_final
    assert "answered 403 to the write token request" in done.text
    connection(password="hf_wrong")
    assert isinstance(run(work, path="raw/a.csv", **where).error, XetUnauthorizedError)


def test_a_read_token_is_refused_before_anything_is_asked(hub, raw, repo, where):
    token = sealed(repo, "read")
    hub.log.clear()
    api = ExecutionApi(xcoms={("token", "return_value", -1): token})
    with new_dag():
        first = XetTokenOperator(task_id="token", **where)
        operator = task.xethub(token=first.output, path="raw/a.csv", **where)(lower)().operator
        assert operator.upstream_task_ids == {"token"}
    done = run_one(operator, api=api)
    assert done.is_final
    assert "a read token" in done.text
    assert not hub.log.requests()
    assert token["sealed"] not in json.dumps(done.rendered)


def test_reading_asks_for_no_write_token(hub, raw, where):
    assert (
        run(lambda file: file.stat().st_size, task_id="size", path="other.bin", read_only=True, **where).value == 5000
    )
    assert hub.log.requests("GET .*/xet-read-token/.*")
    assert not hub.log.requests("GET .*/xet-write-token/.*")


def test_every_argument_is_a_template_field_unless_it_shapes_the_dag():
    import inspect

    own = {
        name
        for kind in XetDecoratedOperator.__mro__
        if kind.__module__.startswith("airflow_provider_xethub.")
        for name, each in inspect.signature(kind.__init__).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }
    fixed = {"python_callable", "token", "commit", "create_pr", "deduplicate", "read_only", "source"}
    assert own - set(XetDecoratedOperator.template_fields) == fixed
    assert set(XetDecoratedOperator.template_fields) <= own
    assert list(XetDecoratedOperator.template_fields[:2]) == ["op_args", "op_kwargs"]
    assert decorators.PLACES == ("file", "files", "folder", "output")
