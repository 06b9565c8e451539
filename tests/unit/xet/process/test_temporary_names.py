"""Temporary files are removed when their writer is certainly dead, and never while somebody may still write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_names import UNKNOWN, Attempt

FIRST, SECOND = (Attempt.of(number, "dag", "run", "load", 3, "2026-11-20") for number in (1, 2))
linux = pytest.mark.skipif(
    temporary_names._start_ticks(os.getpid()) is None, reason="only Linux says when a process began"
)


def of_a_dead_process(path, attempt=UNKNOWN):
    code = "import sys; from pathlib import Path; from airflow_provider_xethub.xet.process import temporary_names;"
    code += "made = temporary_names.new(Path(sys.argv[1]), temporary_names.Attempt(sys.argv[2], int(sys.argv[3])));"
    code += "made.touch(); print(made)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), attempt.instance, str(attempt.number)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(done.stdout.strip())


@pytest.fixture
def elsewhere(monkeypatch):
    """Make the temporary file of an attempt on another host, where nobody here sees whether its process runs."""

    def make(path, attempt, **named):
        with monkeypatch.context() as patch:
            patch.setattr(temporary_names, "_system", lambda: named.get("system", "ab" * 6))
            made = temporary_names.new(path, attempt)
        made.touch()
        return made

    return make


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.bin"


@pytest.mark.parametrize("system", ["ab" * 6, temporary_names._UNKNOWN])
def test_an_earlier_attempt_is_dead_on_whatever_host_it_was(elsewhere, file, system):
    left = elsewhere(file, FIRST, system=system)
    assert temporary_names.remove_abandoned([file], SECOND) == [left]
    assert not left.exists()


@pytest.mark.parametrize(
    ("writer", "here"),
    [
        (FIRST, Attempt.of(2, "dag", "run", "load", 4, "2026-11-20")),  # another map index
        (FIRST, Attempt.of(2, "dag", "run 2", "load", 3, "2026-11-20")),
        (FIRST, Attempt.of(2, "dag", "run", "load", 3, "2026-11-21")),  # another Airflow with the same DAG
        (FIRST, FIRST),  # Celery may start one twice
        (SECOND, FIRST),
        (FIRST, UNKNOWN),
        (UNKNOWN, SECOND),
        (UNKNOWN, UNKNOWN),
    ],
    ids=["map index", "run", "airflow", "same attempt", "later attempt", "script", "by a script", "scripts"],
)
def test_what_another_host_may_still_be_writing_stays(elsewhere, file, writer, here):
    part = elsewhere(file, writer)
    assert temporary_names.remove_abandoned([file], here) == []
    assert part.exists()


@linux
@pytest.mark.parametrize("here", [UNKNOWN, FIRST, SECOND])
def test_what_a_process_of_this_system_left_that_has_ended_is_removed_whoever_it_was(file, here):
    left = [of_a_dead_process(file), of_a_dead_process(file, FIRST)]
    assert sorted(temporary_names.remove_abandoned([file, file.with_name("b.bin")], here)) == sorted(left)
    assert list(file.parent.iterdir()) == []


def test_an_attempt_is_known_by_all_that_identifies_the_task_instance():
    values = ("dag", "run", "load", 3)
    attempts = [Attempt.of(2, *values), Attempt.of(2, *values[:3]), Attempt.of(2, "dag run", "load", 3)]
    assert len({each.instance for each in attempts}) == 3
    assert Attempt.of(2, *values) == Attempt.of(2, "dag", "run", "load", "3")
    assert [Attempt.of(number, *values).number for number in (1, 2)] == [1, 2]


def test_an_attempt_of_unknown_number_may_be_the_running_one(elsewhere, file):
    part = elsewhere(file, Attempt(FIRST.instance, 0))
    assert temporary_names.remove_abandoned([file], SECOND) == []
    assert part.exists()


def test_nothing_else_is_removed(file):
    own = temporary_names.new(file, FIRST)
    other_file = of_a_dead_process(file.with_name("b.bin"))
    old_name = f".{'0' * 16}-{'0' * 8}-1_1-{'0' * 32}.xetpart"
    odd = own.name.replace(f"-{os.getpid()}_", f"-{'9' * 30}_")
    for name in (own.name, "a.bin", "notes.xetpart", old_name, own.name + "x", odd):
        (file.parent / name).touch()
    before = sorted(file.parent.iterdir())
    assert {own, other_file} < set(before)
    assert temporary_names.remove_abandoned([file]) == []
    assert sorted(file.parent.iterdir()) == before


@linux
@pytest.mark.parametrize("whose", [os.getpid(), os.getppid()], ids=["own", "parent"])
def test_what_a_process_left_whose_number_another_one_has_now_is_removed(file, monkeypatch, whose):
    """As after the restart of a container, in which all numbers are given anew."""
    with monkeypatch.context() as patch:
        patch.setattr(temporary_names.os, "getpid", lambda: whose)
        patch.setattr(temporary_names, "_start_ticks", lambda _: 12345)
        left = temporary_names.new(file)
    left.touch()
    assert temporary_names._is_running(whose)
    assert temporary_names.remove_abandoned([file]) == [left]


@linux
def test_a_process_that_can_be_seen_and_not_read_about_is_alive(file, monkeypatch):
    """As with ``hidepid`` on /proc."""
    part = temporary_names.new(file)
    part.touch()
    monkeypatch.setattr(temporary_names, "_start_ticks", lambda _: None)
    assert temporary_names.remove_abandoned([file]) == []


@linux
def test_containers_of_one_host_name_do_not_take_each_other_for_dead(file, monkeypatch):
    """Each has its own process numbers: that of the other one means nothing here."""
    left = of_a_dead_process(file)
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **options: "other" if path.name == "boot_id" else read(path, **options)
    )
    assert temporary_names.remove_abandoned([file]) == []
    monkeypatch.undo()
    assert temporary_names.remove_abandoned([file]) == [left]


@linux
@pytest.mark.parametrize("differs", ["host name", "process namespace"])
def test_processes_that_do_not_see_each_other_are_of_different_systems(monkeypatch, differs):
    here = temporary_names._system()
    stat = Path.stat
    if differs == "host name":
        monkeypatch.setattr(temporary_names.socket, "gethostname", lambda: "other")
    else:
        other = os.stat_result((0, 7, 0, 0, 0, 0, 0, 0, 0, 0))
        monkeypatch.setattr(
            Path, "stat", lambda path, **options: other if str(path) == "/proc/self/ns/pid" else stat(path, **options)
        )
    assert temporary_names._system() not in (here, "0")


def test_a_file_whose_name_is_no_text_has_a_temporary_name(tmp_path):
    names = {temporary_names.new(tmp_path / name).name[:13] for name in ("a\udcff", "a\udcfe", "a")}
    assert len(names) == 3


def test_names_are_new_each_time_hidden_and_short(tmp_path):
    path = tmp_path / ("n" * 250)
    names = {temporary_names.new(path, SECOND).name for _ in range(100)}
    assert len(names) == 100
    # 143 bytes is the most where names are encrypted.
    assert all(name.startswith(".") and len(name.encode()) < 140 for name in names)


def test_another_name_is_of_the_same_file_and_writer(file):
    part = temporary_names.new(file, FIRST)
    other = temporary_names.another(part)
    before, _, random = part.name.rpartition("-")
    assert (other.parent, other.name.rpartition("-")[0]) == (part.parent, before)
    assert other.name.endswith(".xetpart")
    assert len(other.name) == len(part.name)
    assert random not in other.name


def test_another_name_for_a_name_that_is_no_temporary_one_is_hidden(file):
    assert temporary_names.another(file.with_name("data")).name.startswith(".-")
    assert temporary_names.another(file.with_name("a-b.xetpart")).name.startswith("a-")


def test_folders_that_do_not_exist_have_nothing_to_remove(file):
    left = of_a_dead_process(file)
    assert temporary_names.remove_abandoned([file.parent / "missing/a.bin", left / "b.bin", file]) == [left]


def test_what_somebody_else_removed_meanwhile_counts_as_removed(file, monkeypatch):
    left = file.parent / temporary_names.new_name(file.name, FIRST)
    monkeypatch.setattr(temporary_names, "abandoned", lambda found, names, attempt: [left.name])
    assert temporary_names.remove_abandoned([file], SECOND) == [left]


@linux
def test_the_process_of_another_user_is_alive(file, monkeypatch):
    part = temporary_names.new(file)
    part.touch()

    def kill(pid, number):
        assert (pid, number) == (os.getpid(), 0)
        raise PermissionError

    monkeypatch.setattr(temporary_names.os, "kill", kill)
    assert temporary_names.remove_abandoned([file]) == []


@pytest.mark.parametrize("text", ["", "1 (x) S", "1 (x) " + "S " * 30], ids=["empty", "short", "not a number"])
def test_where_the_start_of_a_process_is_unreadable_its_name_says_so_and_its_file_stays(file, monkeypatch, text):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    part = temporary_names.new(file)
    part.touch()
    assert f"-0-{os.getpid()}_0-" in part.name
    monkeypatch.setattr(temporary_names, "_is_running", lambda _: False)
    assert temporary_names.remove_abandoned([file]) == []


@linux
def test_a_system_without_a_boot_id_is_unknown(file, monkeypatch):
    read = Path.read_text

    def fail_for_boot_id(path, **options):
        if path.name == "boot_id":
            raise FileNotFoundError
        return read(path, **options)

    monkeypatch.setattr(Path, "read_text", fail_for_boot_id)
    assert f"-0-{os.getpid()}_{temporary_names._start_ticks(os.getpid())}-" in temporary_names.new(file).name


@linux
def test_the_name_of_a_process_may_have_spaces_and_brackets_and_bytes_that_are_no_text(monkeypatch):
    stat = "7 (a) b\ufffd (c) S " + " ".join(map(str, range(4, 40)))

    def read(path, **options):
        assert (str(path), options) == ("/proc/7/stat", {"errors": "replace"})
        return stat

    monkeypatch.setattr(Path, "read_text", read)
    assert temporary_names._start_ticks(7) == 22  # the 22nd field, as proc(5) counts
