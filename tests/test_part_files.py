"""Temporary files that a killed task left are removed by its retry, and by nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_provider_xethub import part_files


@pytest.fixture
def task(monkeypatch):
    def be(task_id="load"):
        for name, value in zip(part_files._TASK, ("dag", task_id, "run"), strict=True):
            monkeypatch.setenv(name, value)

    be()
    return be


def left_by_another_process(path):
    code = "import sys; from pathlib import Path; from airflow_provider_xethub import part_files;"
    code += "made = part_files.new(Path(sys.argv[1])); made.touch(); print(made)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, check=True, capture_output=True, text=True
    )
    return path.with_name(done.stdout.strip().rpartition("/")[2])


def test_what_an_earlier_try_left_is_removed(task, tmp_path):
    left = left_by_another_process(tmp_path / "a.bin")
    assert left.exists()
    assert part_files.clear_left([tmp_path / "a.bin", tmp_path / "b.bin"]) == [left]
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_removed(task, tmp_path, monkeypatch):
    wanted = [tmp_path / "a.bin"]
    own = part_files.new(wanted[0])
    own.touch()  # of a process that is there: this one
    other_file = left_by_another_process(tmp_path / "b.bin")
    for name in ("a.bin", "notes.xetpart", f".{'0' * 32}.xetpart", own.name + "x"):
        (tmp_path / name).touch()
    task("another")
    other_task = left_by_another_process(wanted[0])
    task()
    before = sorted(tmp_path.iterdir())
    assert {own, other_file, other_task} < set(before)
    assert part_files.clear_left(wanted) == []
    assert sorted(tmp_path.iterdir()) == before
    for name in part_files._TASK:
        monkeypatch.delenv(name)
    left_by_another_process(wanted[0])
    assert part_files.clear_left(wanted) == []  # outside of a task nobody knows whose it is


@pytest.mark.skipif(part_files._began(os.getpid()) is None, reason="only Linux tells when a process began")
@pytest.mark.parametrize("whose", [os.getpid(), os.getppid()], ids=["own", "parent"])
def test_what_a_process_left_whose_number_another_one_has_now_is_removed(task, tmp_path, monkeypatch, whose):
    """As after the restart of a container, in which all numbers are given anew."""
    with monkeypatch.context() as patch:
        patch.setattr(part_files.os, "getpid", lambda: whose)
        patch.setattr(part_files, "_began", lambda _: 12345)
        left = part_files.new(tmp_path / "a.bin")
    left.touch()
    assert part_files._runs(whose)
    assert part_files.clear_left([tmp_path / "a.bin"]) == [left]


def test_a_name_that_does_not_say_when_its_process_began_is_that_of_any_with_its_number(task, tmp_path, monkeypatch):
    monkeypatch.setattr(part_files, "_began", lambda _: None)
    own = part_files.new(tmp_path / "a.bin")
    own.touch()
    monkeypatch.undo()
    assert part_files._NAME.fullmatch(own.name)["began"] is None
    assert part_files.clear_left([tmp_path / "a.bin"]) == []


def test_what_another_host_left_is_removed_too(task, tmp_path, monkeypatch):
    monkeypatch.setattr(part_files.socket, "gethostname", lambda: "pod-1")
    left = part_files.new(tmp_path / "a.bin")
    left.touch()
    monkeypatch.setattr(part_files.socket, "gethostname", lambda: "pod-2")
    assert part_files.clear_left([tmp_path / "a.bin"]) == [left]


def test_names_are_new_each_time_hidden_and_short(task, tmp_path):
    path = tmp_path / ("n" * 250)
    names = {part_files.new(path).name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".") and len(name.encode()) < 100 for name in names)
