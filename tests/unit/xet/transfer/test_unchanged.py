"""Files that cannot be compared with what a bucket has; with a Hub: tests/provider/xet/transfer/test_unchanged.py."""

from __future__ import annotations

import errno
import os

import pytest

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files import sources
from airflow_provider_xethub.xet.transfer import unchanged


@pytest.mark.parametrize("error", [OSError(errno.EIO, os.strerror(errno.EIO)), RuntimeError("no such file")])
def test_files_that_cannot_be_read_although_they_did_not_change_are_counted(tmp_path, monkeypatch, error):
    (tmp_path / "a.bin").write_bytes(b"x")
    files = sources.collect(str(tmp_path))

    def fail(_):
        raise error

    monkeypatch.setattr(native_client, "xet_hashes", fail)
    with pytest.raises(XetSourceError, match=r"^One of 1 files cannot be read any more: .* Nothing was published\."):
        unchanged._xet_hashes(files)
