"""Transfers from and to S3 and SFTP, as the Amazon and SFTP providers of Airflow reach them; real servers on loopback."""

from __future__ import annotations

import os
import uuid

import pytest

pytest.importorskip("moto", reason="needs the dependency group long")
pytest.importorskip("s3fs", reason="needs the dependency group long")

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from builders import TEXT, binary, content, publish
from object_stores import s3_server

pytestmark = pytest.mark.long

NAMES = ["a b/c d.bin", "ünïcödé/日本語 🎉.bin", "d/#1?x=%20&y.bin", "d/[1]*.bin", "d/+=@:.bin"]


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3, monkeypatch):
    name = f"b{uuid.uuid4().hex[:12]}"
    s3.client.create_bucket(Bucket=name)
    s3.connect(monkeypatch)
    return name


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def test_a_folder_in_s3_is_uploaded_as_it_is(hub, s3, bucket, where, repo, run_task, tmp_path):
    files = {"a.bin": binary(9_000_000, 1), "sub/b.bin": binary(5000, 2), "c.csv": TEXT, "empty": b""}
    files |= {name: binary(100, name) for name in NAMES}
    s3.put(bucket, {f"data/{name}": value for name, value in files.items()} | {"data/": b"", "data/sub/": b""})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/data/", **where)
    assert sorted(file["path"] for file in run.value["files"]) == sorted(files)
    for name, value in files.items():
        assert content(hub, repo, name, tmp_path) == value, name
