from __future__ import annotations

import hashlib

import pytest

from airflow_provider_xethub.exceptions import XetAirflowConnectionError, XetConflictError, XetInputError
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.hub import client as hub_module
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import TEXT, binary, commits, content, names, publish, sealed, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


# --- XetUploadOperator ------------------------------------------------------------------------------------------------


def test_an_upload_publishes_a_folder_in_one_commit(hub, connection, repo, where, run_task, tmp_path):
    files = {"a.csv": TEXT, "sub/b.bin": binary(), "empty": b""}
    source = write(tmp_path / "in", files)
    run = run_task(XetUploadOperator, source=str(source), path_in_repo="data", **where)
    result = run.value
    assert result["created"]
    assert result["title"] == "Upload task of test"
    assert [file["path"] for file in result["files"]] == ["data/a.csv", "data/empty", "data/sub/b.bin"]
    assert result["url"].endswith(f"/datasets/{repo.repo_id}/commit/{result['oid']}")
    assert len(hub.log.requests("POST .*/commit/main")) == 1
    for name, expected in files.items():
        assert content(hub, repo, f"data/{name}", tmp_path) == expected
    figures = run.xcoms["transfer"]
    assert (figures["files"], figures["bytes"]) == (1, 5000)
    assert figures == result["transfer"]


def test_an_upload_of_what_is_there_already_commits_nothing(hub, connection, repo, where, run_task, tmp_path):
    source = write(tmp_path / "in", {"a.csv": TEXT, "b.bin": binary()})
    first = run_task(XetUploadOperator, source=str(source), **where).value
    again = run_task(XetUploadOperator, source=str(source), task_id="other", **where).value
    assert (again["created"], again["oid"]) == (False, first["oid"])
    assert again["unchanged"] == ["a.csv", "b.bin"]
    assert commits(hub, repo) == 2


def test_a_retried_upload_whose_commit_answer_was_lost_finds_its_commit(
    hub, connection, repo, where, run_task, tmp_path, monkeypatch
):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    source = write(tmp_path / "in", {"b.bin": binary()})
    hub.faults.add(Fault("POST .*/commit/main", times=1, lose_answer=True))
    result = run_task(XetUploadOperator, source=str(source), **where).value
    assert result["created"]
    assert commits(hub, repo) == 2


def test_an_upload_without_commit_returns_records_and_publishes_nothing(
    hub, connection, repo, where, run_task, tmp_path
):
    source = write(tmp_path / "in", {"b.bin": binary(), "c.bin": binary(3000, 1)})
    run = run_task(XetUploadOperator, source=[str(source / "b.bin"), str(source / "c.bin")], commit=False, **where)
    assert [(file["path"], file["size"]) for file in run.value] == [("b.bin", 5000), ("c.bin", 3000)]
    assert run.value[0]["sha256"] == hashlib.sha256(binary()).hexdigest()
    assert run.value[0]["repo"] == repo.uri
    assert run.xcoms["transfer"]["bytes"] == 8000
    assert commits(hub, repo) == 1


def test_an_upload_with_a_token_needs_no_connection_and_asks_the_hub_nothing(
    hub, connection, repo, run_task, tmp_path, disconnect
):
    token = sealed(repo, "write")
    disconnect()
    hub.log.clear()
    source = write(tmp_path / "in", {"b.bin": binary()})
    for conn_id in ("xethub_default", None):
        run = run_task(XetUploadOperator, source=str(source), commit=False, token=token, xethub_conn_id=conn_id)
        assert run.value[0]["repo"] == repo.uri
    assert hub.log.requests("POST /cas/.*/v2/shards", status=200)
    assert not hub.log.requests(".* /api/.*")


def test_a_transfer_that_pushes_nothing_pushes_neither_figures_nor_a_link(connection, repo, where, run_task, tmp_path):
    source = write(tmp_path / "in", {"b.bin": binary()})
    for kind, arguments in (
        (XetUploadOperator, {"source": str(source)}),
        (XetDownloadOperator, {"destination": str(tmp_path / "out"), "path": "b.bin"}),
        (XetTokenOperator, {}),
    ):
        run = run_task(kind, do_xcom_push=False, **arguments, **where)
        assert run.state == "success"
        assert run.xcoms == {}
    assert run_task(XetDownloadOperator, destination=str(tmp_path / "out"), path="b.bin", **where).xcoms["transfer"]


def test_an_upload_takes_patterns_and_a_name_for_a_single_file(hub, connection, repo, where, run_task, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary(), "b.csv": TEXT, "sub/c.bin": binary(10, 2)})
    run = run_task(XetUploadOperator, source=str(source), patterns="*.bin", commit=False, **where)
    assert [file["path"] for file in run.value] == ["a.bin", "sub/c.bin"]
    run = run_task(XetUploadOperator, source=str(source / "**" / "*.bin"), commit=False, **where)
    assert [file["path"] for file in run.value] == ["a.bin", "sub/c.bin"]
    run = run_task(XetUploadOperator, source=str(source / "a.bin"), path_in_repo="x/y.bin", commit=False, **where)
    assert [file["path"] for file in run.value] == ["x/y.bin"]


def test_an_upload_can_open_a_pull_request(hub, connection, repo, where, run_task, tmp_path):
    source = write(tmp_path / "in", {"b.bin": binary()})
    result = run_task(XetUploadOperator, source=str(source), create_pr=True, commit_message="Please", **where).value
    assert result["pull_request"].endswith("/discussions/1")
    assert result["repo"] == repo.at("refs/pr/1").uri
    assert commits(hub, repo) == 1
    assert content(hub, repo.at("refs/pr/1"), "b.bin", tmp_path) == binary()


def test_an_upload_refuses_to_overwrite_what_others_committed(hub, connection, repo, where, run_task, tmp_path):
    first = run_task(XetUploadOperator, source=str(write(tmp_path / "1", {"a.bin": binary(9, 1)})), **where).value
    run_task(XetUploadOperator, source=str(write(tmp_path / "2", {"a.bin": binary(9, 2)})), **where)
    source = write(tmp_path / "3", {"a.bin": binary(9, 3)})
    run = run_task(XetUploadOperator, source=str(source), parent_commit=first["oid"], **where)
    assert run.is_final
    assert isinstance(run.error, XetConflictError)
    assert f"is no longer at {first['oid']}" in run.text
    assert content(hub, repo, "a.bin", tmp_path) == binary(9, 2)


# --- wiring of the token ----------------------------------------------------------------------------------------------


def test_a_token_wires_its_consumers_though_it_is_no_template_field():
    with new_dag():
        token = XetTokenOperator(task_id="token", repo_id="a/b")
        upload = XetUploadOperator(task_id="upload", source="x", token=token.output)
        download = XetDownloadOperator(task_id="download", destination="x", token=token.output)
    assert upload.upstream_task_ids == download.upstream_task_ids == {"token"}


def test_mapped_uploads_take_one_token_and_one_commit_publishes_them(hub, connection, repo, run_dag, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary(5000, 1), "b.bin": binary(5000, 2), "c.csv": TEXT})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    with new_dag("fan_out") as dag:
        token = XetTokenOperator(task_id="token", scope="write", **where)
        uploads = XetUploadOperator.partial(
            task_id="upload", commit=False, token=token.output, xethub_conn_id=None
        ).expand(source=[str(source / name) for name in ("a.bin", "b.bin", "c.csv")])
        commit = XetCommitOperator(task_id="commit", files=uploads.output)
        token >> uploads
        commit >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert [run.states["upload", index] for index in range(3)] == ["success"] * 3
    [result] = run.xcoms("commit")
    assert [file["path"] for file in result["files"]] == ["a.bin", "b.bin", "c.csv"]
    assert content(hub, repo, "b.bin", tmp_path) == binary(5000, 2)
    assert content(hub, repo, "c.csv", tmp_path) == TEXT
    assert run.xcoms("token") == []
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == 1
    assert len(hub.log.requests("POST .*/commit/main")) == 1
    sent = hub.access.issued_xet_tokens()
    assert not [secret for secret in sent if secret in str(run.rendered("upload"))]


def test_a_mapped_upload_that_ran_before_its_token_says_how_to_wire_it(connection, run_dag, tmp_path, hub, disconnect):
    source = write(tmp_path / "in", {"a.bin": binary()})
    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", repo_id="a/b")
        uploads = XetUploadOperator.partial(task_id="upload", commit=False, token=token.output).expand(
            source=[str(source)]
        )
    disconnect()
    upload = uploads.unmap({"source": str(source)})
    upload.xethub_conn_id = None
    run = run_one(upload, map_index=0)
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert "Task token has no token in XCom" in run.text
    assert "Write token >> upload" in run.text
    assert not hub.log.requests()
    assert dag.get_task("upload").upstream_task_ids == set()


def test_a_consumer_with_a_connection_fetches_its_own_token_for_a_forgotten_one(hub, connection, repo, where, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary()})
    with new_dag():
        token = XetTokenOperator(task_id="token", scope="write", **where)
        upload = XetUploadOperator(task_id="up", source=str(source), token=token.output, commit=False, **where)
    assert run_one(upload).value[0]["repo"] == repo.uri
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == 1


def test_uploads_can_be_mapped_over_tokens(hub, connection, make_repo, run_dag, tmp_path):
    repos = [make_repo() for _ in range(2)]
    source = write(tmp_path / "in", {"a.bin": binary()})
    with new_dag() as dag:
        tokens = XetTokenOperator.partial(task_id="token", scope="write", repo_type="dataset").expand(
            repo_id=[repo.repo_id for repo in repos]
        )
        XetUploadOperator.partial(task_id="up", source=str(source), commit=False).expand(token=tokens.output)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert [files[0]["repo"] for files in run.xcoms("up")] == [repo.uri for repo in repos]


# --- XetCommitOperator ------------------------------------------------------------------------------------------------


@pytest.fixture
def uploaded(connection, where, run_task, tmp_path):
    def upload(files):
        source = write(tmp_path / "uploaded", files)
        return run_task(XetUploadOperator, source=str(source), commit=False, **where).value

    return upload


def test_a_commit_takes_lists_of_lists_and_reads_inline_files_back_from_cas(
    hub, uploaded, repo, run_task, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    records = uploaded({"a.bin": binary(), "b.csv": TEXT * 200, "empty": b""})
    hub.log.clear()
    run = run_task(XetCommitOperator, files=[records[:1], [records[1:]]], commit_message="{{ task.task_id }}!")
    result = run.value
    assert (result["title"], result["repo"]) == ("task!", repo.uri)
    assert [file["path"] for file in result["files"]] == ["a.bin", "b.csv", "empty"]
    assert all("sample" not in file for file in result["files"])
    assert content(hub, repo, "b.csv", tmp_path) == TEXT * 200
    assert content(hub, repo, "empty", tmp_path) == b""
    assert hub.log.requests("GET /cas/.*/v./reconstructions/.*", status=200)
    assert not hub.log.requests("GET .*/xet-write-token/.*")
    assert names(tmp_path / "tmp") == []


def test_a_commit_again_is_the_same_commit(hub, uploaded, repo, run_task):
    records = uploaded({"a.bin": binary(), "b.csv": TEXT})
    first = run_task(XetCommitOperator, files=records).value
    again = run_task(XetCommitOperator, files=records).value
    assert again["oid"] == first["oid"]
    assert again["unchanged"] == ["a.bin", "b.csv"]
    other = run_task(XetCommitOperator, files=records, task_id="other").value
    assert (other["oid"], other["created"]) == (first["oid"], False)
    assert commits(hub, repo) == 2


def test_a_commit_deletes_files_and_folders(hub, uploaded, repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"old.csv": TEXT, "d/1.bin": binary(), "d/2.csv": TEXT, "keep.csv": TEXT})
    records = uploaded({"new.bin": binary(100, 5)})
    result = run_task(XetCommitOperator, files=records, delete=["old.csv", "d/"]).value
    assert result["deleted"] == ["old.csv", "d/"]
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

    left = [file["path"] for file in XetHubConnection().list_files(repo)]
    assert set(left) - {".gitattributes"} == {"keep.csv", "new.bin"}
    run = run_task(XetCommitOperator, delete="old.csv", task_id="again", **where)
    assert run.is_final
    assert "Cannot delete old.csv" in run.text
    result = run_task(XetCommitOperator, delete="keep.csv", **where).value
    assert result["deleted"] == ["keep.csv"]


def test_a_commit_can_open_a_pull_request_and_a_retry_opens_no_second_one(hub, uploaded, repo, run_task):
    records = uploaded({"a.bin": binary()})
    first = run_task(XetCommitOperator, files=records, create_pr=True).value
    again = run_task(XetCommitOperator, files=records, create_pr=True, try_number=2).value
    assert first["pull_request"] == again["pull_request"]
    assert first["pull_request"].endswith("/discussions/1")


def test_a_commit_refuses_a_parent_that_is_not_the_head(hub, uploaded, repo, run_task):
    first = run_task(XetCommitOperator, files=uploaded({"a.bin": binary(10, 1)})).value
    run_task(XetCommitOperator, files=uploaded({"a.bin": binary(10, 2)}), task_id="other")
    records = uploaded({"a.bin": binary(10, 3)})
    run = run_task(XetCommitOperator, files=records, parent_commit=first["oid"], task_id="third")
    assert run.is_final
    assert "a.bin changed since. Nothing was committed" in run.text
    assert commits(hub, repo) == 3


def test_a_commit_refuses_records_of_another_repository_before_it_asks(hub, uploaded, make_repo, run_task):
    records = uploaded({"a.bin": binary()})
    other = make_repo()
    hub.log.clear()
    run = run_task(XetCommitOperator, files=records, repo_id=other.repo_id)
    assert run.is_final
    assert "cannot be committed to" in run.text
    assert other.repo_id in run.text
    assert not hub.log.requests()


# --- XetDownloadOperator ----------------------------------------------------------------------------------------------

PUBLISHED = {"a.csv": TEXT, "d/b.bin": binary(7000, 1), "d/c.csv": b"x\n", "d/e/f.bin": binary(7000, 2), "empty": b""}


@pytest.fixture
def published(hub, connection, repo, tmp_path):
    files = {file["path"]: file for file in publish(repo, tmp_path / "before", PUBLISHED)}
    hub.log.clear()
    return files


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"path": "d"}, ["d/b.bin", "d/c.csv", "d/e/f.bin"]),
        ({"path": "d/b.bin"}, ["d/b.bin"]),
        ({"paths": ["a.csv", "d/e/f.bin", "a.csv"]}, ["a.csv", "d/e/f.bin"]),
        ({"paths": "a.csv"}, ["a.csv"]),
        ({"patterns": "*.bin"}, ["d/b.bin", "d/e/f.bin"]),
        ({"patterns": ["a*", "empty"]}, ["a.csv", "empty"]),
    ],
)
def test_a_download_takes_what_is_asked_for_and_verifies_it(
    hub, published, where, run_task, tmp_path, arguments, expected
):
    out = tmp_path / "out"
    run = run_task(XetDownloadOperator, destination=f"{out}/", **where, **arguments)
    assert [file["path"] for file in run.value] == names(out) == expected
    for file in run.value:
        assert file["local_path"] == str(out / file["path"])
        assert (out / file["path"]).read_bytes() == PUBLISHED[file["path"]]
    assert run.xcoms["transfer"]["bytes"] == sum(len(PUBLISHED[name]) for name in expected)
    assert not hub.log.requests("GET .*/xet-write-token/.*")


def test_a_download_without_more_takes_the_whole_repository(published, where, run_task, tmp_path):
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **where)
    assert set(PUBLISHED) <= {file["path"] for file in run.value}
    assert names(tmp_path / "out") == [file["path"] for file in run.value]


def test_a_single_file_may_be_given_its_name(published, where, run_task, tmp_path):
    out = tmp_path / "out" / "mine.bin"
    run = run_task(XetDownloadOperator, destination=str(out), path="d/b.bin", **where)
    assert run.value[0]["local_path"] == str(out)
    assert out.read_bytes() == PUBLISHED["d/b.bin"]
    (tmp_path / "folder").mkdir()
    run_task(XetDownloadOperator, destination=str(tmp_path / "folder"), path="d/b.bin", **where)
    assert names(tmp_path / "folder") == ["d/b.bin"]


def test_files_that_are_there_and_equal_are_not_fetched_again(hub, published, where, run_task, tmp_path):
    out = write(tmp_path / "out", {"d/b.bin": PUBLISHED["d/b.bin"], "d/c.csv": b"y\n", "d/e/f.bin": binary(7000, 9)})
    before = (out / "d/b.bin").stat().st_mtime_ns
    run = run_task(XetDownloadOperator, destination=str(out), path="d", **where)
    figures = run.xcoms["transfer"]
    assert (figures["skipped"], figures["files"], figures["bytes"]) == (1, 2, 7002)
    assert (out / "d/b.bin").stat().st_mtime_ns == before
    assert (out / "d/c.csv").read_bytes() == b"x\n"
    assert (out / "d/e/f.bin").read_bytes() == PUBLISHED["d/e/f.bin"]
    hub.log.clear()
    again = run_task(XetDownloadOperator, destination=str(out), path="d", **where)
    assert again.xcoms["transfer"]["skipped"] == 3
    assert not hub.log.requests("GET /cas/.*")
    assert not hub.log.requests("GET .*-token/.*")


def test_a_download_with_a_token_and_records_needs_no_connection(hub, published, repo, run_task, tmp_path, disconnect):
    token = sealed(repo, "read")
    disconnect()
    hub.log.clear()
    files = [published["d/b.bin"], [published["d/e/f.bin"]], published["empty"]]
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=files, token=token)
    assert [file["path"] for file in run.value] == ["d/b.bin", "d/e/f.bin", "empty"]
    assert (tmp_path / "out/d/e/f.bin").read_bytes() == PUBLISHED["d/e/f.bin"]
    assert not hub.log.requests(".* /api/.*")


def test_an_inline_file_without_a_connection_is_a_clear_error(hub, published, repo, run_task, tmp_path, disconnect):
    token = sealed(repo, "read")
    disconnect()
    hub.log.clear()
    wanted = {"files": [published["a.csv"], published["d/b.bin"]], "token": token, "destination": str(tmp_path / "out")}
    for conn_id in ("xethub_default", None):
        run = run_task(XetDownloadOperator, xethub_conn_id=conn_id, **wanted)
        assert run.is_final is (conn_id is None)
        assert isinstance(run.error, XetInputError if conn_id is None else XetAirflowConnectionError)
        ways_out = "list with inline_content=True, or set xethub_conn_id. "
        assert run.text.startswith(f"1 inline file without content: {ways_out}")
        assert f"In {repo}, the repository itself stores a.csv, not CAS" in run.text
    assert not hub.log.requests()
    assert not (tmp_path / "out").exists()


def test_a_download_takes_the_xcom_of_other_tasks(hub, published, repo, where, tmp_path):
    with new_dag():
        token = XetTokenOperator(task_id="token", **where)
        commit = XetCommitOperator(task_id="commit", files=[])
        download = XetDownloadOperator(
            task_id="download", destination=str(tmp_path / "out"), files=commit.output, token=token.output
        )
    xcoms = {
        ("token", "return_value", -1): sealed(repo),
        ("commit", "return_value", -1): {"files": [published["d/b.bin"]], "oid": "0" * 40},
    }
    run = run_one(download, api=ExecutionApi(xcoms=xcoms))
    assert run.value[0]["path"] == "d/b.bin"
    assert names(tmp_path / "out") == ["d/b.bin"]
    assert "sealed" not in str(run.rendered)
