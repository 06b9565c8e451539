"""Lock files of the Hugging Face cache on a disk that fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.xet.files.cache.locks import Locks
from support.failing_disk import fail_at


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
    with pytest.raises(XetDestinationError, match=r"a\.lock cannot be locked on this worker: input/output error"):
        Locks(tmp_path).acquire("a")
