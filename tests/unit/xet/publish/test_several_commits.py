"""Work that is too large for one commit: several commits, or a pull request where the branch must change only once."""

from __future__ import annotations

import logging
import re

import pytest

from airflow_provider_xethub.exceptions import XetConflictError, XetForbiddenError, XetNotFoundError
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.task_state import TaskState
from support.memory_hub import ENDPOINT, REPO, RefusedError, after, lost, publish, refused, says, usual

TEXT = b"x,y\n"
COMMIT, COMMITS = "POST /commit/main", "GET /commits/main"
FIVE = {f"{letter}.txt": letter.encode() for letter in "edcba"}
PROPOSED = "refs/pr/1"
URL = f"{ENDPOINT}/datasets/acme/corpus/discussions/1"


@pytest.fixture(autouse=True)
def by_two(monkeypatch):
    """Two changes in one commit."""
    monkeypatch.setattr(commit, "MAX_CHANGES", 2)


def parts(count, title="mine"):
    return [f"{title} (part {number} of {count})" for number in range(1, count + 1)]


def reaches(commits):
    """How far each commit goes, as its description says."""
    return [re.fullmatch(r"Xet-Commit-Key: [0-9a-f]{32}(?: \((.*)\))?", each["description"])[1] for each in commits]


# --- commits on the branch


def test_the_parts_follow_each_other_in_the_order_of_paths(hub, caplog):
    caplog.set_level(logging.INFO)
    result = publish(hub, FIVE)
    assert hub.routes() == [COMMIT] * 3
    assert hub.titles() == parts(3)
    made = result["commits"]
    assert [each["oid"] for each in made] == [each.oid for each in hub.branches["main"][-2::-1]]
    assert reaches(made) == ["2 of 5", "4 of 5", "5 of 5"]
    assert {key: result[key] for key in made[-1]} == made[-1]
    assert caplog.messages == [f"Part {at} of 3 is in {REPO}: {each['url']}" for at, each in enumerate(made, 1)]


@pytest.mark.parametrize("count", [3, 4])
def test_two_parts_say_so_too(hub, caplog, count):
    caplog.set_level(logging.INFO)
    publish(hub, dict(list(FIVE.items())[:count]))
    assert hub.titles() == parts(2)
    assert len(caplog.messages) == 2


def test_with_an_expected_parent_each_part_follows_the_one_before(hub):
    parent = hub.commit({"other.txt": TEXT})
    result = publish(hub, FIVE, parent_commit=parent)
    expected = [parent, *(each["oid"] for each in result["commits"][:-1])]
    assert [each.header["parentCommit"] for each in hub.posted()] == expected


def test_after_a_lost_response_the_next_parts_are_upon_any_parent(hub):
    hub.on(COMMIT, refused(500))
    publish(hub, FIVE)
    assert [each.header.get("parentCommit") for each in hub.posted()] == [None, f"{1:040x}", None, None]


@pytest.mark.parametrize("create_pr", [False, True])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_lost_response_makes_no_part_twice(hub, before, create_pr):
    hub.on("POST /commit/.*", *[usual] * before, lost())
    result = publish(hub, FIVE, create_pr=create_pr)
    assert len(hub.posted()) == len(result["commits"]) == 3
    assert hub.titles(PROPOSED if create_pr else "main") == parts(3)
    assert result["pull_request"] == (URL if create_pr else None)


def test_the_parts_of_a_pull_request_go_to_it(hub):
    result = publish(hub, FIVE, create_pr=True)
    assert hub.routes() == [COMMIT, *["POST /commit/refs%2Fpr%2F1"] * 2]
    assert {each["repo"] for each in result["commits"]} == {REPO.at(PROPOSED).uri}
    assert (result["pull_request"], result["pull_request_number"]) == (URL, 1)


@pytest.mark.parametrize("create_pr", [False, True])
@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("made", [1, 2])
def test_a_retry_goes_on_after_the_parts_that_are_there(hub, caplog, made, is_kept, create_pr):
    caplog.set_level(logging.INFO)
    store = type("Store", (dict,), {"set": dict.__setitem__})()
    options = {"idempotency_key": "k", "create_pr": create_pr, "task_state": TaskState(store if is_kept else None)}
    hub.on("POST /commit/.*", *[usual] * made, refused(403))
    revision = PROPOSED if create_pr else "main"
    with pytest.raises(XetForbiddenError) as caught:
        publish(hub, FIVE, **options)
    last = hub.branches[revision][0].oid
    assert str(caught.value).endswith(
        f" {made} of 3 parts are committed ({last} is the last); a retry of the task commits the rest."
    )
    caplog.clear()
    result = publish(hub, FIVE, **options)
    assert hub.titles(revision) == parts(3)
    assert reaches(result["commits"]) == ["2 of 5", "4 of 5", "5 of 5"]
    assert caplog.messages[0] == f"Found {made} commit{'s' * (made > 1)} of this work in {REPO.at(revision)}."
    assert publish(hub, FIVE, **options) == result, "a third attempt finds them all"


def test_a_retry_with_other_limits_goes_on_as_well(hub, monkeypatch):
    hub.on(COMMIT, usual, refused(403))
    with pytest.raises(XetForbiddenError):
        publish(hub, FIVE, idempotency_key="k")
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    result = publish(hub, FIVE, idempotency_key="k")
    assert hub.titles() == ["mine (part 1 of 3)", "mine (part 2 of 2)"]
    assert reaches(result["commits"]) == ["2 of 5", "5 of 5"]


def test_a_retry_says_that_nothing_more_was_committed(hub):
    hub.commit({"old.txt": TEXT})
    work = {"delete": ["old.txt"], "idempotency_key": "k"}
    hub.on(COMMIT, usual, refused(403))
    with pytest.raises(XetForbiddenError):
        publish(hub, FIVE, **work)
    hub.commit({"old.txt": None})
    with pytest.raises(XetNotFoundError, match=r"Check delete\. Nothing more was committed\."):
        publish(hub, FIVE, **work)


def test_paths_that_earlier_parts_deleted_are_not_missing(hub):
    old = {f"{number}.txt": TEXT for number in range(5)}
    hub.commit(old)
    hub.on(COMMIT, usual, refused(403))
    with pytest.raises(XetForbiddenError):
        publish(hub, delete=[*old], idempotency_key="k")
    publish(hub, delete=[*old], idempotency_key="k")
    assert hub.files() == set()


def test_a_commit_that_is_too_large_goes_on_in_halves(hub, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    hub.on(COMMIT, refused(413))
    publish(hub, FIVE)
    assert hub.titles() == parts(3)
    [message] = caplog.messages
    assert message.startswith(f"The Hub rejected a request for {REPO} (413). ")
    assert message.endswith("The Hub says: No. Continuing with parts of at most 2 changes.")


def test_a_whole_that_comes_while_its_halves_are_sent_ends_the_work(hub, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 2)
    late = []

    def slow(do):
        late.append(do)
        raise RefusedError(504)

    hub.on(COMMIT, slow, after(lambda: late[0]()))
    result = publish(hub, FIVE)
    assert (hub.titles(), [each["title"] for each in result["commits"]]) == (["mine"], ["mine"])
    assert len(hub.posted()) == 2


def test_others_between_two_parts_are_followed(hub):
    parent = hub.commit({"z.txt": TEXT})
    hub.on(COMMIT, usual, after(lambda: hub.commit({"theirs.txt": TEXT})))
    publish(hub, FIVE, parent_commit=parent)
    assert hub.titles() == ["theirs", "mine (part 1 of 3)", "theirs", "mine (part 2 of 3)", "mine (part 3 of 3)"]


def test_others_between_two_parts_are_not_overwritten(hub):
    parent = hub.commit({"z.txt": TEXT})
    hub.on(COMMIT, usual, after(lambda: hub.commit({"e.txt": TEXT})))
    with pytest.raises(XetConflictError) as caught:
        publish(hub, FIVE, parent_commit=parent)
    last = hub.branches["main"][1].oid
    assert str(caught.value).endswith(
        f"It is no longer at {last}. e.txt changed since. Nothing more was committed. 1 of 3 parts are committed "
        f"({last} is the last); a retry of the task commits the rest."
    )


# --- a branch that must change only once


@pytest.mark.parametrize("count", [3, 5])
def test_the_branch_changes_once(hub, caplog, count):
    caplog.set_level(logging.INFO)
    base = hub.commit({"old.txt": TEXT})
    files = dict(list(FIVE.items())[:count])
    result = publish(hub, files, delete=["old.txt"], atomic=True, parent_commit=base)
    assert hub.titles() == ["theirs", "mine (#1)"]
    assert hub.titles(PROPOSED) == ["theirs", "mine", *parts(count // 2 + 1)[1:]]
    assert all(re.search(r"Key: [0-9a-f]{32} \(\d of \d\)$", each.description) for each in hub.branches[PROPOSED][:-2])
    assert (hub.files(), hub.statuses, hub.comments) == (set(files), {1: "merged"}, {})
    assert f"All {count // 2 + 1} parts are in pull request {URL}." in caplog.messages
    head = hub.branches["main"][0]
    merge = {
        "oid": head.oid,
        "url": f"{ENDPOINT}/datasets/acme/corpus/commit/{head.oid}",
        "repo": REPO.uri,
        "title": "mine (#1)",
        "description": "",
    }
    assert [(file["path"], file["repo"]) for file in result.pop("files")] == [(path, REPO.uri) for path in files]
    assert result == {
        **merge,
        "deleted": ["old.txt"],
        "unchanged": [],
        "created": True,
        "pull_request": None,
        "pull_request_number": None,
        "commits": [merge],
    }


def test_what_fits_into_one_commit_needs_no_pull_request(hub):
    publish(hub, {"a.txt": TEXT, "b.txt": TEXT}, atomic=True)
    assert (hub.titles(), hub.statuses) == (["mine"], {})


def test_a_pull_request_itself_may_have_several_commits(hub):
    publish(hub, FIVE, atomic=True, create_pr=True)
    publish(hub, {f"x{path}": TEXT for path in FIVE}, atomic=True, repo=REPO.at(PROPOSED), message="more")
    assert hub.titles(PROPOSED) == [*parts(3), *parts(3, "more")]
    assert hub.statuses == {1: "open"}


def test_a_commit_that_is_too_large_goes_on_with_a_pull_request(hub, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    hub.on("POST /commit/.*", refused(413), refused(413))
    publish(hub, FIVE, atomic=True)
    assert hub.titles() == ["mine (#1)"]
    assert caplog.messages[0].endswith("The Hub says: No. Continuing with a pull request.")
    assert caplog.messages[1].endswith("The Hub says: No. Continuing with parts of at most 2 changes.")


def test_others_who_change_the_same_before_the_merge_close_the_pull_request(hub):
    base = hub.commit({"old.txt": TEXT})
    hub.on("GET /discussions/1", after(lambda: hub.commit({"a.txt": TEXT})))
    with pytest.raises(XetConflictError) as caught:
        publish(hub, FIVE, atomic=True, parent_commit=base)
    assert str(caught.value) == (
        f"{REPO} is no longer at {base}: someone else committed. a.txt changed since. Pull request 1 was closed "
        "without a merge. Read the new head and decide again, or leave out parent_commit."
    )
    assert caught.value.status == 409
    assert hub.comments == {1: "The branch has changed, so this is planned again."}
    assert (hub.statuses, hub.titles()) == ({1: "closed"}, ["theirs", "theirs"])


@pytest.mark.parametrize("with_parent", [False, True])
def test_others_who_change_something_else_before_the_merge_do_no_harm(hub, with_parent):
    base = hub.commit({"old.txt": TEXT})
    hub.on("GET /discussions/1", after(lambda: hub.commit({"old.txt": TEXT * 2})))
    publish(hub, FIVE, atomic=True, parent_commit=base if with_parent else None)
    assert hub.titles() == ["theirs", "theirs", "mine (#1)"]


def test_before_the_merge_it_is_only_compared_what_can_have_changed(hub):
    base = hub.commit({"old.txt": TEXT})
    publish(hub, FIVE, atomic=True, parent_commit=base)
    merge = ["GET /discussions/1", "POST /discussions/1/merge", "GET /discussions/1"]
    number = hub.branches["main"][0].oid
    assert hub.routes()[3:] == ["GET /discussions/1", COMMITS, COMMITS, *merge, f"GET /commits/{number}"]


def test_a_branch_that_lost_its_commits_has_no_changes_either(hub):
    hub.on(COMMITS, usual, says([]))
    publish(hub, FIVE, atomic=True, parent_commit=f"{1:040x}")
    assert hub.titles() == ["mine (#1)"]


def test_a_merge_with_conflicts_closes_the_pull_request(hub):
    hub.on("GET /discussions/1", after(lambda: hub.commit({"a.txt": TEXT})))
    with pytest.raises(XetConflictError, match="has conflicts"):
        publish(hub, FIVE, atomic=True)
    assert hub.comments == {1: "The branch has changed, so this is planned again."}
    assert (hub.statuses, hub.titles()) == ({1: "closed"}, ["theirs"])


def test_a_direct_commit_that_the_hub_makes_late_is_not_made_twice(hub, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 1)
    late = []

    def slow(do):
        late.append(do)
        raise RefusedError(504)

    hub.on(COMMIT, slow)
    hub.on("GET /discussions/1", after(lambda: late[0]()))
    result = publish(hub, FIVE, atomic=True, parent_commit=f"{1:040x}")
    assert (hub.titles(), result["oid"], result["pull_request"]) == (["mine"], hub.branches["main"][0].oid, None)
    assert hub.comments == {1: "The same changes were committed to the branch."}


def test_a_retry_after_a_merge_whose_response_was_lost_finds_it(hub, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    options = {"atomic": True, "idempotency_key": "k", "parent_commit": f"{1:040x}"}
    hub.on("POST /discussions/1/merge", lost(RefusedError(403)))
    hub.on("GET /discussions/1", usual, usual, refused(403))
    with pytest.raises(XetForbiddenError):
        publish(hub, FIVE, **options)
    merged = hub.branches["main"][0].oid
    hub.commit(dict.fromkeys(list(FIVE)[:3], TEXT))
    result = publish(hub, FIVE, **options)
    assert result["oid"] == merged
    assert hub.titles() == ["mine (#1)", "theirs"]
