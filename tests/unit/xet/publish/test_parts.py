"""How work that is too large for one commit is cut into parts."""

from __future__ import annotations

import itertools
import random

from airflow_provider_xethub.xet.publish import parts as commit_parts
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record


def work(paths, delete=(), inline=(), unchanged=()):
    files = [record(Repo("a/b"), path, b"x" * 10) for path in paths]
    modes = {path: UploadMode(path in inline, "there", False) for path in paths}
    for file in files:
        if file["path"] in unchanged:
            modes[file["path"]] = UploadMode(False, file["sha256"], False)
    request = CommitRequest(Repo("a/b"), files, delete)
    return commit_parts.plan_work(request, modes, lambda wanted: {file["path"]: b"x" * 10 for file in wanted})


def cut(it, changes=1000, inline_bytes=1000, begin=0):
    return [
        [each if isinstance(each, str) else each["path"] for each in part.changes]
        for part in it.parts(begin, commit_parts.Limits(changes, inline_bytes))
    ]


def test_files_come_by_path_then_what_is_deleted_and_what_is_in_the_way_of_a_folder_first():
    it = work(["b/x", "c", "a"], delete=["z", "b", "old/"])
    assert cut(it) == [["b", "a", "b/x", "c", "z", "old/"]]
    assert cut(it, changes=2) == [["b", "a"], ["b/x", "c"], ["z", "old/"]]


def test_what_is_in_the_way_of_a_file_comes_first_too():
    assert cut(work(["a", "b"], delete=["z", "b/x/y", "b/c/"])) == [["b/x/y", "b/c/", "a", "b", "z"]]


def test_a_part_holds_no_more_inline_bytes_than_allowed_but_at_least_one_file():
    it = work(["a", "b", "c", "d", "e"], inline=["a", "b", "d", "e"])
    assert cut(it, inline_bytes=20) == [["a", "b", "c"], ["d", "e"]]
    assert cut(it, inline_bytes=5) == [["a"], ["b", "c"], ["d"], ["e"]]


def test_what_is_unchanged_takes_no_room_and_alone_makes_no_part():
    it = work(["a", "b", "c", "d"], unchanged=["a", "c", "d"])
    assert cut(it, changes=1) == [["b"]]
    assert cut(work(["a"], unchanged=["a"])) == []


def test_any_cut_covers_everything_once_and_can_go_on_from_any_part():
    draw = random.Random(4)
    for _ in range(300):
        paths = [f"{n:02}" for n in range(draw.randrange(1, 30))]
        it = work(
            paths,
            [f"old{n}" for n in range(draw.randrange(4))],
            inline=[path for path in paths if draw.random() < 0.5],
            unchanged=[path for path in paths if draw.random() < 0.3],
        )
        limits = commit_parts.Limits(draw.randrange(1, 8), draw.choice([5, 20, 35]))
        parts = it.parts(0, limits)
        assert [*itertools.chain(*cut(it, limits.changes, limits.inline_bytes))] == [*itertools.chain(*cut(it))]
        assert all(len(part.changes) <= limits.changes for part in parts)
        assert all(part.inline_bytes <= max(limits.inline_bytes, 10) for part in parts)  # one file is 10
        for number, part in enumerate(parts):
            assert it.parts(part.until, limits) == parts[number + 1 :]
