"""The files of a commit: the same in memory and on disk."""

from __future__ import annotations

import json

import pytest

from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.process.path_table import PathTable
from airflow_provider_xethub.xet.publish.planned_files import Planned, PlannedFiles
from airflow_provider_xethub.xet.publish.records_on_disk import RecordsOnDisk, batches
from support.commit_builders import ANYWHERE, record

PATHS = ["b/c", "a", "b.txt", "b/a"]


@pytest.fixture(params=[10, 1], ids=["in memory", "on disk"])
def most(request, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", request.param)
    return request.param


@pytest.fixture
def planned(most):
    files = PlannedFiles()
    files.add(Planned(record(ANYWHERE, path, b"x" * 3), path == "a", path == "b/c") for path in PATHS)
    return files


def test_files_are_read_by_path_and_found(planned, most):
    assert planned.are_on_disk is (most == 1)
    assert len(planned) == 4
    assert [file.record["path"] for file in planned.by_path()] == ["a", "b.txt", "b/a", "b/c"]
    assert [file.record["path"] for file in planned.by_path(1, 3)] == ["b.txt", "b/a"]
    assert [(file.inline, file.unchanged) for file in planned.by_path()] == [
        (True, False),
        (False, False),
        (False, False),
        (False, True),
    ]
    assert list(planned.sizes_by_path()) == [(3, False), (None, False), (None, False), (None, True)]
    assert [planned.has(path) for path in ("a", "b", "b/", "b/c", "c")] == [True, False, False, True, False]
    assert [planned.has_below(folder) for folder in ("b", "a", "c", "")] == [True, False, False, False]


def test_files_are_on_disk_if_there_are_more_than_fit_into_memory(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    files = PlannedFiles()
    for path, are_on_disk in zip(PATHS, (False, False, False, True), strict=True):
        files.add([Planned(record(ANYWHERE, path, b"x"), True, False)])
        assert files.are_on_disk is are_on_disk
        assert files.has(path)
    assert len(files) == 4


def test_only_inline_files_keep_their_sample_on_disk(planned, most):
    found = {file.record["path"]: file.record for file in planned.by_path()}
    assert found["a"] == record(ANYWHERE, "a", b"x" * 3)
    assert [path for path, file in found.items() if "sample" in file] == (["a"] if most == 1 else sorted(PATHS))
    assert {file["repo"] for file in found.values()} == {ANYWHERE.uri}


def test_a_record_can_be_replaced_before_the_files_are_published(planned):
    assert planned.has("b/a")
    planned.replace_record({**record(ANYWHERE, "b/a", b"other"), "xet_hash": "cd" * 32})
    assert [(file["path"], file["xet_hash"][:2]) for file in sorted_published(planned)] == [
        ("a", "ab"),
        ("b.txt", "ab"),
        ("b/a", "cd"),
        ("b/c", "ab"),
    ]
    assert [file.record["xet_hash"][:2] for file in planned.by_path()] == ["ab", "ab", "cd", "ab"]


def test_what_was_unchanged_before_an_earlier_attempt_counts_afterwards(planned):
    assert sorted(planned.unchanged) == ["b/c"]
    before = planned.compare_again(["a", "b/a"])
    assert (len(before), sorted(before)) == (2, ["a", "b/a"])
    assert ["a" in before, "b/c" in before, 5 in before] == [True, False, False]


def sorted_published(planned):
    return sorted(planned.published("hf://acme/m@v1"), key=lambda file: file["path"])


def test_published_records_have_the_repository_and_no_sample(planned):
    files = sorted_published(planned)
    assert {file["repo"] for file in files} == {"hf://acme/m@v1"}
    assert not any("sample" in file for file in files)


def test_records_on_disk_are_a_sequence(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 1)
    planned = PlannedFiles()
    planned.add(Planned(record(ANYWHERE, path, b"x"), False, False) for path in PATHS)
    files = planned.published(ANYWHERE.uri)
    assert repr(files) == "<4 files>"
    assert [files[at]["path"] for at in (0, 3, -1, -4)] == ["a", "b/c", "b/c", "a"]
    assert [file["path"] for file in files[1:3]] == ["b.txt", "b/a"]
    assert [file["path"] for file in files[:3]] == ["a", "b.txt", "b/a"]
    assert [file["path"] for file in files[::-2]] == ["b/c", "b.txt"]
    assert [file["path"] for file in files[2:0:-1]] == ["b/a", "b.txt"]
    assert [file["path"] for file in files[::3]] == ["a", "b/c"]
    assert files[2:2] == []
    for at in (4, -5):
        with pytest.raises(IndexError, match=rf"^{at}$"):
            files[at]
    assert files.find("b/a")["path"] == "b/a"
    assert files.find("b") is None


def test_records_are_added_to_those_on_disk_unless_their_path_is_there():
    rows = PathTable()
    files = RecordsOnDisk(rows, lambda file: {**file, "repo": "changed"})
    first = record(ANYWHERE, "ä", b"xyz")
    assert files.add(first)
    assert not files.add(record(ANYWHERE, "ä", b"other"))
    assert list(files) == [{**first, "repo": "changed"}]
    assert [(row.size, row.value) for row in rows.by_path()] == [
        (3, json.dumps(first, ensure_ascii=False, separators=(",", ":")))
    ]


def test_batches_are_as_large_as_said_or_as_fits_into_memory(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches("abcde")) == [["a", "b", "c"], ["d", "e"]]
    assert list(batches("")) == []
