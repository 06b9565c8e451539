"""Changes of a bucket: which requests they take, what is skipped, and what is said of those that fail."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import (
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
    XetResponseError,
)
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import bucket
from airflow_provider_xethub.xet.publish.bucket import Changes
from airflow_provider_xethub.xet.publish.planned_files import MarkedPaths
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import published_record
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record
from support.memory_bucket import BATCH, BUCKET, MemoryBucket
from support.memory_hub import ENDPOINT, lost, refused, says
from support.spans import recording

RETRY = {"idempotency_key": "k"}
"""An earlier attempt may have made some of the changes."""


@pytest.fixture
def hub(hub):
    return MemoryBucket()


@pytest.fixture
def two_at_a_time(monkeypatch):
    monkeypatch.setattr(bucket, "BATCH", 2)


def changes(hub, *, delete=(), origin=lambda _: None, paced=lambda requests: requests(), **options):
    return Changes(hub, CommitRequest(BUCKET, (), delete, **options), origin, paced)


def publish(hub, files=(), **options):
    made = changes(hub, **options)
    made.put(files)
    return made.complete()


def kinds(hub):
    """The changes of each request so far, without what is put."""
    return [[(change["type"], change["path"]) for change in batch] for batch in hub.batches()]


def added(*paths):
    return [("addFile", path) for path in paths]


def deleted(*paths):
    return [("deleteFile", path) for path in paths]


# --- files


def test_files_are_put_by_their_hashes_and_returned_as_they_are_there(hub, monkeypatch):
    monkeypatch.setattr(bucket, "time", SimpleNamespace(time=lambda: 1764500000.1239))
    files = [hub.uploaded("b.bin"), hub.uploaded("a.bin")]
    result = publish(hub, files, message="mine", description="more")
    asked, sent = hub.sent
    assert asked.options["json"]["paths"] == ["b.bin", "a.bin"]
    assert sent.options["headers"] == {"Content-Type": "application/x-ndjson"}
    assert sent.lines == [
        {"type": "addFile", "path": file["path"], "xetHash": file["xet_hash"], "mtime": 1764500000123} for file in files
    ]
    assert hub.routes() == ["POST /paths-info", "POST /batch"]
    assert hub.held == {file["path"]: file["xet_hash"] for file in files}
    assert result == {
        "oid": "",
        "url": f"{ENDPOINT}/buckets/acme/held",
        "repo": "hf://buckets/acme/held",
        "title": "mine",
        "description": "more",
        "files": [published_record(file, BUCKET.uri) for file in files],
        "deleted": [],
        "unchanged": [],
        "created": True,
        "pull_request": None,
        "pull_request_number": None,
        "commits": [],
    }


def test_what_is_there_already_is_not_put(hub):
    same = hub.hold("b", "a", "other", "short")
    files = [*same[:2], hub.uploaded("other", b"new"), {**same[3], "size": 1}, hub.uploaded("new", b"a")]
    result = publish(hub, files)
    assert kinds(hub) == [added("other", "short", "new")]
    assert result["unchanged"] == ["a", "b"]
    assert [file["path"] for file in result["files"]] == ["b", "a", "other", "short", "new"]
    assert result["created"] is True


def test_nothing_is_sent_where_all_files_are_there(hub):
    result = publish(hub, hub.hold("a"))
    assert (result["created"], result["unchanged"]) == (False, ["a"])
    assert hub.routes() == ["POST /paths-info"]


def test_of_many_files_what_is_unchanged_stays_on_disk(hub, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    result = publish(hub, [*hub.hold("b", "a"), hub.uploaded("c")])
    assert isinstance(result["unchanged"], MarkedPaths)
    assert list(result["unchanged"]) == ["a", "b"]


def test_changes_are_sent_as_soon_as_they_are_enough_for_a_request(hub, two_at_a_time):
    hub.hold("x", "y", "z")
    made = changes(hub, delete=["x", "y", "z"])
    made.put([hub.uploaded("a")])
    assert (kinds(hub), made.is_changed) == ([], False)
    made.put([hub.uploaded(path) for path in "bcde"])
    assert (kinds(hub), made.is_changed) == ([added("a", "b"), added("c", "d")], True)
    made.complete()
    assert kinds(hub)[2:] == [[*added("e"), *deleted("x")], deleted("y", "z")]


def test_a_full_request_does_not_wait_for_more(hub, two_at_a_time):
    made = changes(hub)
    made.put([hub.uploaded(path) for path in "ab"])
    assert kinds(hub) == [added("a", "b")]


def test_a_file_of_elsewhere_is_copied_from_there(hub):
    source = Repo("acme/corpus", "dataset")
    files = [hub.uploaded("a"), hub.uploaded("b")]
    publish(hub, files, origin=lambda path: source if path == "b" else None)
    [[own, other]] = hub.batches()
    assert (own["type"], other["type"]) == ("addFile", "copyFile")
    assert own.keys() == {"type", "path", "xetHash", "mtime"}
    assert other == {**own, **other, "sourceRepoType": "dataset", "sourceRepoId": "acme/corpus"}
    assert (other["path"], other["xetHash"]) == ("b", files[1]["xet_hash"])


def test_a_file_that_is_not_in_cas_is_refused_before_anything_is_sent(hub):
    files = [hub.uploaded("a"), record(BUCKET, "b.txt", b"x", xet_hash=None)]
    with pytest.raises(XetInputError) as caught:
        publish(hub, files)
    assert str(caught.value) == (
        f"b.txt has no Xet hash: it is stored inline, not in CAS. Upload it to {BUCKET} first."
    )
    assert hub.routes() == []


# --- deletions


def test_a_folder_is_deleted_with_all_that_is_in_it(hub):
    hub.hold("d/x", "d/e/y", "d.txt", "dd/x", "f", "g")
    result = publish(hub, delete=["f", "d/"])
    assert hub.routes() == ["POST /paths-info", "GET /tree/d%2F", "POST /batch"]
    assert set(hub.held) == {"d.txt", "dd/x", "g"}
    assert (result["deleted"], result["created"]) == (["f", "d/"], True)


@pytest.mark.parametrize("options", [{}, {**RETRY, "is_first_try": True}], ids=["without a key", "in the first try"])
def test_of_paths_to_delete_that_are_missing_nothing_is_changed(hub, options):
    hub.hold("f", "d/x")
    with pytest.raises(XetNotFoundError) as caught:
        publish(hub, [hub.uploaded("a")], delete=["no", "f", "d/", "g/", "d"], **options)
    assert str(caught.value) == f"Cannot delete d, g/, no from {BUCKET}: not found. Check delete. Nothing was changed."
    assert caught.value.status == 404
    assert set(hub.held) == {"f", "d/x"}


def test_what_is_missing_in_a_retry_was_deleted_by_an_earlier_attempt(hub, caplog):
    hub.hold("f", "d/x")
    with caplog.at_level(logging.INFO):
        result = publish(hub, delete=["no", "f", "g/", "d/"], **RETRY)
    assert kinds(hub) == [deleted("f", "d/x")]
    assert result["deleted"] == ["no", "f", "g/", "d/"]
    assert caplog.messages == [f"Not found in {BUCKET}, so deleted by an earlier attempt: g/, no."]


def test_what_is_to_be_deleted_is_looked_up_once(hub):
    hub.hold("f")
    made = changes(hub, delete=["f"])
    made.put([hub.uploaded("a")])
    made.put([hub.uploaded("b")])
    asked = [each.options["json"]["paths"] for each in hub.sent]
    assert asked == [["f"], ["a"], ["b"]]


def test_a_deletion_whose_response_was_lost_is_done(hub):
    hub.hold("f", "g")
    hub.on(BATCH, lost())
    assert publish(hub, delete=["f", "g"])["created"] is True
    assert hub.held == {}
    assert hub.routes() == ["POST /paths-info", "POST /batch", "POST /batch", "POST /paths-info"]


# --- what fails


def failed(hub, files=(), **options):
    with pytest.raises(XetResponseError) as caught:
        publish(hub, files, **options)
    assert caught.value.status == 422
    return str(caught.value)


def test_of_changes_that_fail_the_error_says_which_and_why(hub):
    hub.hold("d")
    files = [hub.uploaded("a"), record(BUCKET, "b", b"b"), record(BUCKET, "c", b"c")]
    assert failed(hub, files, delete=["d"]) == (
        f"2 of 4 changes in {BUCKET} failed: b (not in CAS); c (not in CAS). The others succeeded; a retry makes only "
        "the missing ones."
    )
    assert set(hub.held) == {"a"}


def test_of_a_single_change_that_fails_the_error_says_the_same(hub):
    assert failed(hub, [record(BUCKET, "b", b"b")]).startswith(f"1 of 1 changes in {BUCKET} failed: b (not in CAS). ")


def test_of_many_changes_that_fail_ten_are_named(hub):
    text = failed(hub, [record(BUCKET, f"{number:02}", b"b") for number in range(11)])
    assert text.startswith(f"11 of 11 changes in {BUCKET} failed: 00 (not in CAS); 01 (not in CAS); ")
    assert "09 (not in CAS) and 1 more. " in text


def test_a_file_that_is_still_there_was_not_deleted(hub):
    hub.hold("f", "g")
    hub.on(BATCH, says({"failed": [{"path": "f", "error": "locked"}]}))
    assert "1 of 2 changes in" in (text := failed(hub, delete=["f", "g"]))
    assert "failed: f (locked). " in text


def test_a_file_that_is_not_put_is_not_taken_as_deleted(hub):
    hub.hold("f")
    hub.on(BATCH, lost())
    assert "failed: b (not in CAS). " in failed(hub, [record(BUCKET, "b", b"b")], delete=["f"])


def test_why_a_change_fails_is_said_without_secrets():
    hub = MemoryBucket(hub_token="hf_secretsecret")
    hub.on(BATCH, says({"failed": [{"path": "a", "error": "hf_secretsecret has no quota"}]}))
    assert "hf_secret" not in (text := failed(hub, [hub.uploaded("a")]))
    assert "has no quota" in text


def test_a_request_that_is_rejected_as_a_whole_says_why_without_secrets():
    hub = MemoryBucket(hub_token="hf_secretsecret")
    hub.on(BATCH, refused(422, {"error": "Too deep for hf_secretsecret."}))
    assert failed(hub, [hub.uploaded("a")]) == (
        f"The Hub rejected a request for {BUCKET} (422). Correct what it says below, or report it. The Hub says: Too "
        "deep for ***."
    )


def test_where_the_hub_says_which_changes_fail_another_error_does_not_matter(hub):
    hub.on(BATCH, refused(422, {"error": "No.", "failed": [{"path": "a", "error": "too deep"}]}))
    assert "failed: a (too deep). " in failed(hub, [hub.uploaded("a")])


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ([], "JSON that is not an object"),
        ({}, "'failed' that is not a list"),
        ({"failed": [{"path": 5, "error": "x"}]}, "a path that is not a string"),
    ],
)
def test_a_damaged_answer_names_the_request(hub, answer, wrong):
    hub.on(BATCH, then=says(answer))
    with pytest.raises(XetProtocolError) as caught:
        publish(hub, [hub.uploaded("a"), hub.uploaded("b")])
    assert f" {wrong}" in str(caught.value)
    assert f"the change of 2 files in {BUCKET}" in str(caught.value)


def test_a_refusal_names_the_request(hub):
    hub.on(BATCH, refused(403))
    with pytest.raises(XetForbiddenError) as caught:
        publish(hub, [hub.uploaded("a")])
    assert f"The Hub answered 403 to the change of 1 file in {BUCKET}. " in str(caught.value)


# --- the limits of the Hub, and spans


def test_all_requests_wait_for_the_rate_limit_of_the_hub(hub):
    hub.hold("f", "d/x")
    sent = []

    def paced(requests):
        hub.routes()
        found = requests()
        sent.append(hub.routes())
        return found

    publish(hub, [hub.uploaded("a")], delete=["f", "d/"], paced=paced)
    assert sent == [["POST /paths-info", "GET /tree/d%2F"], ["POST /paths-info"], ["POST /batch"]]


def test_the_span_of_a_request_counts_its_changes(hub, two_at_a_time):
    with recording() as spans:
        publish(hub, [hub.uploaded(path) for path in "abc"])
    made = [span for span in spans if span.name == "xethub.commit"]
    assert [(span.attributes["xethub.repository"], span.attributes["xethub.files"]) for span in made] == [
        ("acme/held", 2),
        ("acme/held", 1),
    ]
