"""Commits of files that other tasks uploaded and that the Hub wants inline: where their content comes from."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from huggingface_hub import HfApi

from airflow_provider_xethub.exceptions import XetForbiddenError, XetInputError, XetNotFoundError, XetServerError
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.transfer import read_back as inline
from support import object_stores
from support.builders import TEXT, binary, commits, content, write
from xethub_local.control.faults import Fault

LONG = TEXT * 200
READ_TOKEN = "GET .*/xet-read-token/.*"


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def upload(hub, connection, where, run_task, tmp_path):
    """Uploads files, and returns their records; with ``stored``, from object storage."""

    def uploaded(files, *, stored=False):
        source = write(tmp_path / "uploaded", files)
        value = run_task(
            XetUploadOperator, source=f"file://{source}/" if stored else str(source), commit=False, **where
        )
        hub.log.clear()
        return value.value

    return uploaded


def gone(hub, file):
    """Take a file out of CAS."""
    return hub.faults.add(Fault(f"GET /cas/.*/reconstructions/{file['xet_hash']}", status=404))


def test_a_record_that_holds_the_whole_file_is_enough(hub, upload, repo, run_task, tmp_path):
    files = {"a.csv": TEXT, "b.csv": (TEXT * 64)[:512], "empty": b"", "c.bin": binary()}
    records = upload(files)
    result = run_task(XetCommitOperator, files=records).value
    assert len(result["files"]) == 4
    assert not hub.log.requests(".* /cas/.*")
    assert not hub.log.requests(READ_TOKEN)
    for name, expected in files.items():
        assert content(hub, repo, name, tmp_path) == expected


@pytest.mark.parametrize(
    "sample", [base64.b64encode(TEXT[::-1]).decode(), "", "=", "YQ", base64.b64encode(LONG).decode()]
)
def test_a_sample_that_is_not_the_file_is_not_taken_for_it(hub, upload, repo, run_task, tmp_path, sample):
    [record] = upload({"a.csv": TEXT})
    # The Hub is lenient here.
    answer = {"files": [{"path": "a.csv", "uploadMode": "regular", "shouldIgnore": False}]}
    hub.faults.add(Fault("POST .*/preupload/.*", status=200, body=json.dumps(answer)))
    del record["sealed_sample"]
    assert run_task(XetCommitOperator, files=[{**record, "sample": sample}]).value
    assert content(hub, repo, "a.csv", tmp_path) == TEXT
    assert hub.log.requests("GET /cas/.*/reconstructions/.*", status=200)


def test_many_files_are_read_back_with_one_token_and_one_transfer(hub, upload, repo, run_task, tmp_path):
    files = {f"{number}.csv": b"%d\n" % number * 300 for number in range(60)}
    assert run_task(XetCommitOperator, files=upload(files)).value
    reads = hub.log.requests("GET /cas/.*/reconstructions/.*")
    assert len(reads) == len(files)
    assert len({request.session for request in reads}) == 1
    assert len(hub.log.requests(READ_TOKEN)) == 1
    assert content(hub, repo, "59.csv", tmp_path) == files["59.csv"]


def test_files_of_another_revision_are_read_back_with_its_token(hub, upload, repo, run_task, where, tmp_path):
    """As they are where files that were uploaded for ``main`` go to a pull request that was opened before."""
    api = HfApi(endpoint=hub.url, token=hub.token())
    api.create_pull_request(repo.repo_id, title="Proposed", repo_type="dataset")
    records = upload({"a.csv": LONG})
    assert run_task(XetCommitOperator, files=records, **where, revision="refs/pr/1").value
    assert [request.path.rpartition("/")[2] for request in hub.log.requests(READ_TOKEN)] == ["main"]
    assert content(hub, repo.at("refs/pr/1"), "a.csv", tmp_path) == LONG


def test_the_record_of_a_stored_file_names_its_source_until_it_is_committed(hub, upload, run_task, tmp_path):
    records = upload({"a.csv": LONG, "b.bin": binary()}, stored=True)
    assert [file["storage_uri"] for file in records] == [f"file://{tmp_path}/uploaded/{n}" for n in ("a.csv", "b.bin")]
    result = run_task(XetCommitOperator, files=records).value
    assert not [file for file in result["files"] if "storage_uri" in file]


def test_what_is_gone_from_cas_is_read_from_its_source(hub, upload, repo, run_task, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    stored = upload({"a.csv": LONG, "c.bin": binary()}, stored=True)
    # This one has no source, and CAS still has it.
    [local] = upload({"d.csv": LONG + TEXT})[-1:]
    fault = gone(hub, stored[0])
    assert run_task(XetCommitOperator, files=[*stored, local]).value
    assert hub.faults.acted(fault)
    assert "Reading 1 file from the original source" in caplog.text
    for name, expected in {"a.csv": LONG, "c.bin": binary(), "d.csv": LONG + TEXT}.items():
        assert content(hub, repo, name, tmp_path) == expected


def test_a_connection_that_may_not_read_from_cas_reads_the_source(hub, upload, repo, run_task, tmp_path):
    records = upload({"a.csv": LONG}, stored=True)
    hub.faults.add(Fault(READ_TOKEN, status=403))
    assert run_task(XetCommitOperator, files=records).value
    assert content(hub, repo, "a.csv", tmp_path) == LONG


def test_without_a_source_the_error_says_what_to_do(hub, upload, repo, run_task):
    records = upload({"a.csv": LONG, "b.csv": LONG + TEXT})
    gone(hub, records[1])
    run = run_task(XetCommitOperator, files=records)
    assert run.is_final
    assert isinstance(run.error, XetNotFoundError)
    assert run.error.service == "CAS"
    assert f"The Hub stores a.csv, b.csv of {repo} inline, so the commit needs the content, which cannot be" in run.text
    assert "None of them was committed. Upload these files again, or let the task that uploads them" in run.text
    assert commits(hub, repo) == 1


def test_a_refused_token_without_a_source_is_final_and_explained(hub, upload, repo, run_task):
    records = upload({"a.csv": LONG})
    hub.faults.add(Fault(READ_TOKEN, status=403))
    run = run_task(XetCommitOperator, files=records)
    assert run.is_final
    assert isinstance(run.error, XetForbiddenError)
    assert "cannot be read back from CAS" in run.text
    assert commits(hub, repo) == 1


def test_a_cas_that_fails_for_now_is_asked_again_by_a_retry(hub, upload, repo, run_task, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    records = upload({"a.csv": LONG})
    hub.faults.add(Fault("GET /cas/.*", status=503))
    run = run_task(XetCommitOperator, files=records)
    assert (run.state, type(run.error)) == ("up_for_retry", XetServerError)
    assert "cannot be read back from CAS" in run.text


@pytest.mark.parametrize(("now", "why"), [(None, "no longer exists"), (LONG[::-1], "has changed since")])
def test_a_source_that_is_not_the_file_any_more_is_not_published(hub, upload, repo, run_task, tmp_path, now, why):
    records = upload({"a.csv": LONG}, stored=True)
    gone(hub, records[0])
    path = tmp_path / "uploaded/a.csv"
    path.write_bytes(now) if now else path.unlink()
    run = run_task(XetCommitOperator, files=records)
    assert run.is_final
    assert isinstance(run.error, XetNotFoundError)
    assert f"nor from its source (file://{path} {why})" in run.text
    assert commits(hub, repo) == 1


def test_a_source_whose_connection_is_not_here_is_named(hub, upload, repo, run_task):
    [record] = upload({"a.csv": LONG}, stored=True)
    gone(hub, record)
    run = run_task(XetCommitOperator, files=[{**record, "storage_uri": "nosuch://conn@bucket/a.csv"}])
    assert run.is_final
    assert "nor from its source" in run.text
    assert "nosuch://conn@bucket/a.csv" in run.text


def test_a_hub_that_wants_a_huge_file_inline_is_told_how_to_be_asked(hub, upload, repo, run_task):
    [record] = upload({"a.csv": LONG})
    answer = {"files": [{"path": "a.csv", "uploadMode": "regular", "shouldIgnore": False}]}
    hub.faults.add(Fault("POST .*/preupload/.*", status=200, body=json.dumps(answer)))
    run = run_task(XetCommitOperator, files=[{**record, "size": inline.MAX_BYTES + 1}])
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert "wants a.csv" in run.text
    assert "'filter=lfs'" in run.text
    assert not hub.log.requests(".* /cas/.*")


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto", reason="needs the dependency group long")
    with object_stores.s3_server() as server:
        server.client.create_bucket(Bucket="camera")
        yield server


@pytest.mark.long
def test_what_is_gone_from_cas_is_read_from_s3(s3, hub, connection, repo, where, run_task, tmp_path, monkeypatch):
    s3.connect(monkeypatch)
    files = {f"{number:02} ü#.csv": b"%d\n" % number * 400 for number in range(30)}
    s3.put("camera", files)
    records = run_task(XetUploadOperator, source="s3://aws@camera/", commit=False, **where).value
    assert records[7]["storage_uri"] == "s3://aws@camera/07 ü#.csv"
    gone(hub, records[7])
    # On this worker, S3 does not answer for now.
    s3.connect(monkeypatch, extra={"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"})
    run = run_task(XetCommitOperator, files=records)
    assert run.state == "up_for_retry", repr(run.error)
    assert "nor from its source" in run.text
    assert object_stores.SECRET not in run.text
    assert commits(hub, repo) == 1
    s3.connect(monkeypatch)
    assert run_task(XetCommitOperator, files=records).value
    for name, expected in files.items():
        assert content(hub, repo, name, tmp_path) == expected
