"""Mirrors of more files than are kept in memory: compared in batches, with the plan and commit of a small mirror."""

from __future__ import annotations

import tracemalloc
from functools import partial

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetSourceError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan
from airflow_provider_xethub.xet.hub.folders import FilesOnDisk
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import xet_file_record
from support.builders import TEXT, binary, write
from support.commit_builders import request
from support.repository_trees import read_tree
from xethub_local.control.fault import Fault

BEFORE = {f"d/{n}.bin": binary(seed=n) for n in range(5)} | {"old/x.bin": binary(), "old/y.csv": TEXT, "kept/a": b"\0"}
AFTER = {
    **{f"d/{n}.bin": binary(seed=n) for n in range(3)},
    **{f"d/{n}.bin": binary(seed=f"new {n}") for n in range(3, 6)},
    "new/Z ü%?#.csv": TEXT,
    "ignored/1.tmp": b"\0",
    ".gitignore": b"*.tmp\n",
}
OPTIONS = {"protect": "kept/", "max_delete_share": 1}


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "source", AFTER)


@pytest.fixture
def mirrored(hook, repo, tmp_path):
    hook.publish(write(tmp_path / "before", BEFORE), CommitRequest(repo, (), message="before"))
    return repo


@pytest.fixture
def there(hub):
    return partial(read_tree, hub)


def test_many_files_are_mirrored_like_few(hook, mirrored, source, there, monkeypatch):
    few = hook.mirror(source, request(mirrored), dry_run=True, **OPTIONS)
    assert (len(few["added"]), len(few["changed"]), few["unchanged"]) == (3, 2, 3)
    assert (few["removed"], few["kept"]) == (["old/x.bin", "old/y.csv"], [".gitattributes", "kept/a"])
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    assert hook.mirror(source, request(mirrored), dry_run=True, **OPTIONS) == few
    result = hook.mirror(source, request(mirrored), **OPTIONS)
    assert result["plan"] == few
    assert there(mirrored) == {path: content for path, content in AFTER.items() if "ignored" not in path} | {
        "kept/a": b"\0"
    }
    again = hook.mirror(source, request(mirrored, idempotency_key="next day"), **OPTIONS)
    assert (again["created"], again["plan"]["unchanged"]) == (False, 8)


def test_what_stays_is_not_replaced_by_a_folder_and_too_much_is_not_removed(
    hook, mirrored, there, tmp_path, monkeypatch
):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    before = there(mirrored)
    folder = write(tmp_path / "clash", {"kept/a/b.bin": b"\0", "x": b"\0", "y": b"\0"})
    with pytest.raises(XetInputError, match="kept/a is a file there, and the mirror does not remove it"):
        hook.mirror(folder, request(mirrored), **OPTIONS)
    with pytest.raises(XetInputError, match="would remove 7 of 7 files"):
        hook.mirror(write(tmp_path / "other", {"x": b"1", "y": b"2", "z": b"3"}), request(mirrored), protect="kept/")
    assert there(mirrored) == before


def test_a_source_that_vanishes_after_it_was_found_removes_nothing(hook, mirrored, source, there, hub, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    before = there(mirrored)
    find = hook.hub.tree_pages

    def listed(*arguments, **options):
        (source / "new/Z ü%?#.csv").unlink(missing_ok=True)
        return find(*arguments, **options)

    monkeypatch.setattr(hook.hub, "tree_pages", listed)
    with pytest.raises(XetSourceError, match=r"A source can no longer be read\. Nothing was published"):
        hook.mirror(source, request(mirrored), **OPTIONS)
    assert there(mirrored) == before


KILLED = """
import sys
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish.request import CommitRequest

records.IN_MEMORY = 2
hook = XetHubConnection()
request = CommitRequest(hook.repo(sys.argv[2], "dataset"), (), message="many", idempotency_key="k")
hook.mirror(sys.argv[1], request, protect="kept/", max_delete_share=1)
"""


@pytest.mark.parametrize("route", ["POST .*/preupload/.*", "POST .*/commit/.*"])
def test_a_mirror_that_is_killed_is_continued(hook, mirrored, kill_at, source, there, monkeypatch, route):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    fault = Fault(route, skip=1 if "preupload" in route else 0, delay=4, status=500)
    kill_at(fault, KILLED, str(source), mirrored.repo_id)
    assert there(mirrored) == BEFORE, "nothing, before everything"
    result = hook.mirror(source, request(mirrored), **OPTIONS)
    assert result["deleted"] == ["old/x.bin", "old/y.csv"]
    assert there(mirrored).keys() == {path for path in AFTER if "ignored" not in path} | {"kept/a"}


def test_a_comparison_takes_a_path_for_each_file_and_a_listing_nothing():
    def listed(count):
        for number in range(count):
            yield xet_file_record(f"folder/{number:07}.bin", 5, "hf://datasets/a/b@main", sha256=f"{number:064x}")

    def peak(count):
        tracemalloc.start()
        try:
            there = FilesOnDisk()
            there.add(listed(count))
            found = mirror_plan.Comparison(mirror_plan.rules())
            for path in there:
                found.add_wanted(path, 5, is_there=True, is_equal=True)
            assert len(found.plan().unchanged) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert (peak(12_000) - peak(4_000)) / 8_000 < 130
