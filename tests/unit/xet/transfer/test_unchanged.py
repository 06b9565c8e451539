"""Local files that are in the repository already; with a Hub: tests/provider/xet/transfer/test_unchanged.py."""

from __future__ import annotations

import errno
import hashlib
import os
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files import sources
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import remembered, unchanged
from support.commit_builders import ANYWHERE, record

BUCKET = Repo("acme/b", "bucket")
CONTENT = {"a.bin": b"a" * 600, "b.bin": b"b" * 600, "c.bin": b"c" * 600}
SHA256S = {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}
OTHER = "cd" * 32


class Hub:
    """A Hub that has these files, and keeps what it was asked for."""

    def __init__(self, *files):
        self.files, self.asked = files, []

    def get_files(self, repo, paths):
        self.asked.append((repo, paths))
        return [file for file in self.files if file["path"] in paths]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path, content in CONTENT.items():
        (folder / path).write_bytes(content)
        os.utime(folder / path, (1 << 30, 1 << 30))
    return folder


@pytest.fixture
def files(folder):
    """The files, and an object of an object storage, whose content is not compared."""
    return [*sources.collect(str(folder)), SimpleNamespace(path_in_repo="stored.bin")]


def plant(memory, folder, kind, digests):
    """Remember digests, by the state of a file."""
    memory.of(folder, kind).keep(digests, 2**62)


def modes(**current):
    """What the Hub has under each path."""
    return {f"{name}.bin": UploadMode(False, digest, False) for name, digest in {"stored": OTHER, **current}.items()}


def local(path, **changes):
    return plain(record(ANYWHERE, path, CONTENT[path], **changes))


def plain(file):
    """A record without the first bytes of the file, which are read only where the Hub is asked about it."""
    return {name: value for name, value in file.items() if name != "sample"}


def test_the_revision_has_files_with_the_same_digest(files):
    hub = Hub(local("a.bin"), local("b.bin"))
    known = modes(a=SHA256S["a.bin"], b=OTHER, c=None)
    assert unchanged.in_repository(hub, ANYWHERE, files, known) == (
        {"a.bin": local("a.bin")},
        {path: SHA256S[path] for path in ("a.bin", "b.bin")},
    )
    assert hub.asked == [(ANYWHERE, ["a.bin"])]


def test_what_the_revision_has_now_counts(files):
    hub = Hub(local("a.bin", sha256=OTHER))
    known = modes(a=SHA256S["a.bin"], b=SHA256S["b.bin"], c=None)
    records, digests = unchanged.in_repository(hub, ANYWHERE, files, known)
    assert (records, digests) == ({}, {path: SHA256S[path] for path in ("a.bin", "b.bin")})
    assert hub.asked == [(ANYWHERE, ["a.bin", "b.bin"])]


def test_about_no_equal_file_nothing_is_asked(files):
    hub = Hub()
    assert unchanged.in_repository(hub, ANYWHERE, files, modes(a=OTHER, b=None, c=None)) == (
        {},
        {"a.bin": SHA256S["a.bin"]},
    )
    assert hub.asked == []


def test_an_upload_gets_no_digest_that_was_remembered(files, folder, memory, monkeypatch):
    monkeypatch.setattr(unchanged, "UNREAD_FROM", 600)
    a, b = files[0].state, files[1].state
    plant(memory, folder, "sha256", {a: SHA256S["a.bin"], b._replace(inode=5): OTHER})
    known = modes(a=SHA256S["a.bin"], b=OTHER, c=SHA256S["a.bin"][::-1])
    records, digests = unchanged.in_repository(Hub(local("a.bin")), ANYWHERE, files, known, memory)
    assert records == {"a.bin": local("a.bin")}
    assert digests == {"c.bin": SHA256S["c.bin"]}


def test_a_file_that_changes_after_it_was_compared_is_not_unchanged(files, folder):
    os.utime(folder / "a.bin")
    known = modes(a=SHA256S["a.bin"], b=None, c=None)
    with pytest.raises(XetSourceError, match=r"/a\.bin changed while being uploaded"):
        unchanged.in_repository(Hub(local("a.bin")), ANYWHERE, files, known)
    with pytest.raises(XetSourceError, match=r"/a\.bin changed while being uploaded"):
        unchanged.known_records(ANYWHERE, files[:1], SHA256S, SHA256S)


def test_a_file_that_goes_away_before_it_is_compared_is_named(files, folder):
    (folder / "a.bin").unlink()
    with pytest.raises(XetSourceError) as caught:
        unchanged.in_repository(Hub(), ANYWHERE, files, modes(a=OTHER, b=None, c=None))
    assert str(caught.value) == (
        f"{folder}/a.bin cannot be read any more: no such file or directory. Nothing was published."
    )


def test_remembered_digests_are_recalled_without_reading_more_than_a_sample(files, folder, memory, monkeypatch):
    plant(memory, folder, "sha256", {files[0].state: SHA256S["a.bin"], files[1].state: SHA256S["b.bin"]})
    read = []
    real = unchanged.digest
    monkeypatch.setattr(unchanged, "digest", lambda path, *more: read.append(path.name) or real(path, *more))
    monkeypatch.setattr(remembered, "_sample", lambda sizes: {1})
    assert unchanged.recalled(files[:3], memory) == {path: SHA256S[path] for path in ("a.bin", "b.bin")}
    assert read == ["b.bin"]


def test_known_files_have_a_record_without_any_question(files):
    assert unchanged.known_records(ANYWHERE, files[:2], SHA256S, {"a.bin": "12" * 32, "b.bin": OTHER}) == {
        "a.bin": local("a.bin", xet_hash="12" * 32),
        "b.bin": local("b.bin", xet_hash=OTHER),
    }


# --- buckets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashes(folder):
    return dict(zip(CONTENT, native_client.xet_hashes([folder / path for path in CONTENT]), strict=True))


def stored(path, xet_hash, **changes):
    return {**plain(record(BUCKET, path, CONTENT[path], sha256=None, xet_hash=xet_hash)), **changes}


def test_a_bucket_has_files_with_the_same_size_and_hash(files, hashes):
    hub = Hub(stored("a.bin", hashes["a.bin"]), stored("b.bin", OTHER), stored("c.bin", hashes["c.bin"], size=601))
    assert unchanged.in_bucket(hub, BUCKET, files) == {"a.bin": stored("a.bin", hashes["a.bin"])}
    assert hub.asked == [(BUCKET, ["a.bin", "b.bin", "c.bin"])]
    assert unchanged.in_bucket(Hub(), BUCKET, files) == {}


def test_of_a_bucket_only_what_may_be_equal_is_read(files, folder, hashes, memory, monkeypatch):
    monkeypatch.setattr(unchanged, "UNREAD_FROM", 600)
    read = []
    real = native_client.xet_hashes
    monkeypatch.setattr(native_client, "xet_hashes", lambda paths: read.extend(paths) or real(paths))
    a, b = files[0].state, files[1].state
    plant(memory, folder, "Xet hash", {a: hashes["a.bin"], b._replace(inode=5): OTHER})
    hub = Hub(stored("a.bin", hashes["a.bin"]), stored("b.bin", OTHER), stored("c.bin", "12" * 32))
    assert unchanged.in_bucket(hub, BUCKET, files, memory) == {"a.bin": stored("a.bin", hashes["a.bin"])}
    assert read == [folder / "c.bin"]


def test_a_file_that_goes_away_before_its_hash_is_compared_is_named(files, folder):
    (folder / "a.bin").unlink()
    hub = Hub(stored("a.bin", OTHER), stored("b.bin", OTHER))
    with pytest.raises(XetSourceError, match=rf"^{folder}/a\.bin changed while being uploaded"):
        unchanged.in_bucket(hub, BUCKET, files)


@pytest.mark.parametrize("error", [OSError(errno.EIO, os.strerror(errno.EIO)), RuntimeError("no such file")])
def test_files_that_cannot_be_read_although_they_did_not_change_are_counted(files, monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(native_client, "xet_hashes", fail)
    with pytest.raises(XetSourceError) as caught:
        unchanged._xet_hashes(files[:1])
    assert str(caught.value) == f"One of 1 files cannot be read any more: {error}. Nothing was published."
