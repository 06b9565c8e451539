"""Content that a commit needs, on a worker without a place for it."""

from __future__ import annotations

import tempfile

import pytest

from airflow_provider_xethub.exceptions import XetCancelledError, XetDestinationError
from airflow_provider_xethub.xet.transfer import read_back
from support.commit_builders import ANYWHERE, BINARY, record


def test_a_folder_for_temporary_files_that_takes_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    files = [record(ANYWHERE, "a.bin", BINARY)]
    with pytest.raises(XetDestinationError, match="The folder for temporary files of this worker cannot be used") as it:
        read_back._of_cas(files, lambda _: None)
    assert it.value.retryable


def test_a_cancelled_read_says_nothing_else():
    with pytest.raises(XetCancelledError) as caught, read_back._explaining([record(ANYWHERE, "a.bin", BINARY)]):
        raise XetCancelledError("It was stopped from outside.")
    assert str(caught.value) == "It was stopped from outside."
