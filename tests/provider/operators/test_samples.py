"""The first bytes of uploaded files in real tasks: sealed in XCom."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.fernet import Fernet

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from support.builders import binary, content, write
from support.commit_builders import name_of

SECRET_TEXT = b"password = hunter2 and more of it\n" * 40
SECRET_BINARY = b"\0password = hunter2" + binary(5000)


def sample_of(file: dict) -> bytes:
    return base64.b64decode(file["sample"])


@pytest.mark.parametrize("key", ["", Fernet.generate_key().decode()], ids=["no key", "a key"])
def test_an_uploads_xcom_does_not_tell_how_its_files_begin(
    hub, repo, connection, run_task, tmp_path, monkeypatch, fernet_cache, key
):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    files = {"a.txt": SECRET_TEXT, "b.dat": SECRET_BINARY, "c.txt": SECRET_TEXT[:100], "d.dat": SECRET_BINARY[:100]}
    source = write(tmp_path / "source", files)
    records = run_task(XetUploadOperator, source=str(source), commit=False, **where).value
    text = json.dumps(records)
    assert not [sample for sample in files.values() if base64.b64encode(sample[:30]).decode()[:40] in text]
    assert all(sample_of(file) in (b"text\n", b"\0") for file in records)
    assert ["sealed_sample" in file for file in records] == [bool(key)] * 4
    result = run_task(XetCommitOperator, files=records, **where).value
    assert not [file for file in result["files"] if {"sample", "sealed_sample"} & file.keys()]
    for name, expected in files.items():
        assert content(hub, repo, name, tmp_path) == expected
    # The Hub stores texts inline, and what is binary in CAS.
    stored = hub.repositories.entries(name_of(repo), hub.repositories.resolve(name_of(repo), "main"))
    assert {entry.path: entry.kind for entry in stored if entry.path in files} == {
        "a.txt": "regular",
        "b.dat": "xet",
        "c.txt": "regular",
        "d.dat": "xet",
    }


def test_a_bucket_is_told_nothing_of_it(hub, make_repo, connection, run_task, tmp_path):
    bucket = make_repo("bucket")
    where = {"repo_id": bucket.repo_id, "repo_type": "bucket"}
    source = write(tmp_path / "source", {"a.txt": SECRET_TEXT})
    records = run_task(XetUploadOperator, source=str(source), commit=False, **where).value
    assert "hunter2" not in base64.b64decode(records[0]["sample"]).decode()
    [published] = run_task(XetCommitOperator, files=records, **where).value["files"]
    assert not {"sample", "sealed_sample"} & published.keys()
