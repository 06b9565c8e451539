"""One commit: which requests it takes, what it sends, and what is returned."""

from __future__ import annotations

import re

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError, XetNotFoundError, XetProtocolError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish.planned_files import MarkedPaths
from support.memory_hub import ENDPOINT, REPO, MemoryHub, publish, refused, says
from support.spans import recording

TEXT, BINARY = b"x,y\n", bytes(range(256))


def test_a_commit_is_one_request_and_is_returned_as_it_was_made(hub):
    hub.commit({"same.bin": BINARY, "same.txt": TEXT, "old.txt": TEXT, "d/e.txt": TEXT})
    files = {"b.bin": BINARY, "a.txt": TEXT, "same.txt": TEXT, "same.bin": BINARY}
    result = publish(hub, files, delete=["old.txt", "d/"], description="more")

    asked, sent = hub.sent
    assert (str(asked), asked.options["json"]["paths"]) == ("POST /paths-info/main", ["old.txt", "d"])
    assert str(sent) == "POST /commit/main"
    assert {name: value for name, value in sent.options.items() if name != "data"} == {
        "params": None,
        "headers": {"Content-Type": "application/x-ndjson"},
        "timeout": 90.0,
    }
    assert sent.header == {"summary": "mine", "description": result["description"]}
    assert re.fullmatch("more\n\nXet-Commit-Key: [0-9a-f]{32}", result["description"])
    assert [(line["key"], line["value"]["path"]) for line in sent.lines[1:]] == [
        ("file", "a.txt"),
        ("lfsFile", "b.bin"),
        ("deletedFile", "old.txt"),
        ("deletedFolder", "d/"),
    ]
    assert hub.files() == set(files)

    oid = hub.branches["main"][0].oid
    made = {
        "oid": oid,
        "url": f"{ENDPOINT}/datasets/acme/corpus/commit/{oid}",
        "repo": "hf://datasets/acme/corpus@main",
        "title": "mine",
        "description": result["description"],
    }
    assert [(file["path"], file["repo"]) for file in result.pop("files")] == [(path, REPO.uri) for path in files]
    assert result == {
        **made,
        "deleted": ["old.txt", "d/"],
        "unchanged": ["same.bin", "same.txt"],
        "created": True,
        "pull_request": None,
        "pull_request_number": None,
        "commits": [made],
    }


def test_a_commit_without_a_description_has_only_its_key(hub):
    assert re.fullmatch("Xet-Commit-Key: [0-9a-f]{32}", publish(hub, {"a.txt": TEXT})["description"])


def test_a_commit_goes_to_its_branch_and_upon_its_parent(hub):
    hub.branches["feature/x"] = list(hub.branches["main"])
    parent = hub.commit({"b.txt": TEXT}, revision="feature/x")
    result = publish(hub, {"a.txt": TEXT}, repo=REPO.at("feature/x"), parent_commit=parent)
    [sent] = hub.sent
    assert (str(sent), sent.header["parentCommit"]) == ("POST /commit/feature%2Fx", parent)
    assert result["repo"] == "hf://datasets/acme/corpus@feature%2Fx"


def test_a_pull_request_is_opened_with_its_commit(hub):
    result = publish(hub, {"a.txt": TEXT}, create_pr=True)
    [sent] = hub.sent
    assert (str(sent), sent.options["params"]) == ("POST /commit/main", {"create_pr": "1"})
    assert result["repo"] == "hf://datasets/acme/corpus@refs%2Fpr%2F1"
    assert (result["pull_request"], result["pull_request_number"]) == (f"{ENDPOINT}{REPO.web_path}/discussions/1", 1)
    assert hub.titles() == []


def test_a_longer_timeout_of_the_connection_counts():
    hub = MemoryHub(timeout=200.0)
    publish(hub, {"a.txt": TEXT})
    assert hub.sent[0].options["timeout"] == 200.0


def test_what_is_there_is_not_committed_and_the_head_is_returned(hub):
    head = hub.commit({"a.txt": TEXT, "b.bin": BINARY}, "theirs")
    result = publish(hub, {"b.bin": BINARY, "a.txt": TEXT})
    assert hub.routes() == ["GET /commits/main"]
    assert (result["oid"], result["title"], result["created"]) == (head, "theirs", False)
    assert (result["unchanged"], result["commits"], result["pull_request"]) == (["a.txt", "b.bin"], [], None)


def test_a_branch_without_commits_cannot_have_everything(hub):
    hub.commit({"a.txt": TEXT})
    hub.on("GET /commits/main", says([]))
    with pytest.raises(XetProtocolError, match=rf"^The Hub at {ENDPOINT} has no commit of {REPO}\.$"):
        publish(hub, {"a.txt": TEXT})


def test_of_many_files_what_is_unchanged_stays_on_disk(hub, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    hub.commit({"a.txt": TEXT, "b.bin": BINARY})
    result = publish(hub, {"c.txt": TEXT, "b.bin": BINARY, "a.txt": TEXT})
    assert isinstance(result["unchanged"], MarkedPaths)
    assert list(result["unchanged"]) == ["a.txt", "b.bin"]


def test_the_span_of_a_commit_counts_what_is_new_and_what_is_not(hub):
    hub.commit({"same.txt": TEXT})
    with recording() as spans:
        made = publish(hub, {"a.txt": TEXT, "b.txt": TEXT, "same.txt": TEXT})
        publish(hub, {"same.txt": TEXT})
    first, second = (span for span in spans if span.name == "xethub.commit")
    names = ("repository", "files", "skipped", "commit", "outcome")
    assert [first.attributes[f"xethub.{name}"] for name in names] == ["acme/corpus", 2, 1, made["oid"], "success"]
    assert [second.attributes[f"xethub.{name}"] for name in names] == ["acme/corpus", 0, 1, made["oid"], "unchanged"]


# --- what fails


def test_of_paths_to_delete_that_are_missing_the_error_says_which_are_folders(hub):
    hub.commit({"d/x.txt": TEXT, "e/x.txt": TEXT, "f.txt": TEXT})
    with pytest.raises(XetNotFoundError) as caught:
        publish(hub, {"a.txt": TEXT}, delete=["f.txt", "no/", "d", "e"])
    assert str(caught.value) == (
        f"Cannot delete no, d, e from {REPO}: not found. Check delete. Nothing was committed. d is a folder: write d/ "
        "to delete it. e is a folder: write e/ to delete it."
    )
    assert caught.value.status == 404
    assert hub.posted() == []


@pytest.mark.parametrize("search", [says([]), refused(403)], ids=["found nothing", "failed"])
def test_of_a_commit_whose_response_cannot_be_read_nobody_knows_whether_it_was_made(hub, search):
    hub.on("POST /commit/main", says([]))
    hub.on("GET /commits/main", search)
    with pytest.raises(XetProtocolError) as caught:
        publish(hub, {"a.txt": TEXT})
    assert "JSON that is not an object" in str(caught.value)
    assert str(caught.value).endswith(
        f" This was the answer to the commit to {REPO}. Whether the commit was made is unknown."
    )
    assert hub.routes() == ["POST /commit/main", "GET /commits/main"]


def test_a_commit_whose_response_cannot_be_read_is_found(hub):
    hub.on("POST /commit/main", lambda do: do() and {"commitOid": 5})
    result = publish(hub, {"a.txt": TEXT})
    assert (hub.titles(), result["oid"]) == (["mine"], hub.branches["main"][0].oid)


def test_a_refused_commit_is_sent_once(hub):
    hub.on("POST /commit/main", then=refused(403))
    with pytest.raises(XetForbiddenError) as caught:
        publish(hub, {"a.txt": TEXT})
    assert str(caught.value).endswith(f"The Hub answered 403 to the commit to {REPO}. The Hub says: No.")
    assert hub.routes() == ["POST /commit/main"]
