"""What the next attempt of a mirror finds where the response to its commit was lost, and what it does not believe."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError, XetProtocolError
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish import mirror as mirrors
from airflow_provider_xethub.xet.records import no_transfer
from support.memory_hub import ENDPOINT, REPO, publish, refused, says
from support.mirror_hub import MirrorHub

TEXT, BINARY = b"x,y\n", bytes(range(256))
BEFORE = {"same.txt": TEXT, "same.bin": BINARY, "changed.bin": BINARY, "old.txt": TEXT, "b.txt": TEXT}
AFTER = {"same.txt": TEXT, "same.bin": BINARY, "d/new.txt": TEXT * 2, "changed.bin": BINARY[::-1], "a.txt": TEXT}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(client, "FIRST_DELAY", 0.0)
    return MirrorHub(tmp_path)


def attempt(hub, contents=None, **options):
    """Mirror, as each attempt of a task does; the requests are those of the comparison."""
    work = hub.mirror(contents or AFTER, **{"idempotency_key": "k", "description": "more", **options})
    hub.sent.clear()
    return work.run()


def mark(uri=REPO.uri, folder="", key="k"):
    """The line that marks the commits of a mirror."""
    return f"Xet-Mirror-Key: {hashlib.sha256(json.dumps([uri, folder, key]).encode()).hexdigest()[:32]}"


def limits(hub):
    """How many commits were requested each time, and of which revision."""
    return [
        (each.path.rpartition("/")[2], each.options["params"]["limit"]) for each in hub.sent if "/commits/" in each.path
    ]


# --- the commit


@pytest.mark.parametrize(("description", "start"), [("more", "more\n\n"), ("", "")])
def test_a_commit_is_marked(hub, description, start):
    attempt(hub, description=description)
    [(_, request)] = hub.published
    assert request.description == f"{start}{mark()}"


def test_a_commit_without_a_key_is_not_marked(hub):
    attempt(hub, idempotency_key=None)
    assert hub.published[0][1].description == "more"


def test_a_commit_is_found_and_described(hub, caplog):
    caplog.set_level(logging.INFO)
    parent = hub.commit(BEFORE)
    made = attempt(hub)
    caplog.clear()
    found = attempt(hub)
    oid, described = made["oid"], {name: made[name] for name in ("oid", "url", "repo", "title", "description")}
    assert hub.routes() == [
        "GET /commits/main",
        f"GET /tree/{oid}",
        "GET /commits/main",
        f"GET /tree/{parent}",
        f"GET /tree/{oid}",
    ]
    assert caplog.messages == [
        f"An earlier attempt of this task has committed: {ENDPOINT}/datasets/acme/corpus/commit/{oid}"
    ]
    files = found.pop("files")
    assert [(file["path"], file["repo"], file["size"]) for file in files] == [
        ("a.txt", REPO.uri, 4),
        ("changed.bin", REPO.uri, 256),
        ("d/new.txt", REPO.uri, 8),
    ]
    assert files[1]["sha256"] == hashlib.sha256(BINARY[::-1]).hexdigest()
    assert found == {
        **described,
        "deleted": ["b.txt", "old.txt"],
        "unchanged": [],
        "created": True,
        "pull_request": None,
        "pull_request_number": None,
        "commits": [described],
        "transfer": no_transfer(),
        "plan": made["plan"],
    }
    assert (found["plan"]["oid"], found["plan"]["unchanged"]) == (parent, 2)


def test_the_search_is_limited(hub):
    attempt(hub)
    attempt(hub)
    assert limits(hub) == [("main", "1"), ("main", "51")]


def test_a_commit_is_found_below_those_of_others(hub):
    parent = hub.commit(BEFORE)
    made = attempt(hub, protect="theirs.txt")
    hub.commit({"theirs.txt": TEXT})
    found = attempt(hub, protect="theirs.txt")
    assert (found["oid"], found["plan"]["oid"]) == (made["oid"], parent)
    assert "theirs.txt" not in [file["path"] for file in found["files"]]


def test_several_commits_of_the_same_work_are_described_as_one(hub):
    parent = hub.add({"old.txt": TEXT}, "Xet-Commit-Key: ab0 (1 of 1)")
    hub.add({"a.txt": TEXT}, f"{mark()}\n\nXet-Commit-Key: ab1 (1 of 2)")
    last = hub.add({"b.txt": TEXT, "old.txt": None}, f"{mark()}\n\nXet-Commit-Key: ab1 (2 of 2)")
    found = attempt(hub, {"a.txt": TEXT, "b.txt": TEXT})
    assert (found["oid"], found["plan"]["oid"]) == (last, parent)
    assert (found["plan"]["added"], found["deleted"]) == (["a.txt", "b.txt"], ["old.txt"])


def test_a_commit_without_a_key_of_its_own_is_described_alone(hub):
    parent = hub.add({"a.txt": TEXT}, mark())
    last = hub.add({"b.txt": TEXT}, mark())
    found = attempt(hub, {"a.txt": TEXT, "b.txt": TEXT})
    assert (found["oid"], found["plan"]["oid"], found["plan"]["added"]) == (last, parent, ["b.txt"])


def test_of_a_folder_only_that_is_described(hub):
    hub.commit({"data/old.txt": TEXT, "elsewhere.txt": TEXT})
    hub.add({"data/a.txt": TEXT, "data/old.txt": None, "other.txt": TEXT}, mark(folder="data"))
    found = attempt(hub, {"data/a.txt": TEXT}, path_in_repo="data")
    assert ([file["path"] for file in found["files"]], found["deleted"]) == (["data/a.txt"], ["data/old.txt"])
    assert (found["plan"]["added"], found["plan"]["bytes"]) == (["data/a.txt"], 4)


# --- not found


@pytest.mark.parametrize("options", [{"idempotency_key": None}, {"is_first_try": True}], ids=["no key", "the first"])
def test_where_there_can_be_no_earlier_attempt_none_is_searched(hub, options):
    oid = attempt(hub)["oid"]
    assert not attempt(hub, **options)["created"]
    assert hub.routes() == ["GET /commits/main", f"GET /tree/{oid}", f"GET /commits/{oid}"]


@pytest.mark.parametrize(
    "line",
    [mark(key="other"), mark(folder="data"), mark(uri=REPO.at("other").uri), f" {mark()}", mark().lower()],
    ids=["another task", "another folder", "another branch", "quoted", "spelled in another way"],
)
def test_a_commit_with_another_mark_is_not_taken_for_its_own(hub, line):
    hub.add({"a.txt": TEXT}, line)
    assert not attempt(hub, {"a.txt": TEXT})["created"]


def test_a_commit_whose_parent_is_gone_is_not_described(hub):
    attempt(hub)
    del hub.branches["main"][1:]
    assert not attempt(hub)["created"]


# --- a pull request that was merged


def propose(hub, files, description, title="mine"):
    """Publish files in a pull request with such a description, and return its number."""
    publish(hub, files, create_pr=True, description=description, message=title)
    return len(hub.statuses)


def merge(hub, number):
    hub.request("POST", f"{REPO.api_path}/discussions/{number}/merge", about="a merge")


def test_a_merge_is_found_by_the_commits_of_its_pull_request(hub, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 2)
    parent = hub.commit(BEFORE)
    made = attempt(hub)
    assert hub.titles() == ["theirs", "mine (#1)"]
    found = attempt(hub)
    assert limits(hub) == [
        ("main", "1"),
        ("main", "51"),
        ("refs%2Fpr%2F1", "50"),
        (made["oid"], "1"),
    ]
    assert (found["oid"], found["created"], found["commits"][0]["title"]) == (made["oid"], True, "mine (#1)")
    assert (found["plan"], found["plan"]["oid"]) == (made["plan"], parent)


def test_the_commits_of_a_pull_request_may_be_below_its_merge(hub):
    """As git merges: what the branch had before is below them."""
    parent = hub.branches["main"][0].oid
    merge(hub, propose(hub, {"a.txt": TEXT}, mark()))
    made = hub.branches["refs/pr/1"][0]
    merged = hub.branches["main"][0]
    key = made.description.partition("\n\n")[2]
    hub.branches["main"].insert(1, replace(made, oid=f"{99:040x}", description=key))
    found = attempt(hub, {"a.txt": TEXT})
    assert (found["oid"], found["plan"]["oid"], found["plan"]["added"]) == (merged.oid, parent, ["a.txt"])


def test_where_pull_requests_are_wanted_those_that_were_merged_are_not_searched(hub):
    merge(hub, propose(hub, {"a.txt": TEXT}, mark()))
    assert not attempt(hub, {"a.txt": TEXT}, create_pr=True)["created"]
    assert "GET /refs" not in hub.routes()


def test_the_newest_pull_requests_are_searched(hub):
    for number in range(11):
        propose(hub, {f"{number}.txt": TEXT}, "")
    hub.commit({"a.txt": TEXT})
    assert not attempt(hub, {"a.txt": TEXT})["created"]
    asked = [each for each in hub.routes() if "/discussions/" in each]
    assert asked == [f"GET /discussions/{number}" for number in (11, 10, 9, 8, 7)]


@pytest.mark.parametrize("newer", ["open", "gone", "merged", "moved"])
def test_an_earlier_pull_request_is_found_below_those_of_others(hub, newer):
    mine = propose(hub, {"a.txt": TEXT}, mark())
    theirs = propose(hub, {"theirs.txt": TEXT}, "", "theirs")
    merge(hub, mine)
    made = hub.branches["main"][0].oid
    if newer == "gone":
        hub.on(f"GET /discussions/{theirs}", then=refused(404))
    if newer == "merged":
        merge(hub, theirs)
    if newer == "moved":
        merge(hub, theirs)
        hub.on(f"GET /commits/refs%2Fpr%2F{theirs}", then=refused(404))
    found = attempt(hub, {"a.txt": TEXT}, protect="theirs.txt")
    assert (found["created"], found["oid"]) == (True, made)


def test_a_pull_request_of_others_is_not_taken_for_its_own(hub):
    merge(hub, propose(hub, {"a.txt": TEXT}, "", "theirs"))
    assert not attempt(hub, {"a.txt": TEXT})["created"]


def test_a_pull_request_upon_its_own_commit_is_not_taken_for_it(hub, monkeypatch):
    monkeypatch.setattr(mirrors, "_COMMITS_TO_SEARCH", 2)
    hub.add({"a.txt": TEXT}, mark())
    theirs = propose(hub, {"theirs.txt": TEXT}, "", "theirs")
    for name in ("x.txt", "y.txt"):
        hub.commit({name: TEXT})
    merge(hub, theirs)
    options = {"protect": ["theirs.txt", "x.txt", "y.txt"]}
    assert not attempt(hub, {"a.txt": TEXT}, **options)["created"]


def test_a_merge_that_is_out_of_sight_is_not_described(hub, monkeypatch):
    monkeypatch.setattr(mirrors, "_COMMITS_TO_SEARCH", 1)
    merge(hub, propose(hub, {"a.txt": TEXT}, mark()))
    for name in ("x.txt", "y.txt"):
        hub.commit({name: TEXT})
    assert not attempt(hub, {"a.txt": TEXT}, protect=["x.txt", "y.txt"])["created"]


@pytest.mark.parametrize("refs", [{}, {"pullRequests": None}, {"pullRequests": []}])
def test_a_repository_may_have_no_pull_request(hub, refs):
    hub.commit(AFTER)
    hub.on("GET /refs", says(refs))
    assert not attempt(hub)["created"]


@pytest.mark.parametrize(
    ("refs", "kind"),
    [
        ([], "JSON that is not an object"),
        ({"pullRequests": [{}]}, "a pull request that is not a string"),
        ({"pullRequests": [{"ref": "main"}]}, "a pull request that has no number"),
    ],
)
def test_damaged_branches_are_an_error(hub, refs, kind):
    hub.commit(AFTER)
    hub.on("GET /refs", says(refs))
    with pytest.raises(XetProtocolError) as caught:
        attempt(hub)
    assert f" with {kind}." in str(caught.value)
    assert str(caught.value).endswith(f"This was the answer to the branches of {REPO}.")


def test_refused_branches_are_an_error(hub):
    hub.commit(AFTER)
    hub.on("GET /refs", refused(403))
    with pytest.raises(XetForbiddenError, match=f"the branches of {REPO}"):
        attempt(hub)
