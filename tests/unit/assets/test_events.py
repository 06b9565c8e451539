"""What the event of an asset contains, and that it stays small."""

from __future__ import annotations

import json

import pytest

from airflow_provider_xethub.assets import events as asset_events
from airflow_provider_xethub.assets.events import MAX_DELETED, MAX_FILES, MAX_PATH_BYTES, event_extra
from airflow_provider_xethub.xet.repo import Repo

pytestmark = pytest.mark.airflow

OID = "0123456789abcdef0123456789abcdef01234567"


def paths(extra):
    return [file["path"] for file in extra["files"]]


def result(paths, *, deleted=(), unchanged=()):
    repo = Repo("acme/corpus", "dataset").uri
    files = [{"path": path, "size": 7, "sha256": None, "xet_hash": None, "repo": repo} for path in paths]
    return {
        "oid": OID, "url": "https://hub.example/x", "repo": repo, "title": "", "description": "", "files": files,
        "deleted": list(deleted), "unchanged": list(unchanged), "created": True, "pull_request": None, "commits": [],
    }  # fmt: skip


def test_an_event_of_a_large_commit_lists_some_files_and_counts_all():
    extra = event_extra(result([f"{n:05}.bin" for n in range(10_000)], deleted=[f"x{n}" for n in range(5000)]))
    assert (len(extra["files"]), extra["file_count"], extra["bytes"]) == (MAX_FILES, 10_000, 70_000)
    assert (len(extra["deleted"]), extra["deleted_count"]) == (MAX_DELETED, 5000)
    assert len(json.dumps(extra)) < 40_000


def test_long_paths_do_not_make_an_event_long():
    extra = event_extra(
        result([f"{n}/" + "é" * 2000 for n in range(100)], deleted=["ü" * 1500 + f"{n}" for n in range(99)])
    )
    assert 0 < len(extra["files"]) < 100
    assert sum(len(file["path"].encode()) for file in extra["files"]) <= MAX_PATH_BYTES
    assert sum(len(path.encode()) for path in extra["deleted"]) <= MAX_PATH_BYTES
    assert (extra["file_count"], extra["deleted_count"]) == (100, 99)


def test_an_event_says_what_changed_and_no_more():
    extra = event_extra(result(["a", "b/c"], unchanged=["a"]))
    assert paths(extra) == ["b/c"]
    inside = event_extra(result(["b/c", "bc"], deleted=["b/", "b/x/", "b/y/z", "other"]), "b/x")
    assert (paths(inside), inside["deleted"]) == ([], ["b/", "b/x/"])
    assert asset_events.event_extra(result(["b/c"]), "b")["file_count"] == 1
