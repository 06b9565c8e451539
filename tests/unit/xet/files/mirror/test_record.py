"""The record of a mirror: everything in it is checked, because anyone may have changed it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.files.content_identity import Identity
from airflow_provider_xethub.xet.files.mirror import record as mirror_record
from airflow_provider_xethub.xet.files.mirror.record import MirrorRecord, decode
from airflow_provider_xethub.xet.repo import Repo

REPO = Repo("acme/corpus", "dataset", "a" * 40)
EMPTY = [[0, "size", "0"]]


def encoded(**changes):
    value = {"xethub_mirror": 1, "repo": REPO.uri, "path_in_repo": "", "files": {}}
    return json.dumps({**value, **changes}).encode()


def test_a_record_is_read_as_it_was_written():
    files = {
        "d/ü 日.bin": [Identity(5, "sha256", "ab"), Identity(4, "Xet hash", "cd")],
        "e": [Identity(0, "size", "0")],
    }
    record = MirrorRecord(REPO, "data/in", files)
    assert decode(record.encoded(), "/data") == record


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "d/../../x", "d//x", "", ".", "\0", "a\\b", ".git/config", ".xethub-mirror.json", "\ud800"],
)
def test_a_path_that_leads_elsewhere_is_refused(name):
    with pytest.raises(XetInputError, match="in /data is not a valid record of a mirror"):
        decode(encoded(files={name: EMPTY}), "/data")


@pytest.mark.parametrize(
    "known",
    [
        *([], [[0, "size"]], [[0, "size", "0", "0"]], [[-1, "size", "0"]], [[0, "md5", "0"]], [[0, "size", 0]]),
        *([[1.5, "size", "0"]], [[True, "size", "0"]], EMPTY * 3, "x", None, {}, [{}], [None]),
    ],
)
def test_a_content_that_is_no_digest_is_refused(known):
    with pytest.raises(XetInputError, match="is not a valid record of a mirror"):
        decode(encoded(files={"x": known}), "/data")


@pytest.mark.parametrize(
    "changes",
    [
        *({"xethub_mirror": 2}, {"repo": None}, {"repo": "acme/corpus"}, {"repo": "hf://../x"}, {"files": []}),
        *({"path_in_repo": None}, {"path_in_repo": "../x"}, {"path_in_repo": ["a"]}),
    ],
)
def test_a_wrong_field_is_refused(changes):
    with pytest.raises(XetInputError, match=r"Remove it to start again; the files that earlier mirrors put there"):
        decode(encoded(**changes), "/data")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"\0" * 9, b"[" * 9999, b"NaN", b'{"files": {}}'])
def test_what_is_not_json_is_refused(data):
    with pytest.raises(XetInputError, match="is not a valid record of a mirror"):
        decode(data, "/data")


def test_a_record_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(mirror_record, "MAX_BYTES", 1000)
    files = {f"{number}": [Identity(0, "size", "0")] for number in range(100)}
    with pytest.raises(XetInputError, match="100 files are too many for the record of one mirror"):
        MirrorRecord(REPO, "", files).encoded()
