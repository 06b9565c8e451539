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
    assert (extra["complete"], extra["path"]) == (False, "")
    assert len(json.dumps(extra)) < 40_000


def test_long_paths_do_not_make_an_event_long():
    extra = event_extra(
        result([f"{n}/" + "é" * 2000 for n in range(100)], deleted=["ü" * 1500 + f"{n}" for n in range(99)])
    )
    assert 0 < len(extra["files"]) < 100
    assert sum(len(file["path"].encode()) for file in extra["files"]) <= MAX_PATH_BYTES
    assert sum(len(path.encode()) for path in extra["deleted"]) <= MAX_PATH_BYTES
    assert (extra["file_count"], extra["deleted_count"], extra["complete"]) == (100, 99, False)


def test_an_event_says_what_changed_and_no_more():
    extra = event_extra(result(["a", "b/c"], unchanged=["a"]))
    assert paths(extra) == ["b/c"]
    inside = event_extra(result(["b/c", "bc"], deleted=["b/", "b/x/", "b/y/z", "other"]), "b/x")
    assert (paths(inside), inside["deleted"]) == ([], ["b/", "b/x/"])
    assert asset_events.event_extra(result(["b/c"]), "b")["file_count"] == 1


@pytest.mark.parametrize(
    ("paths", "deleted", "asset", "folder"),
    [
        (["d/a", "d/b"], [], "", "d"),
        (["d/a", "d/e/b"], [], "", "d"),
        (["d/a", "de/b"], [], "", ""),
        (["d/a"], ["d/e/"], "", "d"),
        ([], ["d/e/"], "", "d/e"),
        (["d/a"], ["x"], "", ""),
        (["d/e/a", "d/e/b", "x"], [], "d", "d/e"),
        (["d/a"], [], "d/a", "d/a"),
        ([], ["d/"], "d/e", "d/e"),
        ([], [], "d", "d"),
    ],
)
def test_an_event_names_the_folder_of_its_changes(paths, deleted, asset, folder):
    assert event_extra(result(paths, deleted=deleted), asset)["path"] == folder


def test_an_event_lists_the_commits_of_a_large_publication_unless_there_are_thousands():
    one = result(["a"])
    for count, listed in ((1, 1), (1000, 1000), (1001, 0)):
        one["commits"] = [{"oid": OID}] * count
        assert len(event_extra(one)["commits"]) == listed


def test_the_record_of_an_inline_file_is_that_of_a_listing():
    """It may have been uploaded to CAS before the commit, but the repository does not refer to that upload."""
    one = result(["a.csv", "b.bin"])
    one["files"][0] |= {
        "xet_hash": "1" * 64,
        "sha256": "2" * 64,
        "blob_id": "3" * 40,
        "sample": "YQ==",
        "storage_uri": "s3",
    }
    one["files"][1] |= {"xet_hash": "1" * 64, "sha256": "2" * 64}
    inline, in_cas = event_extra(one)["files"]
    assert (inline["xet_hash"], inline["blob_id"], in_cas["xet_hash"]) == (None, "3" * 40, "1" * 64)
    assert inline["repo"] == in_cas["repo"] == f"hf://datasets/acme/corpus@{OID}"
    assert not {"sample", "storage_uri"} & inline.keys()
