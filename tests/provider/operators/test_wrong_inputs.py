"""What an author gets wrong: one clear message, no retry, and nothing sent, committed or written."""

from __future__ import annotations

import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from support.builders import TEXT, binary, commits, names, publish, sealed, write

TRANSFERS = {XetUploadOperator: {"source": __file__}, XetDownloadOperator: {"destination": "unused", "path": "a"}}
ALL = {XetTokenOperator: {}, XetListOperator: {}, XetFileSensor: {"path": "a"}, **TRANSFERS}


RECORD = {"path": "a", "size": 1, "sha256": None, "xet_hash": None, "repo": "hf://datasets/local/x@main"}


@pytest.fixture
def quiet(hub):
    """Afterwards the Hub was asked nothing."""
    yield
    assert not hub.log.requests()


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"a.bin": binary(), "b.csv": TEXT}))


def refused(run, kind, *parts):
    """Assert that a task failed for good with this error and text."""
    assert isinstance(run.error, kind), repr(run.error)
    assert isinstance(run.error, AirflowFailException)
    assert run.is_final
    for part in parts:
        assert part in run.text
    return run


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"repo_id": "corpus"}, "repo_id 'corpus' is not of the form 'namespace/name'"),
        ({"repo_id": "a/../b"}, "repo_id 'a/../b' is not of the form"),
        ({"repo_id": "a/b--c"}, "must not contain '--'"),
        ({"repo_id": "a/b", "repo_type": "repository"}, "'repository' is unknown; use one of model, dataset, space"),
        ({"repo_id": "a/b", "revision": "a..b"}, "revision 'a..b' is not a valid git reference"),
        ({"repo_id": "a/b", "repo_type": "bucket", "revision": "dev"}, "buckets have no revisions"),
        ({}, "repo_id is missing: give it to the task, or set it as default in connection 'xethub_default'"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_sent(quiet, connection, run_task, kind, arguments, text):
    refused(run_task(kind, **ALL[kind], **arguments), exceptions.XetInputError, text)


def test_a_scope_that_does_not_exist_is_refused(quiet, where, run_task):
    run = run_task(XetTokenOperator, scope="admin", **where)
    refused(run, exceptions.XetInputError, "scope 'admin' is unknown; use 'read' or 'write'")


@pytest.mark.parametrize("kind", ALL)
def test_a_revision_that_does_not_exist_is_named(hub, where, repo, run_task, tmp_path, kind):
    arguments = ALL[kind] | ({"destination": str(tmp_path / "out")} if kind is XetDownloadOperator else {})
    run = run_task(kind, **where, **arguments, revision="no-such-branch")
    refused(run, exceptions.XetNotFoundError, repo.at("no-such-branch").uri)
    assert len(hub.log.requests(status=404)) == len(hub.log.requests())
    assert not (tmp_path / "out").exists()
    assert commits(hub, repo) == 1


def test_a_bucket_has_no_commits(quiet, connection, make_repo, source, run_task):
    bucket = make_repo("bucket")
    run = run_task(XetUploadOperator, source=source, repo_id=bucket.repo_id, repo_type="bucket", create_pr=True)
    refused(run, exceptions.XetInputError, "is a bucket: it has no commits")


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [True, False])
def test_a_read_token_does_not_start_an_upload(hub, where, repo, source, run_task, commit):
    token = sealed(repo, "read")
    hub.log.clear()
    run = run_task(XetUploadOperator, source=source, token=token, commit=commit)
    refused(run, exceptions.XetTokenScopeError, f"a read token for {repo} cannot upload", "scope='write'")
    assert not hub.log.requests()


def test_a_commit_takes_a_connection(hub, where, repo, run_task, tmp_path):
    records = publish(repo, tmp_path, {"a.bin": binary()})
    hub.log.clear()
    run = run_task(XetCommitOperator, files=records, xethub_conn_id=None, **where)
    refused(run, exceptions.XetInputError, "This needs a connection to the Hub, but xethub_conn_id is None")
    assert not hub.log.requests()


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_token_of_another_repository_is_refused(hub, where, repo, make_repo, run_task, kind):
    token = sealed(make_repo(), "write")
    hub.log.clear()
    run = run_task(kind, token=token, **where, **TRANSFERS[kind])
    refused(run, exceptions.XetTokenScopeError, f"the token is for {token['repo']}, not for {repo}")
    assert not hub.log.requests()


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_token_of_another_revision_is_refused(hub, where, repo, run_task, kind):
    token = sealed(repo, "write")
    hub.log.clear()
    run = run_task(kind, token=token, **where, **TRANSFERS[kind], revision="dev")
    refused(run, exceptions.XetTokenScopeError, f"is for {repo}, not for {repo.at('dev')}", "leave out repo_id")
    assert not hub.log.requests()


def test_records_of_another_repository_than_the_token_or_the_arguments_are_refused(
    hub, where, repo, make_repo, run_task, tmp_path
):
    files = publish(make_repo(), tmp_path / "before", {"a.bin": binary()})
    token = sealed(repo, "read")
    hub.log.clear()
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=files, token=token)
    refused(run, exceptions.XetTokenScopeError, f"the token is for {repo}, but the files are from {files[0]['repo']}")
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=files, **where)
    refused(run, exceptions.XetInputError, f"this task is for {repo}, but the files are from {files[0]['repo']}")
    assert not hub.log.requests()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "write"},
        {"repo": "hf://datasets/local/other@main"},
        {"cas_url": "http://127.0.0.1:1"},
        {"expires_at": "2099-01-01T00:00:00Z"},
        {"conn_id": "other"},
        {"expires_at": "never"},
        {"more": 1},
    ],
)
def test_a_token_that_was_changed_is_refused_and_not_replaced(hub, where, repo, source, run_task, change):
    token = {**sealed(repo, "read" if "scope" in change else "write"), **change}
    hub.log.clear()
    run = run_task(XetUploadOperator, source=source, token=token, commit=False)
    refused(run, exceptions.XetTokenTamperedError)
    assert (
        "was changed after it was sealed" in run.text or "is damaged: it is not what XetTokenOperator wrote" in run.text
    )
    assert not hub.log.requests()


def test_a_sealed_part_that_was_changed_is_replaced_through_the_connection_only(
    hub, where, repo, source, run_task, disconnect
):
    token = sealed(repo, "write")
    token["sealed"] = token["sealed"][:-6] + "AAAAA="
    assert run_task(XetUploadOperator, source=source, token=token, commit=False, **where).value
    disconnect()
    hub.log.clear()
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, **where)
    assert isinstance(run.error, exceptions.XetAirflowConnectionError)
    assert "Another Fernet key sealed the token, or it is broken." in run.text
    assert "it lacks the connection 'xethub_default'" in run.text
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, xethub_conn_id=None, **where)
    refused(
        run,
        exceptions.XetTokenSealError,
        "Another Fernet key sealed the token, or it is broken.",
        "it lacks xethub_conn_id",
    )
    assert not hub.log.requests()


@pytest.mark.parametrize("token", ["hf_" + "x" * 30, {"access_token": "x"}, ["x"], 7])
def test_something_else_than_a_token_is_refused(quiet, where, source, run_task, token):
    run = run_task(XetUploadOperator, source=source, token=token, commit=False)
    refused(run, exceptions.XetInputError, "token is not the output of a XetTokenOperator")
    assert "hf_" not in run.text


def test_an_expired_token_is_replaced_where_there_is_a_connection(hub, where, repo, source, run_task, disconnect):
    hub.access.token_life = 1
    token = sealed(repo, "write")
    hub.access.token_life = 900
    time.sleep(1.1 + 1)
    hub.log.clear()
    assert run_task(XetUploadOperator, source=source, token=token, commit=False).value
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == 1
    disconnect()
    hub.log.clear()
    run = run_task(XetUploadOperator, source=source, token=token, commit=False)
    assert isinstance(run.error, exceptions.XetAirflowConnectionError)
    assert f"The write token for {repo} has expired. " in run.text
    assert "Fetch it closer to its use" in run.text
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, xethub_conn_id=None)
    refused(run, exceptions.XetTokenExpiredError, f"The write token for {repo} has expired. ", "Set xethub_conn_id=")
    assert not hub.log.requests()


def test_a_token_of_another_connection_is_not_replaced_through_this_one(hub, connection, repo, source, run_task):
    hub.access.token_life = 1
    token = sealed(repo, "write")
    time.sleep(1.1 + 1)
    connection("other")
    hub.log.clear()
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, xethub_conn_id="other")
    refused(run, exceptions.XetTokenExpiredError, "Set xethub_conn_id='xethub_default'")
    assert not hub.log.requests()


# --- credentials ------------------------------------------------------------------------------------------------------


def test_a_read_only_hub_token_cannot_get_a_write_token(hub, connection, where, repo, source, run_task):
    connection(password=hub.token("read"))
    run = run_task(XetTokenOperator, scope="write", **where)
    refused(run, exceptions.XetForbiddenError, "answered 403 to the write token request", repo.uri)
    run = run_task(XetUploadOperator, source=source, **where)
    refused(run, exceptions.XetForbiddenError, "403")
    assert commits(hub, repo) == 1


@pytest.mark.parametrize("kind", ALL)
def test_a_wrong_hub_token_fails_for_good(hub, connection, where, repo, run_task, kind, tmp_path):
    connection(password="hf_" + "y" * 34)
    arguments = ALL[kind] | ({"destination": str(tmp_path / "out")} if kind is XetDownloadOperator else {})
    run = run_task(kind, **where, **arguments)
    refused(run, exceptions.XetUnauthorizedError, "401", "connection 'xethub_default'")
    assert len(hub.log.requests(status=401)) == len(hub.log.requests())


@pytest.mark.parametrize("kind", ALL)
def test_a_worker_without_the_connection_says_how_to_create_it(quiet, where, run_task, kind, disconnect):
    disconnect()
    run = run_task(kind, **where, **ALL[kind])
    assert isinstance(run.error, exceptions.XetAirflowConnectionError)
    assert run.state == "up_for_retry"
    assert run.text.startswith(
        "Airflow found no connection 'xethub_default'. Create it, or retry if it exists: Airflow"
    )
    assert "airflow connections import connections.json" in run.text


# --- local files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (["nothing.bin"], "nothing.bin: does not exist"),
        (["a.bin", "nothing.bin", "no.csv"], "2 sources cannot be read on this worker"),
        (["*.parquet"], "*.parquet: matches no file"),
        (["none"], "none: no file found"),
        (["pipe"], "pipe: is not a regular file"),
        (["dangling"], "dangling: no such file or directory"),
    ],
)
def test_a_missing_source_is_named_and_nothing_is_sent(quiet, where, source, tmp_path, run_task, sources, text, commit):
    import os

    folder = tmp_path / "in"
    (folder / "none").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("gone")
    run = run_task(XetUploadOperator, source=[str(folder / each) for each in sources], commit=commit, **where)
    assert isinstance(run.error, exceptions.XetSourceError)
    assert text in run.text
    assert "Nothing was uploaded" in run.text
    assert run.state == "up_for_retry"  # the file may be there at the next try


def test_two_sources_with_one_path_in_the_repository_are_refused(quiet, where, source, tmp_path, run_task):
    other = write(tmp_path / "other", {"a.bin": binary(9, 9)})
    run = run_task(XetUploadOperator, source=[f"{source}/a.bin", str(other / "a.bin")], **where)
    refused(run, exceptions.XetInputError, "would both become a.bin in the repository")


@pytest.mark.parametrize("path", ["../up.bin", "/etc/x", ".git/config"])
def test_a_path_in_the_repository_that_means_another_place_is_refused(quiet, where, source, run_task, path):
    run = run_task(XetUploadOperator, source=f"{source}/a.bin", path_in_repo=path, **where)
    refused(run, exceptions.XetInputError, f"path {path!r} in a repository is not valid")


@pytest.fixture
def record(hub, where, repo, tmp_path):
    [file] = publish(repo, tmp_path / "before", {"d/a.bin": binary()})
    hub.log.clear()
    return file


@pytest.mark.parametrize("path", ["../../escape.bin", "/tmp/escape.bin", "d/../../escape.bin", "d\\..\\x"])
def test_a_path_that_leaves_the_destination_is_refused(hub, record, run_task, tmp_path, path):
    before = names(tmp_path)
    files = [{**record, "path": path}]
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out" / "deep"), files=files)
    refused(run, exceptions.XetInputError, f"path {path!r} in a repository is not valid")
    assert not hub.log.requests()
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": ""}, "a path that is empty"),
        ({"path": 5}, "a path that is not a string"),
        ({"size": -1}, "a size that is not an integer from 0"),
        ({"size": 2**63}, "a size that is not an integer from 0"),
        ({"sha256": 5}, "a sha256 that is not 64 hex digits"),
        ({"xet_hash": "../x"}, "a Xet hash that is not 64 hex digits"),
        ({"repo": None}, "'repo' that is not a string"),
        ({"path": "d/" + "x" * 300}, "longer than the 255 bytes that the file system of this worker allows"),
        ({"path": "x" * 300 + "/a"}, "longer than the 255 bytes that the file system of this worker allows"),
    ],
)
def test_a_record_with_an_odd_value_is_refused(hub, record, run_task, tmp_path, change, says):
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=[{**record, **change}])
    refused(run, exceptions.XetInputError, says)
    assert not hub.log.requests()
    assert not (tmp_path / "out").exists()


def test_a_symbolic_link_in_the_destination_does_not_lead_out_of_it(hub, record, run_task, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "elsewhere")
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=[record])
    refused(run, exceptions.XetInputError, "d/a.bin of hf://datasets/", "would be written outside of")
    assert not hub.log.requests()
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("destination", ["file", "/proc/xethub", "taken"])
def test_a_destination_that_cannot_be_written_is_named(hub, record, run_task, tmp_path, destination):
    write(tmp_path, {"file": b"in the way", "taken/d/a.bin/x": b"a folder in the way"})
    before = names(tmp_path)
    run = run_task(XetDownloadOperator, destination=str(tmp_path / destination), files=[record])
    assert isinstance(run.error, exceptions.XetDestinationError)
    assert "cannot be written on this worker" in run.text or "is a folder; d/a.bin cannot replace it" in run.text
    assert run.state == "up_for_retry"
    assert not hub.log.requests("GET /cas/.*")
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"path": "a", "patterns": "b"}, "task: give only one of path and patterns"),
        ({"files": []}, "task: files is empty"),
        ({"files": "a.bin"}, "files must be Xet file records"),
        ({"files": [{"path": "a"}]}, "files has a record with no repo, sha256, size, xet_hash"),
        ({"destination": "", "files": [RECORD]}, "destination is empty"),
        ({"files": [RECORD, RECORD]}, "two of the files would be written to"),
    ],
)
def test_arguments_of_a_download_that_make_no_sense_are_refused(quiet, where, run_task, tmp_path, arguments, text):
    where = {} if arguments.get("files") in ([RECORD], [RECORD, RECORD]) else where
    run = run_task(XetDownloadOperator, **{"destination": str(tmp_path / "out"), **where, **arguments})
    refused(run, exceptions.XetInputError, text)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wanted", [{"path": "nothing"}, {"paths": ["d/a.bin", "nothing"]}, {"patterns": "nothing*"}])
def test_files_that_are_not_in_the_repository_are_named(record, where, run_task, tmp_path, wanted):
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **wanted, **where)
    refused(run, exceptions.XetNotFoundError, "nothing")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ([{"path": "a"}], "files has a record with no"),
        ("a.bin", "files must be Xet file records"),
        (None, "files must be Xet file records"),
    ],
)
def test_arguments_of_a_commit_that_make_no_sense_are_refused(quiet, where, run_task, files, text):
    refused(run_task(XetCommitOperator, files=files, **where), exceptions.XetInputError, text)


def test_a_commit_of_two_repositories_at_once_is_refused(hub, where, record, make_repo, run_task, tmp_path):
    other = publish(make_repo(), tmp_path / "other", {"b.bin": binary()})
    hub.log.clear()
    run = run_task(XetCommitOperator, files=[record, other])
    refused(run, exceptions.XetInputError, "the files are of several repositories")
    assert not hub.log.requests()
