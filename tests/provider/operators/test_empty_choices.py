"""Only None selects everything; what is empty is refused, or skips the task where the author said so."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import task

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError, XetNotFoundError, XetSourceError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import TEXT, binary, commits, publish, write
from support.decorated import lower, run

pytestmark = pytest.mark.airflow

FILES = {"secret.bin": binary(), "wanted.csv": TEXT}
"""What nobody selected."""


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def files(repo, connection, tmp_path):
    return publish(repo, tmp_path / "before", FILES)


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"a.csv": TEXT, "b.bin": binary()}))


@pytest.fixture
def untouched(hub, files, repo, tmp_path):
    """Afterwards the Hub was asked nothing, and nothing was downloaded."""
    hub.log.clear()
    yield
    assert not hub.log.requests()
    assert not (tmp_path / "out").exists()


def call(operator, arguments, tmp_path):
    """Complete the arguments of an operator."""
    required = {
        XetUploadOperator: {"source": str(write(tmp_path / "in", {"a.csv": TEXT}))},
        XetDownloadOperator: {"destination": str(tmp_path / "out")},
        XetCopyOperator: {"path_in_repo": "copy"},
        XetFileSensor: {} if {"path", "paths", "patterns"} & set(arguments) else {"path": "a"},
        XetCommitOperator: {"delete": "wanted.csv"},
    }
    return {**required.get(operator, {}), **arguments}


REFUSED = [
    (XetListOperator, "path", ["", " ", "/"]),
    (XetListOperator, "patterns", ["", [], ["*.csv", ""]]),
    (XetUploadOperator, "patterns", ["", []]),
    (XetUploadOperator, "path_in_repo", ["", "/"]),
    (XetUploadOperator, "parent_commit", [""]),
    (XetUploadOperator, "source", ["", [""]]),
    (XetCommitOperator, "delete", ["", [], [""]]),
    (XetCommitOperator, "files", [[], [[], []], {"files": []}]),
    (XetCommitOperator, "parent_commit", [""]),
    (XetCommitOperator, "revision", [""]),
    (XetDownloadOperator, "path", ["", "//"]),
    (XetDownloadOperator, "paths", ["", []]),
    (XetDownloadOperator, "patterns", ["", [], ()]),
    (XetDownloadOperator, "files", [[], [[]]]),
    (XetDownloadOperator, "destination", [""]),
    (XetCopyOperator, "path", [""]),
    (XetCopyOperator, "paths", ["", []]),
    (XetCopyOperator, "patterns", ["", []]),
    (XetCopyOperator, "files", [[]]),
    (XetCopyOperator, "path_in_repo", [""]),
    (XetCopyOperator, "parent_commit", [""]),
    (XetCopyOperator, "source_repo_id", [""]),
    (XetCopyOperator, "source_repo_type", [""]),
    (XetCopyOperator, "source_revision", [""]),
    (XetTokenOperator, "repo_id", [""]),
    (XetTokenOperator, "repo_type", [""]),
    (XetTokenOperator, "revision", [""]),
    (XetTokenOperator, "xethub_conn_id", [""]),
    (XetFileSensor, "path", [""]),
    (XetFileSensor, "paths", [[], [""]]),
    (XetFileSensor, "patterns", ["", []]),
    (XetFileSensor, "newer_than", [""]),
    (XetFileSensor, "changed_from", [""]),
    (XetFileSensor, "revision", [""]),
    (XetFileSensor, "xethub_conn_id", [""]),
    (XetRevisionSensor, "newer_than", [""]),
    (XetForgetTokenOperator, "token_task_ids", ["", []]),
]


def test_an_empty_argument_is_refused_by_its_name(untouched, where, run_task, tmp_path):
    for operator, name, values in REFUSED:
        nameless = operator is XetForgetTokenOperator or (name, operator) == ("files", XetDownloadOperator)
        for value in values:
            arguments = call(operator, {**({} if nameless else where), name: value}, tmp_path)
            done = run_task(operator, **arguments)
            assert isinstance(done.error, XetInputError), (operator, name, value)
            assert done.is_final
            assert f"{name} is empty" in done.text, (operator, name, value)


def test_one_empty_argument_beside_another_is_refused(untouched, where, run_task):
    done = run_task(XetFileSensor, path="", patterns="*.csv", **where)
    assert "path is empty" in done.text


@pytest.mark.parametrize("value", ["", []])
def test_an_empty_selection_is_refused_by_the_decorator(untouched, where, value):
    for name in ("paths", "patterns"):
        assert f"{name} is empty" in run(lower, **{name: value}, **where).text

    def read(file): ...

    done = run(read, call={"file": ""}, read_only=True, **where)
    assert "file is empty" in done.text


def test_what_is_empty_is_refused_by_the_hook(untouched, source, repo, tmp_path):
    hook = XetHubConnection()
    record = {"path": "a", "size": 1, "sha256": None, "xet_hash": None, "repo": repo.uri}
    request = CommitRequest(repo, ())
    for refused in (
        lambda: hook.list_files(repo, ""),
        lambda: hook.list_files(repo, patterns=[]),
        lambda: hook.upload(source, repo, patterns=()),
        lambda: hook.upload(source, repo, path_in_repo=""),
        lambda: hook.publish([], request),
        lambda: hook.publish(source, CommitRequest(repo, (), parent_commit="")),
        lambda: hook.commit(CommitRequest(repo, [record], idempotency_key="")),
        lambda: hook.copy([record], request, path_in_repo=""),
        lambda: hook.repo("", "dataset"),
        lambda: hook.repo(repo.repo_id, ""),
        lambda: hook.repo(repo.repo_id, "dataset", ""),
        lambda: XetHubConnection(""),
    ):
        with pytest.raises(XetInputError, match=r"is (an )?empty"):
            refused()
    with pytest.raises(XetInputError, match="there are no files"):
        hook.download(tmp_path / "out", [])


# --- nothing to do ----------------------------------------------------------------------------------------------------


def skipped(done):
    assert done.state == "skipped", (done.state, done.error)
    return done


NOTHING_TO_DO = [
    (XetDownloadOperator, {"files": []}),
    (XetDownloadOperator, {"files": [[], []]}),
    (XetDownloadOperator, {"patterns": "nothing*"}),
    (XetCopyOperator, {"files": []}),
    (XetCopyOperator, {"patterns": "nothing*"}),
    (XetCommitOperator, {"files": [], "delete": ()}),
    (XetCommitOperator, {"files": [[]], "delete": []}),
    (XetCommitOperator, {"files": None, "delete": ()}),
    (XetUploadOperator, {"source": []}),
    (XetUploadOperator, {"source": [], "commit": False}),
    (XetUploadOperator, {"patterns": "nothing*"}),
]


def test_a_task_with_nothing_to_do_is_skipped_if_its_author_says_so(files, where, repo, hub, run_task, tmp_path):
    before = commits(hub, repo)
    for operator, arguments in NOTHING_TO_DO:
        nameless = operator is XetDownloadOperator and "files" in arguments
        given = call(operator, {**({} if nameless else where), **arguments}, tmp_path)
        skipped(run_task(operator, on_empty="skip", **given))
        failed = run_task(operator, **given)
        assert isinstance(failed.error, (XetInputError, XetNotFoundError, XetSourceError)), (operator, arguments)
    assert commits(hub, repo) == before
    assert not (tmp_path / "out").exists()


def test_a_source_without_files_is_skipped(where, repo, run_task, tmp_path, monkeypatch):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for source in ("in", "in/*.csv", f"file://{tmp_path}/in/", f"file://{tmp_path}/in/*.csv", ["in", "in/*.csv"]):
        for commit in (True, False):
            skipped(run_task(XetUploadOperator, source=source, commit=commit, on_empty="skip", **where))
            failed = run_task(XetUploadOperator, source=source, commit=commit, **where)
            assert isinstance(failed.error, XetEmptySourceError)
            assert failed.state == "up_for_retry"


def test_what_is_missing_is_never_skipped(files, where, run_task, tmp_path):
    (tmp_path / "in").mkdir()
    for source in (str(tmp_path / "nowhere"), [str(tmp_path / "in/*"), str(tmp_path / "nowhere")]):
        failed = run_task(XetUploadOperator, source=source, on_empty="skip", **where)
        assert isinstance(failed.error, XetSourceError)
        assert "nowhere" in failed.text
    for wanted in ({"path": "nothing"}, {"paths": ["wanted.csv", "nothing"]}):
        failed = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), on_empty="skip", **wanted, **where)
        assert isinstance(failed.error, XetNotFoundError)


def test_a_missing_path_in_a_bucket_is_not_skipped(connection, make_repo, run_task, tmp_path):
    bucket = make_repo("bucket")
    where = {"repo_id": bucket.repo_id, "repo_type": "bucket", "on_empty": "skip"}
    failed = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), path="nothing", **where)
    assert isinstance(failed.error, XetNotFoundError)
    assert f"nothing does not exist in {bucket}" in failed.text
    skipped(run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **where))


def test_with_skip_a_commit_does_what_is_left(files, hook, where, repo, run_task):
    done = run_task(XetCommitOperator, files=[], delete="secret.bin", on_empty="skip", **where)
    assert done.value["deleted"] == ["secret.bin"]
    failed = run_task(XetCommitOperator, files=[], delete="wanted.csv", **where)
    assert "files is empty" in failed.text
    assert "wanted.csv" in {file["path"] for file in hook.list_files(repo)}


def test_a_commit_without_any_argument_is_a_mistake(where, run_task):
    failed = run_task(XetCommitOperator, on_empty="skip", **where)
    assert "neither files nor paths to delete" in failed.text


def test_records_that_never_came_are_not_everything(files, where, tmp_path):
    """A task that was skipped has returned None."""
    with new_dag():
        first = XetListOperator(task_id="first", **where)
        second = XetDownloadOperator(task_id="second", files=first.output, destination=str(tmp_path / "out"), **where)
        third = task.xethub(**where)(lower)(files=first.output).operator
    for operator in (second, third):
        done = run_one(operator, api=ExecutionApi())
        assert isinstance(done.error, XetInputError)
        assert "is empty" in done.text
    assert not (tmp_path / "out").exists()


def test_the_decorator_skips_what_has_no_files_and_what_makes_none(files, where):
    def idle(output): ...

    def none_of_it(output):
        return []

    def empty_folder(output):
        return output

    for function, arguments in (
        (lower, {"patterns": "nothing*"}),
        (lower, {"call": {"files": []}}),
        (lower, {"files": [[]]}),
        (idle, {}),
        (none_of_it, {}),
        (empty_folder, {}),
    ):
        skipped(run(function, on_empty="skip", **arguments, **where))
        assert isinstance(run(function, **arguments, **where).error, (XetInputError, XetNotFoundError, XetSourceError))


def test_a_commit_of_mapped_uploads_that_were_all_skipped_is_skipped(where, files, run_task):
    with new_dag():
        upload = XetUploadOperator.partial(task_id="upload", commit=False, **where).expand(source=[["a"], ["b"]])
        arguments = {"files": upload.output, "trigger_rule": "none_failed", **where}
        publish_all = XetCommitOperator(task_id="publish", on_empty="skip", **arguments)
        failing = XetCommitOperator(task_id="failing", **arguments)
        dropping = XetCommitOperator(task_id="dropping", delete="secret.bin", **arguments)
    skipped(run_one(publish_all, api=ExecutionApi(mapped={"upload": 0})))
    for operator in (failing, dropping):
        assert "files is empty" in run_one(operator, api=ExecutionApi(mapped={"upload": 0})).text
    some = ExecutionApi(mapped={"upload": 1}, xcoms={("upload", "return_value", 1): files[:1]})
    assert run_one(publish_all, api=some).value["files"]


def test_on_empty_is_one_of_two(tmp_path):
    for operator in (XetUploadOperator, XetCommitOperator, XetDownloadOperator, XetCopyOperator):
        with new_dag(), pytest.raises((XetInputError, AirflowException), match="on_empty 'ignore' is unknown"):
            operator(task_id="t", on_empty="ignore", **call(operator, {}, tmp_path))
