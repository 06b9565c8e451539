"""Comparing local files with a listing: by size first, then by whichever digest the listing has."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.found_files import open_local
from airflow_provider_xethub.xet.publish.commit import git_blob_id
from airflow_provider_xethub.xet.transfer import same_content
from airflow_provider_xethub.xet.transfer.same_content import SourceContents
from support.builders import binary
from support.commit_builders import ANYWHERE, record
from support.failing_disk import fail_at

CONTENT = {"a.bin": binary(5000, 1), "b.txt": b"text", "empty": b""}


@pytest.fixture
def files(tmp_path):
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    return [open_local(tmp_path / name, name) for name in CONTENT]


def listed(kind, path, content):
    """The record of a file with a digest of one kind."""
    empty = {"sha256": None, "xet_hash": None}
    if kind == "sha256":
        return record(ANYWHERE, path, content, xet_hash=None)
    if kind == "git blob sha1":
        return record(ANYWHERE, path, content, **empty, blob_id=git_blob_id(content))
    state = native_client.XetHash()
    state.update(content)
    return record(ANYWHERE, path, content, sha256=None, xet_hash=state.hexdigest())


@pytest.mark.parametrize("kind", ["sha256", "git blob sha1", "Xet hash"])
def test_files_are_equal_by_each_kind_of_digest(files, kind):
    there = {path: listed(kind, path, content) for path, content in CONTENT.items() if content}
    assert SourceContents(files).equal(there) == {"a.bin", "b.txt"}
    other = {"a.bin": listed(kind, "a.bin", binary(5000, 2)), "b.txt": listed(kind, "b.txt", b"text+")}
    assert SourceContents(files).equal(other) == set()


def test_a_listing_may_have_another_kind_of_digest_for_each_file(files, tmp_path):
    (tmp_path / "c.txt").write_bytes(b"more")
    files.append(open_local(tmp_path / "c.txt", "c.txt"))
    there = {
        "a.bin": listed("Xet hash", "a.bin", CONTENT["a.bin"]),
        "b.txt": listed("git blob sha1", "b.txt", b"text"),
        "c.txt": listed("sha256", "c.txt", b"more"),
        "empty": listed("sha256", "empty", b""),
    }
    assert SourceContents(files).equal(there) == set(there)


def test_for_an_empty_file_the_size_is_enough(files):
    assert SourceContents(files).equal({"empty": listed("sha256", "empty", b"")}) == {"empty"}


def test_a_record_without_a_digest_is_equal_to_nothing(files):
    assert (
        SourceContents(files).equal({"a.bin": {**listed("sha256", "a.bin", CONTENT["a.bin"]), "sha256": None}}) == set()
    )


def test_each_digest_is_computed_once(files, monkeypatch):
    computed = []
    real = same_content.digest
    monkeypatch.setattr(same_content, "digest", lambda path, *kind: computed.append(path.name) or real(path, *kind))
    contents = SourceContents(files)
    there = {path: listed("sha256", path, content) for path, content in CONTENT.items()}
    for _ in range(2):
        assert contents.equal(there) == set(CONTENT)
    assert sorted(computed) == ["a.bin", "b.txt"]


def test_a_file_that_changed_since_it_was_found_is_an_error(files, tmp_path):
    there = {"b.txt": listed("sha256", "b.txt", b"text")}
    (tmp_path / "b.txt").write_bytes(b"TEXT")
    os.utime(tmp_path / "b.txt", ns=(1, 1))
    assert SourceContents(files).equal(there) == set()
    (tmp_path / "b.txt").write_bytes(b"text")
    with pytest.raises(XetSourceError, match=rf"{tmp_path}/b\.txt"):
        SourceContents(files).equal(there)


def test_a_file_that_cannot_be_read_any_more_is_named(files, tmp_path, monkeypatch):
    fail_at(monkeypatch, Path, "open", "b.txt")
    with pytest.raises(XetSourceError) as caught:
        SourceContents(files).equal({"b.txt": listed("sha256", "b.txt", b"text")})
    assert str(caught.value) == f"{tmp_path}/b.txt cannot be read any more: input/output error. Nothing was changed."


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), RuntimeError("no")])
def test_where_the_client_cannot_read_one_of_several_files_their_number_is_said(files, monkeypatch, error):
    there = {path: listed("Xet hash", path, content) for path, content in CONTENT.items() if content}

    def fail(_):
        raise error

    monkeypatch.setattr(native_client, "xet_hashes", fail)
    with pytest.raises(XetSourceError, match=rf"^One of 2 files cannot be read any more: {re.escape(str(error))}\.$"):
        SourceContents(files).equal(there)


@dataclass
class Stored:
    """A file in object storage, whose content may be another one than its size says."""

    path_in_repo: str
    size: int
    content: bytes

    def blocks(self):
        yield self.content[:2]
        yield self.content[2:]

    def __str__(self):
        return "s3://bucket/a"


@pytest.mark.parametrize("content", [b"tex", b"text+"])
def test_an_object_that_changes_while_it_is_compared_is_an_error(content):
    with pytest.raises(XetSourceError) as caught:
        SourceContents([Stored("b.txt", 4, content)]).equal({"b.txt": listed("sha256", "b.txt", b"text")})
    assert str(caught.value) == "s3://bucket/a changed while it was compared. Mirror when the writer is done."


@pytest.mark.parametrize("kind", ["sha256", "git blob sha1", "Xet hash"])
def test_an_object_is_read_and_compared(monkeypatch, kind):
    monkeypatch.setattr(same_content, "check_unchanged", lambda *_: None)
    there = {"b.txt": listed(kind, "b.txt", b"text")}
    assert SourceContents([Stored("b.txt", 4, b"text")]).equal(there) == {"b.txt"}
    assert SourceContents([Stored("b.txt", 4, b"TEXT")]).equal(there) == set()


def test_the_client_is_not_asked_about_no_files(files, monkeypatch):
    monkeypatch.setattr(native_client, "xet_hashes", None)
    assert SourceContents(files)._xet_hashes([]) == []
