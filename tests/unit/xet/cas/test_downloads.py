"""Temporary files of a download that failed."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_xethub.xet.cas import downloads
from support.failing_disk import fail_at


def test_a_temporary_file_that_stays_is_logged_and_keeps_no_other(tmp_path, monkeypatch, caplog):
    stays, goes = tmp_path / "a.part", tmp_path / "b.part"
    for each in (stays, goes):
        each.touch()
    fail_at(monkeypatch, Path, "unlink", "a.part")
    downloads._remove([stays, goes, tmp_path / "missing"])
    assert [*tmp_path.iterdir()] == [stays]
    assert caplog.messages == [f"The temporary file {stays} cannot be removed: input/output error. A retry removes it."]
