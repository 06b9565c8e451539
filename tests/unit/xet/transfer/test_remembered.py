"""Which files are read for their digests, and which need not be; the memory: unit/xet/files/test_digest_memory.py."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace

import pytest

from airflow_provider_xethub.xet.files.found_files import open_local
from airflow_provider_xethub.xet.transfer import remembered
from airflow_provider_xethub.xet.transfer.remembered import Found, digests_of

WRONG, OTHER = "ab" * 32, "cd" * 32
SIZE = 100


@pytest.fixture
def files(tmp_path):
    """Three files, which are some years old."""
    made = []
    for name in "abc":
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * SIZE)
        os.utime(path, (1 << 30, 1 << 30))
        made.append(open_local(path, path.name))
    return made


@pytest.fixture
def right(files):
    return [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files]


class Reader:
    """Computes digests, and keeps the numbers of the files that it read."""

    def __init__(self, files, meanwhile=lambda: None):
        self.files, self.meanwhile, self.read = files, meanwhile, []

    def __call__(self, numbers):
        self.read.extend(numbers)
        self.meanwhile()
        return [hashlib.sha256(self.files[number].path.read_bytes()).hexdigest() for number in numbers]


def plant(memory, digests, kind="sha256"):
    """Remember digests, by the state of a file in this folder."""
    memory.of(folder(digests), kind).keep({file.state: digest for file, digest in digests}, 2**62)


def folder(digests):
    return next(iter(digests))[0].path.parent


def kept(memory, files):
    found = memory.of(files[0].path.parent, "sha256")
    return [found.recall(file.state) for file in files]


def chosen(monkeypatch, *numbers):
    """Let these files be the sample."""
    monkeypatch.setattr(remembered, "_sample", lambda sizes: set(numbers) & sizes.keys())


def before(file):
    """The same file before it was written to."""
    return replace(file, state=file.state._replace(ctime_ns=1))


def test_of_no_files_nothing_is_read(memory):
    assert digests_of(memory, "sha256", [], lambda numbers: [str(number) for number in numbers]) == Found([], ())


def test_only_a_part_of_the_files_is_read(memory, files, right):
    plant(memory, [(files[0], right[0]), (files[2], right[2])])
    reader = Reader(files)
    assert digests_of(memory, "sha256", files, reader) == Found(right, {0, 2}, set())
    assert reader.read == [1]


@pytest.mark.parametrize(("most", "is_used"), [(3 * SIZE, True), (3 * SIZE + 1, False)])
def test_few_bytes_are_always_read_and_never_remembered(memory, files, right, monkeypatch, most, is_used):
    monkeypatch.setattr(remembered, "MIN_BYTES", most)
    remembered.remember(memory, "sha256", list(zip(files, right, strict=True)), 2**62)
    assert kept(memory, files) == (right if is_used else [None] * 3)
    plant(memory, list(zip(files, right, strict=True)))
    reader = Reader(files)
    assert digests_of(memory, "sha256", files, reader).digests == right
    assert reader.read == ([] if is_used else [0, 1, 2])
    assert len(remembered.recalled(memory, "sha256", files, reader)) == 3 * is_used


def test_nothing_is_remembered_of_no_files_or_without_a_memory(memory, files, right):
    remembered.remember(memory, "sha256", [], 2**62)
    remembered.remember(None, "sha256", [(files[0], right[0])], 2**62)
    assert kept(memory, files) == [None] * 3


# --- large files that an upload reads anyway --------------------------------------------------------------------------


@pytest.mark.parametrize(("unread_from", "is_read"), [(SIZE, False), (SIZE + 1, True), (None, True)])
def test_a_large_file_that_was_written_to_is_not_read(memory, files, right, unread_from, is_read):
    plant(memory, [(before(files[0]), OTHER), (before(files[1]), OTHER), (files[2], right[2])])
    reader = Reader(files)
    found = digests_of(memory, "sha256", files, reader, unread_from, [None] * 3)
    assert found == (Found(right, {2}, set()) if is_read else Found(["", "", right[2]], {2}, {0, 1}))
    assert reader.read == ([0, 1] if is_read else [])


def test_a_large_file_that_replaced_another_version_is_not_read(memory, files, right):
    """What the other side has was remembered, and is not in this file any more."""
    plant(memory, [(replace(files[0], state=files[0].state._replace(inode=5, ctime_ns=1)), OTHER)])
    reader = Reader(files)
    found = digests_of(memory, "sha256", files, reader, SIZE, [OTHER, WRONG, None])
    assert found == Found(["", *right[1:]], set(), {0})
    assert reader.read == [1, 2]


@pytest.mark.parametrize(("age", "is_read"), [(3600 * 10**9 - 1, False), (3600 * 10**9, True)])
def test_a_large_file_of_the_last_hour_is_not_read(memory, files, right, monkeypatch, age, is_read):
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    files[0] = replace(files[0], state=files[0].state._replace(mtime_ns=now - age))
    found = digests_of(memory, "sha256", files, Reader(files), SIZE, [None] * 3)
    assert found == (Found(right, set(), set()) if is_read else Found(["", *right[1:]], set(), {0}))


# --- the sample -------------------------------------------------------------------------------------------------------


def test_a_sample_that_is_right_changes_nothing(memory, files, right, monkeypatch, caplog):
    plant(memory, [(files[0], right[0]), (files[1], right[1])])
    chosen(monkeypatch, 1)
    reader = Reader(files)
    assert digests_of(memory, "sha256", files, reader) == Found(right, {0}, set())
    assert reader.read == [1, 2]
    assert kept(memory, files)[:2] == right[:2]
    assert remembered.recalled(memory, "sha256", files, reader) == dict(enumerate(kept(memory, files)))
    assert not caplog.messages


def test_of_a_sample_that_is_wrong_the_first_file_is_named(memory, files, right, monkeypatch, caplog):
    plant(memory, [(files[0], right[0]), (files[1], WRONG), (files[2], WRONG)])
    chosen(monkeypatch, 0, 1)
    reader = Reader(files)
    assert digests_of(memory, "sha256", files, reader) == Found(right, set(), set())
    assert reader.read == [0, 1, 2]
    assert kept(memory, files) == [None] * 3
    assert caplog.messages == [
        f"The remembered digest of {files[1].path} is wrong, so all of {files[1].path.parent} is read. If it happens "
        "again, set [xethub] digest_memory = False: the file system did not record a change of 1 of 2 verified files."
    ]


def test_a_file_of_the_sample_that_is_being_changed_says_nothing_about_the_memory(
    memory, files, right, monkeypatch, caplog
):
    plant(memory, list(zip(files, right, strict=True)))
    chosen(monkeypatch, 1)
    reader = Reader(files, lambda: files[1].path.write_bytes(b"new"))
    found = digests_of(memory, "sha256", files, reader)
    assert found == Found([right[0], hashlib.sha256(b"new").hexdigest(), right[2]], {0, 2}, set())
    assert remembered.recalled(memory, "sha256", files, reader) == {}
    assert kept(memory, files) == right
    assert not caplog.messages


def test_without_a_right_sample_nothing_is_recalled(memory, files, right, monkeypatch, caplog):
    plant(memory, [(files[0], right[0]), (files[1], WRONG)])
    chosen(monkeypatch, 0, 1)
    reader = Reader(files)
    assert remembered.recalled(memory, "sha256", files, reader) == {}
    assert reader.read == [0, 1]
    assert kept(memory, files) == [None] * 3
    assert caplog.messages == [
        f"A remembered digest of a file in {files[0].path.parent} is wrong, so all of them are compared again."
    ]


def test_what_is_recalled_is_used_and_so_remembered_for_longer(memory, files, right, monkeypatch):
    days = 86_400 * 10**9
    began = time.time_ns()
    memory.of(files[0].path.parent, "sha256").keep(dict.fromkeys((file.state for file in files), right[0]), began)
    monkeypatch.setattr(time, "time_ns", lambda: began + 80 * days)
    assert remembered.recalled(memory, "sha256", files[:1], Reader(files)) == {0: right[0]}
    memory.of(files[0].path.parent, "sha256").keep({before(files[2]).state: OTHER}, began + 100 * days)
    assert kept(memory, files) == [right[0], None, None]


def test_each_file_needs_a_digest():
    with pytest.raises(ValueError, match="zip"):
        remembered._computed(lambda numbers: [WRONG], [1, 2])
