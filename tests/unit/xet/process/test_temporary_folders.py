"""The folder of a piece of work is removed at its end, and that of a killed process by the next one."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_folders import temporary_folder
from airflow_provider_xethub.xet.process.temporary_names import Attempt
from support.failing_disk import fail_at

_WAITS = """
import sys
from airflow_provider_xethub.xet.process.temporary_folders import temporary_folder
with temporary_folder() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "model.bin").write_bytes(b"content")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def parent(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def another_process(parent):
    """A process that is inside of the block."""
    environment = {**os.environ, "TMPDIR": str(parent), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_only_the_user_can_read_it_and_it_is_removed_with_all_that_is_in_it(parent):
    with temporary_folder() as folder:
        assert folder.parent == parent
        assert not folder.name.startswith(".")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "a").mkdir()
        (folder / "a/b").write_bytes(b"b")
    assert list(parent.iterdir()) == []


@pytest.fixture
def open_parent(monkeypatch):
    """A folder for temporary files that anybody may use, and a user whom permissions hold back."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        parent = Path(name)
        parent.chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", name)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield parent
        finally:
            if is_root:
                os.seteuid(0)


def test_what_the_work_made_read_only_is_removed_and_links_are_left_alone(open_parent):
    outside = open_parent / "outside"
    outside.mkdir(mode=0o500)
    with temporary_folder() as folder:
        (folder / "archive/deep").mkdir(parents=True)
        (folder / "archive/deep/a").write_bytes(b"a")
        (folder / "link").symlink_to(outside)
        (folder / "archive/deep").chmod(0o500)
        (folder / "archive").chmod(0o500)
    assert list(open_parent.iterdir()) == [outside]
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500


def test_it_is_removed_when_the_work_fails(parent):
    with pytest.raises(KeyError), temporary_folder() as folder:
        raise KeyError((folder / "a").write_bytes(b"a"))
    assert list(parent.iterdir()) == []


def test_it_may_be_gone_already(parent):
    with temporary_folder() as folder:
        folder.rmdir()
    assert list(parent.iterdir()) == []


def test_permissions_that_cannot_be_changed_do_not_hide_the_result_of_the_work(parent, monkeypatch):
    failed = fail_at(monkeypatch, Path, "chmod", "deep")
    with temporary_folder() as folder:
        (folder / "deep").mkdir()
    assert failed
    assert list(parent.iterdir()) == []


def test_that_of_a_killed_process_may_be_removed_by_another_meanwhile(parent, another_process, monkeypatch):
    process, folder = another_process
    process.kill()
    process.wait()
    failed = fail_at(monkeypatch, Path, "lstat", folder.name, errno.ENOENT)
    with temporary_folder():
        assert failed


def test_that_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_not(
    parent, another_process, caplog
):
    caplog.set_level(logging.INFO)
    process, folder = another_process
    with temporary_folder():
        assert (folder / "deep/model.bin").read_bytes() == b"content"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(parent.iterdir()) == [folder]
    with temporary_folder() as own:
        assert list(parent.iterdir()) == [own]
    assert caplog.messages == [f"Removed {folder}, which a process that was killed had left."]


def test_that_of_an_earlier_attempt_is_removed_on_whatever_host_it_was(parent, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(temporary_names, "_system", lambda: "ab" * 6)
        names = [temporary_names.new_folder_name(Attempt.of(number, "dag", "run", "load")) for number in (1, 2)]
    for name in names:
        (parent / name).mkdir()
    with temporary_folder(Attempt.of(2, "dag", "run", "load")):
        assert [name for name in names if (parent / name).exists()] == [names[1]]


def test_links_and_folders_of_others_stay(parent, another_process, monkeypatch):
    process, folder = another_process
    process.kill()
    process.wait()
    outside = parent / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"a")
    link = parent / f"{folder.name[:-4]}aaaa"
    link.symlink_to(outside)
    alike = [parent / "xethub-cache-0", parent / "xethub-notes", parent / f"my{folder.name}"]
    for each in alike:
        each.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with temporary_folder():
        assert folder.exists()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    with temporary_folder():
        assert not folder.exists()
    assert link.is_symlink()
    assert (outside / "a").exists()
    assert all(each.is_dir() for each in alike)
