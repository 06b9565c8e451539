"""Buckets: put, skip what is equal, delete, download, and say which change failed."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetResponseError
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.hub import client
from support.builders import TEXT, names, write
from xethub_local.control.faults import Fault


@pytest.fixture
def bucket(connection, make_repo):
    repo = make_repo("bucket")
    return {"repo_id": repo.repo_id, "repo_type": "bucket"}


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "in", {"a.bin": os.urandom(70_000), "d/b.csv": TEXT, "empty": b""})


def batches(hub):
    return hub.log.requests("POST /api/buckets/.*/batch")


def held(run_task, bucket):
    return [file["path"] for file in run_task(XetListOperator, **bucket).value]


def test_a_folder_is_put_and_comes_back_identical(hub, bucket, source, tmp_path, run_task):
    result = run_task(XetUploadOperator, source=str(source), **bucket).value

    assert (result["oid"], result["created"], result["unchanged"]) == ("", True, [])
    assert result["url"] == f"{hub.url}/buckets/{bucket['repo_id']}"
    assert held(run_task, bucket) == ["a.bin", "d/b.csv", "empty"]
    run_task(XetDownloadOperator, destination=f"{tmp_path}/out/", **bucket).value  # noqa: B018 - raises what failed
    for name in names(source):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    hub.log.clear()
    again = run_task(XetUploadOperator, source=str(source), **bucket).value
    assert (again["created"], again["unchanged"]) == (False, ["a.bin", "d/b.csv", "empty"])
    assert not batches(hub)


def test_only_what_changed_is_put(hub, bucket, source, run_task):
    run_task(XetUploadOperator, source=str(source), **bucket).value  # noqa: B018
    (source / "a.bin").write_bytes(b"another")

    result = run_task(XetUploadOperator, source=str(source), **bucket).value

    assert result["unchanged"] == ["d/b.csv", "empty"]
    assert {f["path"]: f["size"] for f in run_task(XetListOperator, **bucket).value}["a.bin"] == 7


def test_many_workers_upload_and_one_puts_with_deletions(hub, bucket, source, run_task, disconnect, connection):
    run_task(XetUploadOperator, source=str(source / "a.bin"), path_in_repo="old/a.bin", **bucket).value  # noqa: B018
    token = run_task(XetTokenOperator, scope="write", **bucket).value
    disconnect()
    uploads = [
        run_task(XetUploadOperator, source=str(path), commit=False, token=token, xethub_conn_id=None).value
        for path in (source / "a.bin", source / "d/b.csv")
    ]
    connection()

    result = run_task(XetCommitOperator, files=uploads, delete=["old/"], **bucket).value

    assert result["deleted"] == ["old/"]
    assert held(run_task, bucket) == ["a.bin", "b.csv"]


def test_a_path_to_delete_that_is_not_there_changes_nothing(hub, bucket, source, run_task):
    files = run_task(XetUploadOperator, source=str(source), commit=False, **bucket).value

    for missing in ("no.bin", "nowhere/"):
        run = run_task(XetCommitOperator, files=files, delete=[missing], **bucket)
        assert isinstance(run.error, XetNotFoundError)
        assert f"Cannot delete {missing} from hf://buckets/" in run.text

    assert held(run_task, bucket) == []


def test_a_file_that_cas_does_not_have_is_named_and_the_others_are_put(hub, bucket, source, run_task):
    files = run_task(XetUploadOperator, source=str(source), commit=False, **bucket).value
    files[0] = {**files[0], "xet_hash": "12" * 32}

    run = run_task(XetCommitOperator, files=files, **bucket)

    assert isinstance(run.error, XetResponseError)
    assert "1 of 3 changes in hf://buckets/" in run.text
    assert f"{files[0]['path']} (" in run.text
    assert held(run_task, bucket) == ["d/b.csv", "empty"]
    alone = run_task(XetCommitOperator, files=files[:1], **bucket)
    assert "1 of 1 changes in hf://buckets/" in alone.text  # the Hub answers 422 to that


def test_a_lost_answer_is_asked_again(hub, bucket, source, run_task):
    lost = hub.faults.add(Fault("POST /api/buckets/.*/batch", times=1, lose_answer=True))

    result = run_task(XetUploadOperator, source=str(source), **bucket).value

    assert hub.faults.acted(lost) == 1
    assert result["created"]
    assert held(run_task, bucket) == ["a.bin", "d/b.csv", "empty"]


def test_inline_records_and_wishes_of_repositories_are_refused(hub, bucket, run_task):
    inline = {"path": "a.txt", "size": 3, "sha256": None, "xet_hash": None, "repo": f"hf://buckets/{bucket['repo_id']}"}
    run = run_task(XetCommitOperator, files=[inline], **bucket)
    assert isinstance(run.error, XetInputError)
    assert "a.txt has no Xet hash" in run.text
    run = run_task(XetUploadOperator, source=__file__, create_pr=True, **bucket)
    assert "it has no commits. Leave out parent_commit and create_pr" in run.text
    assert not batches(hub)


def test_equal_files_are_not_even_sent(hub, bucket, source, run_task):
    run_task(XetUploadOperator, source=str(source), **bucket).value  # noqa: B018
    hub.log.clear()

    again = run_task(XetUploadOperator, source=str(source), **bucket).value

    assert (again["transfer"]["files"], again["transfer"]["bytes_sent"]) == (0, 0)
    assert not hub.log.requests(".* /cas/.*")
    assert [file["xet_hash"] for file in again["files"]] == [
        file["xet_hash"] for file in run_task(XetListOperator, **bucket).value
    ]


LOST = [{"lose_answer": True}, {"lose_answer": True, "drop": True}, {"drop": "middle"}]


@pytest.mark.parametrize("fault", LOST)
def test_a_deletion_whose_response_is_lost_is_a_success(hub, bucket, source, run_task, fault):
    run_task(XetUploadOperator, source=str(source), **bucket).value  # noqa: B018
    hub.faults.add(Fault("POST .*/batch", times=1, **fault))
    result = run_task(XetCommitOperator, delete=["a.bin", "d/"], **bucket).value
    assert result["deleted"] == ["a.bin", "d/"]
    assert held(run_task, bucket) == ["empty"]


def test_a_retry_takes_what_an_earlier_attempt_may_have_deleted_as_deleted(hub, bucket, source, run_task, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    uploaded = run_task(XetUploadOperator, source=str(source), **bucket).value["files"][:1]
    lost = hub.faults.add(Fault("POST .*/batch", lose_answer=True))
    arguments = {"files": uploaded, "delete": ["empty", "d/"], **bucket}
    assert run_task(XetCommitOperator, **arguments).state == "up_for_retry"
    hub.faults.remove(lost)
    assert run_task(XetCommitOperator, try_number=2, **arguments).value["deleted"] == ["empty", "d/"]
    assert held(run_task, bucket) == ["a.bin"]
    first = run_task(XetCommitOperator, **arguments)
    assert isinstance(first.error, XetNotFoundError)
    assert "Check delete. Nothing was changed." in first.text
