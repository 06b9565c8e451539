"""The first bytes of uploaded files: sealed in XCom, and in clear where the Hub decides how to store the files."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from airflow_provider_xethub.xet import samples
from support.builders import binary, content, write
from support.commit_builders import name_of

KEY, OTHER = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
SECRET_TEXT = b"password = hunter2 and more of it\n" * 40
SECRET_BINARY = b"\0password = hunter2" + binary(5000)


def record(sample: bytes, **changes: object) -> dict:
    encoded = base64.b64encode(sample).decode()
    return {
        "path": "a",
        "size": 1,
        "sha256": None,
        "xet_hash": None,
        "repo": "hf://a/b@main",
        "sample": encoded,
        **changes,
    }


def sample_of(file: dict) -> bytes:
    return base64.b64decode(file["sample"])


@given(st.binary(max_size=512) | st.text(max_size=400).map(str.encode))
def test_a_sealed_sample_comes_back_and_shows_nothing_but_its_kind(sample):
    [sealed] = samples.seal([record(sample)], KEY)
    assert samples.unseal([sealed], [OTHER, KEY]) == [record(sample)]
    assert sample_of(sealed) in (b"", b"text\n", b"\0")
    [kind] = samples.seal([record(sample)], None)
    assert samples.unseal([kind], [KEY]) == [kind]
    assert kind == {name: value for name, value in sealed.items() if name != "sealed_sample"}


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (b"", b""),
        (b"a,b\n", b"text\n"),
        ("größe".encode(), b"text\n"),
        ("ß".encode()[:1], b"text\n"),  # cut off inside a character
        (b"a\0b", b"\0"),
        (b"\xff\xfea\0", b"\0"),
        (b"\x89PNG", b"\0"),
    ],
)
def test_without_a_key_the_kind_of_content_remains(sample, kind):
    [sealed] = samples.seal([record(sample)], None)
    assert sample_of(sealed) == kind
    assert "sealed_sample" not in sealed


@pytest.mark.parametrize(
    "sealed",
    ["", "x", "ÿ", KEY.encrypt(b"{}").decode(), OTHER.encrypt(b"xethub sample\nx").decode(), 5],
    ids=["empty", "text", "not ASCII", "something else", "another key", "number"],
)
def test_what_does_not_open_is_left_out(sealed):
    assert samples.unseal([record(b"text\n", sealed_sample=sealed)], [KEY]) == [record(b"text\n")]


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
