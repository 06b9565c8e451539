"""Facts about many files on disk: in files that nobody else can open, and that are gone however the process ends."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from airflow_provider_xethub.xet.manifests.spool import Spool
from airflow_provider_xethub.xet.process import path_table
from airflow_provider_xethub.xet.process.path_table import PathTable, Row
from airflow_provider_xethub.xet.records import xet_file_record

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="lists open files by /proc")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, with a umask that keeps nothing from anybody."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(path_table, "_CACHE", -1)  # to disk at once
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


def opened(prefix):
    """Return link and state of each open file whose name begins, or began, like this."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            name, status = str(link.readlink()), link.stat()
        except OSError:  # that of this loop, closed meanwhile
            continue
        if prefix in name:
            found.append((name, status))
    return found


def table():
    made = PathTable()
    for number in range(3000):
        made.add(Row(f"{number}.csv", "x" * 100))
    return made


def spool():
    made = Spool()
    made.add([xet_file_record(f"{n}.csv", n, "hf://acme/m@main") for n in range(3000)])
    return made.finish()


@pytest.mark.parametrize("make", [table, spool])
def test_the_file_has_no_name_and_nobody_else_can_open_it(temporary, make):
    # SQLite may have read TMPDIR before, and names its files like this.
    prefix = "/etilqs_" if make is table else str(temporary)
    before = {status.st_ino for _, status in opened(prefix)}
    kept = make()
    [(name, status)] = [each for each in opened(prefix) if each[1].st_ino not in before]
    assert name.endswith(" (deleted)")
    assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    assert status.st_size > 1000
    assert list(temporary.iterdir()) == []
    del kept
