"""Temporary files of a download: read while they are written, continued, and removed after a failure."""

from __future__ import annotations

import threading
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


def test_a_large_file_is_awaited_and_read_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "READ_WHILE_WRITTEN", 4)
    polled, read = threading.Event(), threading.Event()

    class Scratch(type(tmp_path)):
        def exists(self):
            found = super().exists()
            polled.set()
            return found

    scratch = Scratch(tmp_path / "scratch")

    def written():
        assert polled.wait(10)
        scratch.write_bytes(b"first ")
        assert read.wait(10)
        with scratch.open("ab") as stream:
            stream.write(b"second")

    pieces = downloads._pieces(downloads.Wanted("a.bin", "ab" * 32, 12, tmp_path / "part"), scratch, written)
    found = [next(pieces)]
    read.set()
    assert b"".join([*found, *pieces]) == b"first second"
    assert [each.name for each in tmp_path.iterdir()] == ["part"]
    assert (tmp_path / "part").read_bytes() == b"first second"


def test_a_file_is_continued_where_the_attempt_before_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_BLOCK", 3)
    (tmp_path / "scratch").write_bytes(b"begun lat")  # the aborted client still writes
    wanted = downloads.Wanted("a.bin", "ab" * 32, 18, tmp_path / "part")
    pieces = downloads._appended(wanted, tmp_path / "scratch", 5, iter([b" late", b" the end"]))
    assert [*pieces] == [b"beg", b"un", b" late", b" the end"]
    assert (tmp_path / "part").read_bytes() == b"begun late the end"
    assert not (tmp_path / "scratch").exists()
