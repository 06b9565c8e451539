"""Lock files of the Hugging Face cache on a disk that fails."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import filelock
import pytest

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.xet.files.cache.locks import Locks
from support.failing_disk import fail_at


def test_a_lock_is_held_until_it_is_released_by_whichever_thread(tmp_path):
    with Locks(tmp_path) as ours, Locks(tmp_path) as theirs:
        assert ours.acquire("a")
        assert ours.acquire("b")
        assert not theirs.acquire("a")
        thread = threading.Thread(target=ours.release, args=["a"])
        thread.start()
        thread.join()
        assert theirs.acquire("a")
        theirs.release("b")
        assert not theirs.acquire("b")
    with Locks(tmp_path) as others:
        assert others.acquire("a")
        assert others.acquire("b")


def test_other_users_of_a_shared_cache_can_lock_the_same_file(tmp_path):
    before = os.umask(0)
    try:
        with Locks(tmp_path) as locks:
            locks.acquire("a")
            assert stat.S_IMODE((tmp_path / "a.lock").stat().st_mode) == 0o664
    finally:
        os.umask(before)


def test_a_link_is_no_lock_file(tmp_path):
    (tmp_path / "a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(XetDestinationError) as caught:
        Locks(tmp_path).acquire("a")
    assert str(caught.value) == f"{tmp_path}/a.lock is a symbolic link instead of a lock file. Remove it."
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def without_flock(monkeypatch):
    """A file system without flock, as some network shares are."""

    def refuse(*args, **options):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    return refuse


def test_without_flock_another_kind_of_lock_is_taken(tmp_path, without_flock):
    with Locks(tmp_path) as ours, Locks(tmp_path) as theirs:
        assert ours.acquire("a")
        assert not theirs.acquire("a")
        ours.release("a")
        assert theirs.acquire("a")


def test_without_any_lock_the_download_goes_on(tmp_path, without_flock, monkeypatch):
    monkeypatch.setattr(filelock.SoftFileLock, "acquire", without_flock)
    with Locks(tmp_path) as locks:
        assert locks.acquire("a")
        locks.release("a")


def test_a_lock_file_that_cannot_be_created_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(XetDestinationError) as caught:
        Locks(tmp_path / "file").acquire("a")
    assert str(caught.value) == f"{tmp_path}/file/a.lock cannot be locked on this worker: file exists."


def test_a_lock_that_cannot_be_released_is_only_logged(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")

    def fail(*args, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Locks(tmp_path) as locks:
        assert locks.acquire("a")
        monkeypatch.setattr(filelock.FileLock, "release", fail)
        locks.release("a")
        monkeypatch.undo()
    assert "The lock file of a could not be closed: [Errno 5] Input/output error" in caplog.messages


def test_a_lock_that_cannot_be_closed_is_released_and_no_error(tmp_path, monkeypatch):
    real, failed = os.close, []

    def close(handle):
        real(handle)
        if not failed:
            failed.append(handle)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Locks(tmp_path) as locks:
        assert locks.acquire("a")
        monkeypatch.setattr(os, "close", close)
        locks.release("a")
    assert failed
    with Locks(tmp_path) as others:
        assert others.acquire("a")


def test_a_lock_that_cannot_be_seen_is_an_error_with_its_path(tmp_path, monkeypatch):
    fail_at(monkeypatch, Path, "is_symlink", "a.lock")
    with pytest.raises(XetDestinationError) as caught:
        Locks(tmp_path).acquire("a")
    assert str(caught.value) == f"{tmp_path}/a.lock cannot be locked on this worker: input/output error."
