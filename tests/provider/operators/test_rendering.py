"""Templates in arguments: strings stay strings with native rendering, and None means that nothing was given."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import DAG, task

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import binary, names, publish, write

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]

NUMBER = "{{ '2026_01' }}"
"""What native rendering makes a number of, and the wrong one."""

FILES = {"2026_01": binary(), "1.10/a.bin": binary(seed=1), "3": binary(seed=2)}


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def files(repo, connection, tmp_path):
    return publish(repo, tmp_path / "before", FILES)


def run(operator, *, native=True, api=None, **arguments):
    """Run one operator in a DAG that renders natively."""
    dag = new_dag()
    dag.render_template_as_native_obj = native
    with dag:
        made = operator(task_id="task", retries=2, **arguments)
    return run_one(made, api=api)


@pytest.mark.parametrize("native", [True, False])
def test_a_string_is_rendered_as_a_string(files, where, repo, tmp_path, native):
    def paths(done):
        return [file["path"] for file in done.value]

    out = str(tmp_path / "out")
    listed = {
        "path": NUMBER,
        "patterns": NUMBER,
    }
    for name, value in listed.items():
        assert paths(run(XetListOperator, native=native, **{name: value}, **where)) == ["2026_01"], name
    assert paths(run(XetListOperator, native=native, path="{{ '1.10' }}", **where)) == ["1.10/a.bin"]
    assert paths(run(XetListOperator, native=native, patterns=[NUMBER, "{{ 3 }}"], **where)) == ["2026_01", "3"]
    assert paths(run(XetDownloadOperator, native=native, paths=NUMBER, destination=out, **where)) == ["2026_01"]
    run(XetDownloadOperator, native=native, paths=[NUMBER], destination=f"{tmp_path}/{NUMBER}/", **where)
    assert "2026_01/2026_01" in names(tmp_path)
    for given in ({"path": NUMBER}, {"paths": [NUMBER]}, {"patterns": NUMBER, "min_files": "{{ 1 }}"}):
        assert run(XetFileSensor, native=native, **given, **where).value
    deferred = run(XetFileSensor, native=native, path="{{ '2027_01' }}", deferrable=True, **where)
    assert deferred.message.trigger_kwargs["paths"] == ["2027_01"]


def test_everything_that_is_published_keeps_its_text(files, hook, where, repo, tmp_path):
    source = write(tmp_path / "in", {"2027_05": binary(seed=3)})
    done = run(
        XetUploadOperator,
        source=[f"{source}/{{{{ '2027_05' }}}}"],
        path_in_repo="{{ '2028_08' }}/",
        commit_message="{{ '1.10' }}",
        commit_description="{{ [1, 2] }}",
        **where,
    )
    assert (done.value["title"], done.value["description"].split("\n")[0]) == ("1.10", "[1, 2]")
    assert run(XetCommitOperator, delete="{{ '3' }}", **where).value["deleted"] == ["3"]
    assert run(XetCommitOperator, delete=["{{ '2026_01' }}"], **where).value["deleted"] == ["2026_01"]
    assert [file["path"] for file in hook.list_files(repo)] == [".gitattributes", "1.10/a.bin", "2028_08/2027_05"]
    hook.api.create_branch(repo.repo_id, branch="1.10", repo_type="dataset")
    assert run(XetTokenOperator, revision="{{ '1.10' }}", **where).value["repo"].endswith("@1.10")


def test_a_template_of_a_list_becomes_a_list(files, where, tmp_path):
    api = ExecutionApi(xcoms={("before", "return_value", -1): ["2026_01", "3"], ("all", "return_value", -1): files})
    names_of = "{{ ti.xcom_pull('before') }}"
    for operator, given in (
        (XetListOperator, {"patterns": names_of}),
        (XetFileSensor, {"paths": names_of}),
        (XetDownloadOperator, {"paths": names_of, "destination": str(tmp_path / "out")}),
    ):
        assert len(run(operator, api=api, **given, **where).value) == 2
    records = "{{ ti.xcom_pull('all') }}"
    assert len(run(XetDownloadOperator, api=api, files=records, destination=str(tmp_path / "all")).value) == 3
    assert run(XetFileSensor, api=api, path="3", changed_from=records, deferrable=True, **where).state == "deferred"


def test_a_number_in_a_list_is_refused_with_its_cause(where, hub):
    api = ExecutionApi(xcoms={("before", "return_value", -1): [20260101], ("one", "return_value", -1): 7})
    done = run(XetListOperator, api=api, patterns="{{ ti.xcom_pull('before') }}", **where)
    assert isinstance(done.error, XetInputError)
    assert "patterns must contain strings only, not 20260101 (int); render_template_as_native_obj" in done.text
    with new_dag():
        one = XetTokenOperator(task_id="one", **where)
        path = XetListOperator(task_id="task", path=one.output, **where)
    assert "path must be a string, not 7 (int)" in run_one(path, api=api).text


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (XetDownloadOperator, "paths"),
        (XetDownloadOperator, "patterns"),
        (XetDownloadOperator, "files"),
        (XetListOperator, "patterns"),
        (XetFileSensor, "paths"),
        (XetFileSensor, "changed_from"),
        (XetCommitOperator, "delete"),
        (XetCommitOperator, "files"),
        (XetUploadOperator, "source"),
        (XetCopyOperator, "patterns"),
    ],
)
def test_the_text_of_a_list_is_refused_with_a_way_out(hub, where, operator, name):
    api = ExecutionApi(xcoms={("before", "return_value", -1): ["a.txt", "b.txt"]})
    more = {XetDownloadOperator: {"destination": "out"}, XetFileSensor: {} if name == "paths" else {"path": "a"}}
    given = {**more.get(operator, {}), name: "{{ ti.xcom_pull('before') }}"}
    done = run(operator, native=False, api=api, **given, **where)
    assert isinstance(done.error, XetInputError)
    assert done.is_final
    assert f"{name} is a list that a template turned into a string" in done.text
    assert ".output, or set render_template_as_native_obj=True" in done.text
    assert not hub.log.requests()


def test_a_pattern_may_begin_with_a_bracket(files, where):
    assert len(run(XetListOperator, native=False, patterns="[0-9]", **where).value) == 1
    assert len(run(XetListOperator, patterns="[0-9]*[0-9]", **where).value) == 1


@pytest.mark.parametrize("native", [True, False])
def test_a_template_that_comes_out_as_none_was_not_given(files, hook, where, repo, make_repo, tmp_path, native):
    none = "{{ none }}"
    everything = [".gitattributes", *sorted(FILES)]
    assert [file["path"] for file in run(XetListOperator, native=native, path=none, **where).value] == everything
    for given in ({"patterns": none, "revision": none}, {"path": none, "repo_type": "dataset", "paths": none}):
        done = run(XetDownloadOperator, native=native, destination=str(tmp_path / "out"), **{**where, **given})
        assert len(done.value) == 4
    assert run(
        XetFileSensor, native=native, path="3", newer_than=none, changed_from=none, min_files=none, **where
    ).value
    source = write(tmp_path / "in", {"new.bin": binary(seed=4)})
    done = run(
        XetUploadOperator,
        native=native,
        source=Path(source),
        path_in_repo=none,
        patterns=none,
        parent_commit=none,
        commit_message=none,
        commit_description=none,
        **where,
    )
    assert done.value["title"].startswith("Upload task of test_")
    assert run(XetTokenOperator, native=native, scope=none, **where).value["scope"] == "read"
    other = make_repo()
    done = run(
        XetCopyOperator,
        native=native,
        source_repo_id=repo.repo_id,
        source_revision=none,
        path="1.10",
        path_in_repo=none,
        repo_id=other.repo_id,
        repo_type="dataset",
    )
    assert [file["path"] for file in done.value["files"]] == ["1.10/a.bin"]
    assert not [name for name in names(tmp_path) if "None" in name]
    assert not [file for file in hook.list_files(repo) if "None" in file["path"]]


@pytest.mark.parametrize("native", [True, False])
def test_what_cannot_be_left_out_is_refused(files, where, tmp_path, monkeypatch, native):
    monkeypatch.chdir(tmp_path)
    for operator, name, more in (
        (XetDownloadOperator, "destination", {"path": "3"}),
        (XetUploadOperator, "source", {}),
        (XetDownloadOperator, "files", {"destination": "out"}),
        (XetListOperator, "patterns", {}),
    ):
        value = ["{{ none }}"] if name == "patterns" else "{{ none }}"
        done = run(operator, native=native, **{name: value}, **more, **where)
        assert isinstance(done.error, XetInputError)
        assert name in done.text
    assert not (tmp_path / "None").exists()
    assert not (tmp_path / "out").exists()


def test_a_path_called_none_can_still_be_named(hook, where, repo, tmp_path, connection):
    publish(repo, tmp_path, {"None": binary()})
    assert [file["path"] for file in run(XetListOperator, path="None", **where).value] == ["None"]
    assert [file["path"] for file in run(XetListOperator, patterns=["None"], **where).value] == ["None"]


def test_a_pathlib_path_is_rendered_like_a_string(files, where, repo, hook, tmp_path):
    source = write(tmp_path / "in", {"task.bin": binary(seed=5)})
    for value in (source / "{{ task.task_id }}.bin", [source / "{{ task.task_id }}.bin"]):
        done = run(XetUploadOperator, native=False, source=value, path_in_repo=Path("{{ task.task_id }}/"), **where)
        assert done.value["files"][0]["path"] in ("task", "task/task.bin")
    run(XetDownloadOperator, native=False, path=Path("3"), destination=tmp_path / "{{ task.task_id }}" / "x", **where)
    assert "task/x" in names(tmp_path)


def test_the_decorator_renders_its_arguments_and_leaves_those_of_the_function(files, where, tmp_path):
    dag = new_dag()
    dag.render_template_as_native_obj = True
    with dag:

        @task.xethub(path=NUMBER, read_only=True, revision="{{ none }}", **where)
        def read(file, month, number):
            return [file.name, month, number]

        made = read(month="{{ '2026-01' }}", number="{{ 7 }}").operator
    assert run_one(made).value == ["2026_01", "2026-01", 7]


def test_mapped_tasks_render_alike(files, where, tmp_path):
    dag = new_dag()
    dag.render_template_as_native_obj = True
    with dag:
        made = XetListOperator.partial(task_id="task", **where).expand(path=[NUMBER, "{{ none }}"])
    assert [file["path"] for file in run_one(made, map_index=0).value] == ["2026_01"]
    assert len(run_one(made, map_index=1).value) == 4


def test_an_operator_can_ask_for_native_rendering_on_its_own(files, where):
    """Since Airflow 3.2."""
    dag = new_dag()
    with dag:
        made = XetListOperator(task_id="task", path=NUMBER, **where)
    made.render_template_as_native_obj = True
    assert [file["path"] for file in run_one(made).value] == ["2026_01"]


def test_templates_are_rendered_outside_of_a_dag_too():
    made = XetListOperator(task_id="task", path="{{ x }}", patterns="{{ ['a', 'b'] }}", repo_id="{{ none }}")
    made.render_template_fields({"x": "2026_01"})
    assert (made.path, made.patterns, made.repo_id) == ("2026_01", "['a', 'b']", None)


def test_another_operator_is_left_alone(connection):
    from airflow.providers.standard.operators.python import PythonOperator

    dag = DAG("other", schedule=None, render_template_as_native_obj=True)
    with dag:
        made = PythonOperator(task_id="t", python_callable=lambda x: x, op_args=["{{ 7 }}"])
    assert run_one(made).value == 7
    assert XetHubConnection()
