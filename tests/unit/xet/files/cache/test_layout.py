"""The layout of the Hugging Face cache on a disk that fails. With a Hub: tests/provider/xet/transfer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.xet.files.cache import layout
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
from airflow_provider_xethub.xet.files.cache.layout import Snapshot
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import BINARY, record
from support.failing_disk import fail_at

MODEL = Repo("acme/m", revision="a" * 40)
FILE = record(MODEL, "model.bin", BINARY)


@pytest.fixture
def snapshot(tmp_path):
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL)
    made.prepare([FILE])
    return made


@pytest.fixture
def blob(snapshot):
    """A blob that is complete, and has no name in a snapshot yet."""
    [made] = layout.blobs_of([FILE])
    snapshot.blob_path(made).write_bytes(BINARY)
    return made


def test_a_record_without_a_digest_has_no_name_in_the_cache():
    with pytest.raises(
        XetInputError, match=r"^The record of model\.bin of hf://acme/m@a+ has no sha256 and no blob_id"
    ):
        layout.etag({**FILE, "sha256": None, "xet_hash": None})


def test_a_cache_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(XetDestinationError, match=r"/file/cache cannot be created on this worker: "):
        Snapshot(HubCache(str(tmp_path / "file" / "cache")), MODEL).prepare([FILE])


def test_a_blob_that_cannot_be_read_counts_as_missing(snapshot, blob, monkeypatch):
    assert snapshot.find(blob) == snapshot.blob_path(blob)
    fail_at(monkeypatch, Path, "is_symlink", blob.name)
    assert snapshot.find(blob) is None


def test_what_cannot_be_listed_may_be_in_use(snapshot, blob, monkeypatch):
    failed = fail_at(monkeypatch, os, "scandir", "/snapshots")
    with pytest.raises(XetDestinationError, match=r"cannot be written to the cache .*: input/output error"):
        snapshot.is_complete(blob)
    assert failed


def test_what_goes_away_meanwhile_is_not_in_use(snapshot, blob, monkeypatch):
    failed = fail_at(monkeypatch, os, "scandir", "/snapshots", errno.ENOENT)
    snapshot.is_complete(blob, is_locked=True)
    assert failed


@pytest.mark.parametrize(
    ("repo", "uris", "files", "text"),
    [
        (
            Repo("acme/b", "bucket"),
            ["hf://buckets/acme/b"],
            [FILE],
            "hf://buckets/acme/b is a bucket: it has no commits",
        ),
        (MODEL, ["hf://acme/m@v1", "hf://acme/m@v2"], [FILE], r"The files are of several revisions \(v1, v2\)"),
        (MODEL, [MODEL.uri], [FILE, FILE], r"model\.bin of hf://acme/m@a+ is given twice\. Give each file once"),
        (MODEL, [MODEL.uri], [{**FILE, "path": "../x"}], "path '../x' in a repository is not valid"),
    ],
)
def test_files_that_are_not_of_one_snapshot_are_refused(repo, uris, files, text):
    with pytest.raises(XetInputError, match=text):
        layout.check(repo, uris, files)


def test_of_files_that_may_be_too_many_for_memory_others_find_which_occur_twice():
    layout.check(MODEL, [MODEL.uri], [FILE, FILE], are_many=True)


def test_an_error_inside_of_another_write_keeps_its_words(snapshot, blob):
    (snapshot.storage / "refs").touch()
    with pytest.raises(XetDestinationError, match=r"refs of hf://"), snapshot._writing("the ref"):
        snapshot.set_ref("main")
