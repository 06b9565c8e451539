"""The cache of the client: never one that somebody else prepared."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from airflow_provider_xethub.xet.cas import cache as cas_cache
from airflow_provider_xethub.xet.native_client import xet_hashes
from support.builders import binary, write


@pytest.mark.parametrize("trick", ["link", "open", "file"])
def test_a_cache_that_somebody_else_prepared_is_not_used(monkeypatch, not_a_folder, temporary, tmp_path, trick):
    monkeypatch.setenv("HF_XET_CACHE", str(not_a_folder))
    place = temporary / f"xethub-cache-{os.getuid()}"
    if trick == "link":
        (tmp_path / "theirs").mkdir()
        place.symlink_to(tmp_path / "theirs")
    elif trick == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    instead = cas_cache.folder()
    assert instead == place.with_name(f"{place.name}-1")
    assert stat.S_IMODE(instead.stat().st_mode) == 0o700
    assert cas_cache.folder() == instead  # a retry finds it again
    assert not place.is_dir() or list(place.iterdir()) == []


def test_the_folder_of_the_administrator_is_used_whoever_else_can_write_it(tmp_path):
    """docs/security.md says so: several users may share it on purpose."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert cas_cache.folder(str(shared)) == shared


def test_where_all_of_them_were_prepared_each_process_has_a_new_one(monkeypatch, not_a_folder, temporary):
    monkeypatch.setenv("HF_XET_CACHE", str(not_a_folder))
    for number in range(cas_cache._CANDIDATES):
        (temporary / f"xethub-cache-{os.getuid()}{f'-{number}' if number else ''}").touch()
    assert stat.S_IMODE(cas_cache.folder().stat().st_mode) == 0o700


def test_hashes_need_no_cache(monkeypatch, not_a_folder, tmp_path):
    os.putenv("HF_XET_CACHE", str(not_a_folder))
    try:
        assert len(xet_hashes([write(tmp_path / "in", {"a.bin": binary()}) / "a.bin"])[0]) == 64
    finally:
        os.putenv("HF_XET_CACHE", os.environ["HF_XET_CACHE"])


def test_records_of_finished_and_unfinished_uploads_are_forgotten_and_running_uploads_are_not(tmp_path):
    records = [
        tmp_path / "cas" / "shard-cache" / "a.mdb",
        tmp_path / "cas" / "staging" / "shard-session" / "xorb_metadata" / "b.mdb",
    ]
    running = tmp_path / "cas" / "staging" / "shard-session" / ".tmp1" / "c.mdb"
    for path in (*records, running):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"shard")

    assert cas_cache.forget(tmp_path)
    assert [path for path in (*records, running) if path.exists()] == [running]
    assert not cas_cache.forget(tmp_path), "nothing is left to forget"
    assert not cas_cache.forget(tmp_path / "missing")


def test_only_the_records_of_one_xorb_are_forgotten(tmp_path):
    folder = tmp_path / "cas" / "staging" / "shard-session" / "xorb_metadata"
    folder.mkdir(parents=True)
    stored = bytes(range(32))
    hexadecimal = "".join(stored[at : at + 8][::-1].hex() for at in range(0, 32, 8))
    (folder / "this.mdb").write_bytes(b"header" + stored)
    (folder / "other.mdb").write_bytes(b"header" + stored[::-1])

    assert cas_cache.forget(tmp_path, hexadecimal)
    assert [path.name for path in folder.iterdir()] == ["other.mdb"]
    assert not cas_cache.forget(tmp_path, hexadecimal)


def test_records_that_cannot_be_listed_are_left_alone(tmp_path, monkeypatch):
    """The error of the upload is the one that the task shows."""

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error", str(tmp_path))

    monkeypatch.setattr(Path, "glob", broken)
    assert not cas_cache.forget(tmp_path)
