"""Commits that fail or are overtaken: what is asked before the next attempt, and upon which commit it is made."""

from __future__ import annotations

import logging

import pytest
import requests

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetRateLimitError,
    XetResponseError,
    XetServerError,
)
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.publish import commit
from support.memory_hub import REPO, RefusedError, lost, publish, raises, refused, says

TEXT, BINARY = b"x,y\n", bytes(range(256))
COMMIT, COMMITS = "POST /commit/main", "GET /commits/main"
FOUR = {f"{letter}.txt": TEXT for letter in "abcd"}
FIRST = f"{1:040x}"


def parents(hub):
    """The parent that each commit was to have."""
    return [each.header.get("parentCommit") for each in hub.posted()]


# --- without an expected parent


@pytest.mark.parametrize("error", [None, requests.ConnectionError(), requests.ReadTimeout()])
def test_a_commit_whose_response_was_lost_is_found(hub, error):
    hub.on(COMMIT, lost(error))
    result = publish(hub, {"a.txt": TEXT})
    assert [each.options.get("params") for each in hub.sent] == [None, {"limit": "50"}]
    assert hub.routes() == [COMMIT, COMMITS]
    assert (hub.titles(), result["oid"]) == (["mine"], hub.branches["main"][0].oid)


def test_a_commit_without_effect_is_sent_again_upon_the_head(hub):
    hub.on(COMMIT, refused(500))
    publish(hub, {"a.txt": TEXT})
    assert parents(hub) == [None, FIRST]
    assert hub.routes() == [COMMIT, COMMITS, COMMITS, COMMIT]
    assert hub.titles() == ["mine"]


def test_a_commit_is_not_sent_again_before_a_search_has_succeeded_and_is_searched_only_once_then(hub, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 3)
    hub.on(COMMIT, refused(500), refused(429))
    hub.on(COMMITS, *[refused(500)] * 3)
    publish(hub, {"a.txt": TEXT})
    assert hub.routes() == [COMMIT, *[COMMITS] * 3, *[COMMITS] * 2, COMMIT, COMMIT]
    assert hub.titles() == ["mine"]


def test_a_commit_that_comes_late_is_found_once_a_search_succeeds(hub, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 2)
    hub.on(COMMIT, lost())
    hub.on(COMMITS, *[refused(500)] * 2)
    publish(hub, {"a.txt": TEXT})
    assert hub.routes() == [COMMIT, *[COMMITS] * 2, COMMITS]


def test_on_a_branch_without_commits_it_is_sent_again_as_it_was(hub):
    hub.on(COMMIT, refused(500))
    hub.on(COMMITS, then=says([]))
    publish(hub, {"a.txt": TEXT})
    assert parents(hub) == [None, None]


def test_a_hub_with_a_problem_gets_so_many_attempts(hub, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 2)
    hub.on(COMMIT, then=refused(500))
    with pytest.raises(XetServerError):
        publish(hub, {"a.txt": TEXT})
    assert parents(hub) == [None, FIRST]


def test_a_conflict_at_the_same_head_is_an_attempt_like_any_other(hub, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 2)
    hub.on(COMMIT, then=refused(412))
    with pytest.raises(XetConflictError, match=f"answered 412 to the commit to {REPO}"):
        publish(hub, {"a.txt": TEXT})
    assert parents(hub) == [None, FIRST, FIRST]


def test_others_who_always_commit_first_are_overtaken_at_once_only_so_often(hub, monkeypatch):
    monkeypatch.setattr(commit, "_MAX_OVERTAKES", 2)
    monkeypatch.setattr(client, "MAX_TRIES", 2)

    def overtaken(_):
        if len(hub.posted()) < 20:
            hub.commit({"theirs.txt": b"%d" % len(hub.posted())})
            raise RefusedError(412)
        return {"commitOid": "a" * 40}

    hub.on(COMMIT, then=overtaken)
    with pytest.raises(XetConflictError):
        publish(hub, {"a.txt": TEXT})
    assert parents(hub) == [None, *(f"{number:040x}" for number in range(2, 7))], "twice as many as one try"


# --- to a pull request


@pytest.mark.parametrize("status", [500, 409])
def test_a_pull_request_is_searched_among_the_newest_before_it_is_opened_again(hub, status):
    hub.on(COMMIT, refused(status))
    publish(hub, {"a.txt": TEXT}, create_pr=True)
    assert parents(hub) == [None, None]
    assert hub.routes() == [COMMIT, "GET /refs", COMMIT]
    assert hub.statuses == {1: "open"}


def test_a_pull_request_whose_response_was_lost_is_found(hub):
    hub.on(COMMIT, lost())
    result = publish(hub, {"a.txt": TEXT}, create_pr=True)
    assert hub.routes() == [COMMIT, "GET /refs", "GET /commits/refs%2Fpr%2F1"]
    assert (result["repo"], result["pull_request_number"]) == (REPO.at("refs/pr/1").uri, 1)
    assert result["pull_request"].endswith("/datasets/acme/corpus/discussions/1")


@pytest.mark.parametrize("listed", [[], {"pullRequests": None}, {}])
def test_a_list_of_branches_may_have_no_pull_requests(hub, listed):
    hub.on(COMMIT, refused(500))
    hub.on("GET /refs", says(listed))
    if isinstance(listed, dict):
        publish(hub, {"a.txt": TEXT}, create_pr=True)
    else:
        with pytest.raises(XetResponseError, match=rf"JSON that is not an object.* the branches of {REPO}\.$"):
            publish(hub, {"a.txt": TEXT}, create_pr=True)


def test_a_pull_request_that_cannot_be_searched_is_not_opened_again(hub):
    hub.on(COMMIT, refused(500))
    hub.on("GET /refs", refused(403))
    with pytest.raises(XetForbiddenError, match=rf"The Hub answered 403 to the branches of {REPO}\."):
        publish(hub, {"a.txt": TEXT}, create_pr=True)
    assert hub.routes() == [COMMIT, "GET /refs"]


# --- too large


@pytest.mark.parametrize(
    ("answer", "advised", "is_halved"),
    [
        (refused(413), 100, True),
        (refused(504), 3, True),
        (refused(504), 4, False),
        (raises(requests.ReadTimeout()), 3, True),
        (raises(requests.ConnectionError()), 3, False),
        (refused(500), 3, False),
        (refused(412), 3, False),
    ],
    ids=["size", "gateway timeout", "no more than advised", "timeout", "no connection", "server error", "conflict"],
)
def test_what_is_too_much_for_the_hub_is_halved(hub, monkeypatch, caplog, answer, advised, is_halved):
    monkeypatch.setattr(commit, "ADVISED_CHANGES", advised)
    hub.on(COMMIT, answer)
    publish(hub, FOUR)
    assert hub.titles() == (["mine (part 1 of 2)", "mine (part 2 of 2)"] if is_halved else ["mine"])
    said = [each for each in caplog.messages if each.endswith(" Continuing with parts of at most 2 changes.")]
    assert [str(REPO) in each for each in said] == [True] * is_halved


def test_one_change_that_is_too_large_is_an_error(hub):
    hub.on(COMMIT, refused(413))
    with pytest.raises(XetResponseError, match="answered 413"):
        publish(hub, {"a.txt": TEXT})
    assert hub.routes() == [COMMIT]


def test_two_changes_that_are_too_large_are_two_commits(hub):
    hub.on(COMMIT, refused(413))
    publish(hub, {"a.txt": TEXT, "b.txt": TEXT})
    assert hub.titles() == ["mine (part 1 of 2)", "mine (part 2 of 2)"]


def test_too_many_requests_are_not_searched(hub):
    hub.on(COMMIT, then=refused(429))
    with pytest.raises(XetRateLimitError):
        publish(hub, {"a.txt": TEXT})
    assert set(hub.routes()) == {COMMIT}


# --- with an expected parent


def test_a_commit_follows_a_head_that_changed_none_of_its_paths(hub, caplog):
    caplog.set_level(logging.INFO)
    parent = hub.commit({"a.txt": TEXT, "b.bin": BINARY, "n/x.txt": TEXT, "d/x.txt": TEXT})
    head = hub.commit({"other.txt": TEXT, "d2/x.txt": TEXT, "n/y.txt": TEXT})
    mine = {"a.txt": TEXT * 2, "b.bin": BINARY * 2, "n/m.txt": TEXT}
    publish(hub, mine, delete=["d/"], parent_commit=parent)
    assert parents(hub) == [parent, head]
    assert caplog.messages == [f"{REPO} is now at {head}, which changed none of these paths."]
    asked = [each.options["json"]["paths"] for each in hub.sent if "/paths-info/" in each.path]
    compared = [["a.txt", "b.bin", "n", "n/m.txt"], ["a.txt", "b.bin", "n/m.txt"]]
    assert asked == [["d"], *compared, *compared]
    differences = [
        route
        for oid in (parent, head)
        for route in (f"POST /paths-info/{oid}", f"GET /tree/{oid}/d", f"POST /paths-info/{oid}")
    ]
    assert hub.routes() == ["POST /paths-info/main", COMMIT, COMMITS, COMMITS, *differences, COMMIT]


def test_for_the_deletion_of_a_folder_only_that_is_compared(hub):
    parent = hub.commit({"d/x.txt": TEXT})
    head = hub.commit({"other.txt": TEXT})
    publish(hub, delete=["d/"], parent_commit=parent)
    assert hub.routes()[4:-1] == [f"GET /tree/{parent}/d", f"GET /tree/{head}/d"]
    assert hub.files() == {"other.txt"}


@pytest.mark.parametrize(
    ("theirs", "mine", "named"),
    [
        ({"a.txt": TEXT[::-1]}, {"a.txt": TEXT * 2}, "a.txt"),
        ({"b.bin": BINARY[::-1]}, {"b.bin": BINARY * 2}, "b.bin"),
        ({"a.txt": None}, {"a.txt": TEXT * 2}, "a.txt"),
        ({"n.txt": TEXT}, {"n.txt": TEXT * 2}, "n.txt"),
        ({"n.bin": BINARY, "a.txt": TEXT * 3}, {"a.txt": TEXT * 2, "n.bin": BINARY * 2}, "a.txt, n.bin"),
        ({"n/theirs.txt": TEXT}, {"n": BINARY}, "n/"),
        ({"n": BINARY}, {"n/m/mine.txt": TEXT}, "n"),
        ({"d/x.txt": TEXT * 2}, {"d/": None}, "d/x.txt"),
        ({"d/new.txt": TEXT}, {"d/": None}, "d/new.txt"),
        ({"d/x.txt": None}, {"d/": None}, "d/"),
        ({"a.txt": TEXT * 2}, {"a.txt": None}, "a.txt"),
        ({"a.txt": TEXT * 3}, {"a.txt": TEXT * 2, "d/": None}, "a.txt"),
    ],
)
def test_a_commit_that_would_undo_the_work_of_others_is_refused(hub, theirs, mine, named):
    parent = hub.commit({"a.txt": TEXT, "b.bin": BINARY, "d/x.txt": TEXT, "other.txt": TEXT})
    hub.branches["later"] = list(hub.branches["main"])
    hub.commit(theirs, revision="later")

    def overtaken(_):
        hub.branches["main"] = hub.branches["later"]
        raise RefusedError(412)

    hub.on(COMMIT, overtaken)
    files = {path: content for path, content in mine.items() if content is not None}
    with pytest.raises(XetConflictError) as caught:
        publish(hub, files, delete=[path for path in mine if path not in files], parent_commit=parent)
    assert str(caught.value) == (
        f"{REPO} has changed: someone else committed. Read its new head and decide again, or leave out parent_commit. "
        f"It is no longer at {parent}. {named} changed since. Nothing was committed."
    )
    assert caught.value.status == 412
    assert (hub.titles(), len(hub.posted())) == (["theirs", "theirs"], 1)


def test_a_parent_that_is_not_found_was_changed_in_all_paths(hub):
    with pytest.raises(XetConflictError, match=r"It is no longer at a{40}\. a\.txt, b\.txt changed since\."):
        publish(hub, {"b.txt": TEXT, "a.txt": TEXT}, parent_commit="a" * 40)


def test_of_a_branch_that_lost_its_commits_everything_has_changed(hub):
    hub.on(COMMIT, refused(412))
    hub.on(COMMITS, then=says([]))
    with pytest.raises(XetConflictError, match=rf"It is no longer at {FIRST}\. everything changed since\."):
        publish(hub, {"a.txt": TEXT}, parent_commit=FIRST)


def test_a_pull_request_upon_another_head_is_refused(hub):
    parent = hub.commit({"other.txt": TEXT})
    hub.commit({"other.txt": TEXT * 2})
    with pytest.raises(XetConflictError, match=rf"It is no longer at {parent}\. Nothing was committed\.$"):
        publish(hub, {"a.txt": TEXT}, parent_commit=parent, create_pr=True)
    assert hub.statuses == {}


def test_after_any_other_problem_the_parent_stays(hub):
    parent = hub.commit({"other.txt": TEXT})
    hub.on(COMMIT, refused(500))
    publish(hub, {"a.txt": TEXT}, parent_commit=parent)
    assert parents(hub) == [parent, parent]
    assert hub.routes() == [COMMIT, COMMITS, COMMIT]


def test_a_conflict_is_reported_also_if_the_first_search_for_the_commit_failed(hub, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 2)
    parent = hub.commit({"a.txt": TEXT})
    hub.commit({"a.txt": TEXT * 2})
    hub.on(COMMITS, *[refused(500)] * 2)
    with pytest.raises(XetConflictError, match=r"a\.txt changed since"):
        publish(hub, {"a.txt": TEXT * 3}, parent_commit=parent)
    assert len(hub.posted()) == 1
