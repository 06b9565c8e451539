"""Mirrors to a bucket: what is put, and what is deleted last; with a Hub: tests/provider/hooks/test_mirror.py."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.records import no_transfer
from support.memory_hub import ENDPOINT
from support.mirror_hub import BUCKET, SENT, MirrorHub

TEXT, BINARY = b"x,y\n", bytes(range(256))
BEFORE = {"same.bin": BINARY, "changed.bin": BINARY, "old.txt": TEXT}
AFTER = {"same.bin": BINARY, "changed.bin": BINARY[::-1], "d/new.txt": TEXT * 2}
TREE, INFO = f"GET {BUCKET.api_path}/tree", f"POST {BUCKET.api_path}/paths-info"
HERE = {
    "oid": "",
    "url": f"{ENDPOINT}/buckets/acme/store",
    "repo": BUCKET.uri,
    "title": "mine",
    "description": "more",
    "pull_request": None,
    "pull_request_number": None,
    "commits": [],
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(client, "FIRST_DELAY", 0.0)
    made = MirrorHub(tmp_path)
    made.bucket = dict(BEFORE)
    return made


def mirror(hub, contents=None, **options):
    return hub.mirror(AFTER if contents is None else contents, repo=BUCKET, description="more", **options)


def planned(**changes):
    """The plan of a mirror from BEFORE to AFTER."""
    return {
        "repo": BUCKET.uri,
        "oid": "",
        "added": ["d/new.txt"],
        "changed": ["changed.bin"],
        "removed": ["old.txt"],
        "kept": [],
        "unchanged": 1,
        "bytes": 264,
        **changes,
    }


def names(result):
    return [file["path"] for file in result["files"]]


def test_what_is_new_is_put_before_what_is_old_is_deleted(hub):
    result = mirror(hub).run()
    assert hub.paths() == [(["changed.bin", "d/new.txt"], []), ([], ["old.txt"])]
    assert hub.routes() == [TREE, INFO]
    assert hub.bucket == AFTER
    assert names(result) == ["changed.bin", "d/new.txt"]
    assert {**result, "files": []} == {
        **HERE,
        "files": [],
        "deleted": ["old.txt"],
        "unchanged": [],
        "created": True,
        "transfer": SENT,
        "plan": planned(),
    }


def test_a_plan_changes_nothing(hub):
    assert mirror(hub).plan() == planned()
    assert (hub.bucket, hub.published) == (BEFORE, [])


def test_an_equal_bucket_is_left_alone(hub):
    hub.bucket = dict(AFTER)
    assert mirror(hub).run() == {
        **HERE,
        "files": [],
        "deleted": [],
        "unchanged": [],
        "created": False,
        "transfer": no_transfer(),
        "plan": planned(added=[], changed=[], removed=[], unchanged=3, bytes=0),
    }
    assert (hub.routes(), hub.published) == ([TREE], [])


@pytest.mark.parametrize("changed", [{"d/new.txt": TEXT * 2}, {"changed.bin": BINARY[::-1]}], ids=["new", "changed"])
def test_where_nothing_is_to_be_deleted_nothing_is_asked_again(hub, changed):
    result = mirror(hub, {**BEFORE, **changed}).run()
    assert hub.paths() == [(list(changed), [])]
    assert hub.routes() == [TREE]
    assert (result["created"], result["deleted"], names(result)) == (True, [], list(changed))


def test_where_files_are_only_deleted_nothing_is_put(hub):
    result = mirror(hub, {"same.bin": BINARY, "changed.bin": BINARY}).run()
    assert hub.paths() == [([], ["old.txt"])]
    assert (result["created"], result["deleted"], result["transfer"]) == (True, ["old.txt"], no_transfer())


@pytest.mark.parametrize(("created", "old"), [(True, b""), (False, b""), (False, TEXT)])
def test_the_result_says_whether_anything_was_changed(hub, created, old):
    """What was put can be there by now, and what was to be deleted can be gone."""
    put = hub.publish

    def publish(files, request):
        done = put(files, request)
        if not old:
            hub.bucket.pop("old.txt", None)
        return {**done, "created": created} if files else done

    hub.publish = publish
    result = mirror(hub).run()
    assert result["created"] is (created or bool(old))
    assert result["deleted"] == (["old.txt"] if old else [])


# --- a retry


def test_a_retry_reports_what_an_earlier_attempt_may_have_put(hub):
    hub.bucket |= {"d/new.txt": TEXT * 2}
    result = mirror(hub, idempotency_key="k").run()
    assert (names(result), result["unchanged"]) == (["changed.bin", "d/new.txt", "same.bin"], ["d/new.txt", "same.bin"])
    assert {file["repo"] for file in result["files"]} == {BUCKET.uri}


def test_a_retry_with_nothing_left_to_do_reports_all_files(hub):
    hub.bucket = dict(AFTER)
    result = mirror(hub, idempotency_key="k").run()
    assert (names(result), result["unchanged"]) == (sorted(AFTER), sorted(AFTER))
    assert not result["created"]


@pytest.mark.parametrize("options", [{}, {"idempotency_key": "k", "is_first_try": True}, {"is_first_try": True}])
def test_another_attempt_reports_only_what_it_put(hub, options):
    result = mirror(hub, **options).run()
    assert (names(result), result["unchanged"]) == (["changed.bin", "d/new.txt"], [])


# --- together with others


def test_what_others_changed_since_it_was_listed_is_kept(hub, caplog):
    olds = [f"old-{number:02}.txt" for number in range(12)]
    hub.bucket |= dict.fromkeys([*olds, "keep.txt", "gone.txt"], TEXT)
    put = hub.publish

    def publish(files, request):
        done = put(files, request)
        if files:
            hub.bucket |= dict.fromkeys(olds, b"theirs")
            del hub.bucket["gone.txt"]
        return done

    hub.publish = publish
    result = mirror(hub, protect="keep.txt", max_delete_share=1).run()
    assert result["deleted"] == result["plan"]["removed"] == ["old.txt"]
    assert result["plan"]["kept"] == ["keep.txt", *olds]
    assert set(hub.bucket) == {*AFTER, "keep.txt", *olds}
    assert caplog.messages == [
        f"Kept in {BUCKET}, because others changed them since they were listed: {', '.join(olds[:10])} and 2 more"
    ]


# --- what a bucket has, and has not


def test_a_bucket_has_no_gitignore(hub):
    result = mirror(hub, {**BEFORE, ".gitignore": b"*.log", "a.log": TEXT}).run()
    assert names(result) == [".gitignore", "a.log"]
    assert hub.routes() == [TREE]


def test_a_name_can_be_a_file_and_a_folder(hub):
    source = {"same.bin": BINARY, "changed.bin": BINARY, "old.txt/a.txt": TEXT}
    mirror(hub, source, protect="old.txt").run()
    assert hub.paths() == [(["old.txt/a.txt"], [])]


def test_only_the_folder_is_touched(hub):
    hub.bucket |= {"data/a.txt": TEXT, "data/old.txt": TEXT}
    mirror(hub, {"data/a.txt": TEXT, "data/b.txt": TEXT}, path_in_repo="data").run()
    assert hub.paths() == [(["data/b.txt"], []), ([], ["data/old.txt"])]


def test_an_empty_source_or_too_many_deletions_are_refused(hub):
    with pytest.raises(XetEmptySourceError, match=rf"would remove everything from {BUCKET}\."):
        mirror(hub, {}).run()
    with pytest.raises(XetInputError, match=rf"would remove 2 of 3 files of {BUCKET} "):
        mirror(hub, {"same.bin": BINARY}).run()
    assert hub.bucket == BEFORE
