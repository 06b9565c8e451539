"""Work that is too large for one commit, where the branch must change only once: a pull request, merged at the end."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_xethub.exceptions import XetConflictError, XetForbiddenError, XetHubError
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.publish import commit
from support.commit_builders import client, name_of, publish, titles, tree
from xethub_local.control.fault import Fault

TEXT = b"x,y\n1,2\n"
COMMIT, MERGE, DETAILS = "POST .*/commit/.*", "POST .*/merge", "GET .*/discussions/1"
AT_ONCE = {"Retry-After": "0"}
FIVE = {f"{letter}.txt": letter.encode() for letter in "edcba"}


@pytest.fixture(autouse=True)
def by_two(monkeypatch):
    """Two changes in one commit."""
    monkeypatch.setattr(commit, "MAX_CHANGES", 2)


@pytest.fixture
def base(hub, repo):
    """The commit that the work follows."""
    return publish(hub, repo, {"old.txt": TEXT}, message="base")["oid"]


def status(hub, repo, number=1):
    return hub.commits.discussions.get(name_of(repo), number).status


def meddled(hub, repo):
    """A client beside which others commit to the same path before it merges."""

    class Meddled(type(client(hub))):
        done = False

        def json(self, method, path, **options):
            if path.endswith("/discussions/1") and not self.done:
                self.done = True
                publish(hub, repo, {"a.txt": TEXT * 2}, message="theirs")
            return super().json(method, path, **options)

    return Meddled(hub.url, hub.token())


def test_the_branch_changes_once(hub, repo, base, caplog):
    caplog.set_level(logging.INFO)
    result = publish(hub, repo, FIVE, delete=["old.txt"], message="all", atomic=True, parent_commit=base)
    assert titles(hub, repo) == ["all (#1)", "base"]
    assert tree(hub, repo) == set(FIVE)
    [head] = client(hub).latest_commits(repo)
    assert (result["oid"], result["repo"], result["commits"]) == (head["oid"], repo.uri, [head])
    assert (result["created"], result["pull_request"], result["pull_request_number"]) == (True, None, None)
    assert status(hub, repo) == "merged"
    assert f"All 3 parts are in pull request {hub.url}{repo.web_path}/discussions/1." in caplog.messages
    assert {file["repo"] for file in result["files"]} == {repo.uri}


def test_what_fits_into_one_commit_needs_no_pull_request(hub, repo, base):
    publish(hub, repo, {"a.txt": TEXT, "b.txt": TEXT}, message="two", atomic=True, parent_commit=base)
    assert titles(hub, repo) == ["two", "base"]
    assert hub.commits.discussions.find_all(name_of(repo)) == []


def test_a_commit_that_the_hub_rejects_as_too_large_goes_to_a_pull_request(hub, repo, base, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    hub.faults.add(Fault(COMMIT, times=1, status=413))
    hub.faults.add(Fault(COMMIT, times=1, skip=1, status=413))
    publish(hub, repo, FIVE, message="all", atomic=True, parent_commit=base)
    assert len(titles(hub, repo)) == 2
    assert tree(hub, repo) == {*FIVE, "old.txt"}


def test_on_a_pull_request_the_parts_are_commits(hub, repo, base):
    publish(hub, repo, {"first.txt": TEXT}, message="proposal", create_pr=True)
    proposed = repo.at("refs/pr/1")
    publish(hub, proposed, FIVE, message="m", atomic=True)
    assert len(titles(hub, repo, proposed.revision)) == 5
    assert status(hub, repo) == "open"


@pytest.mark.parametrize("lost", [{"lose_answer": True}, {"lose_answer": True, "drop": True}], ids=["500", "dropped"])
def test_a_lost_answer_to_the_merge_merges_once(hub, repo, base, lost):
    hub.faults.add(Fault(MERGE, times=1, **lost, **({} if "drop" in lost else {"headers": AT_ONCE})))
    result = publish(hub, repo, FIVE, message="all", atomic=True, parent_commit=base)
    assert result["oid"] == client(hub).latest_commits(repo)[0]["oid"]
    assert len(titles(hub, repo)) == 2
    assert len(hub.log.requests(MERGE)) == 1


@pytest.mark.parametrize("route", [COMMIT, MERGE, DETAILS])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_retry_after_a_failure_at_any_request_completes_the_work_once(hub, repo, base, monkeypatch, route, skip):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    options = {"message": "all", "atomic": True, "parent_commit": base, "idempotency_key": "dag/run/task"}
    down = hub.faults.add(Fault(route, skip=skip, status=500))
    failed = False
    try:
        publish(hub, repo, FIVE, **options)
    except XetHubError:
        failed = True
        # Only a merge can be complete while its answer is missing.
        assert tree(hub, repo) in ({"old.txt"}, {*FIVE, "old.txt"})
    hub.faults.remove(down)
    if failed:
        publish(hub, repo, FIVE, **options)
    assert tree(hub, repo) == {*FIVE, "old.txt"}
    assert len(titles(hub, repo)) == 2
    assert len(hub.commits.discussions.find_all(name_of(repo))) == 1


def test_a_commit_to_the_same_paths_before_the_merge_closes_the_pull_request(hub, repo, base):
    with pytest.raises(XetConflictError, match=r"a.txt changed since. Pull request 1 was closed without a merge"):
        publish(hub, repo, FIVE, message="all", atomic=True, parent_commit=base, by=meddled(hub, repo))
    assert titles(hub, repo) == ["theirs", "base"]
    assert status(hub, repo) == "closed"


def test_a_retry_after_a_merge_whose_answer_was_lost_does_not_undo_what_came_since(hub, repo, base, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    options = {"message": "all", "atomic": True, "parent_commit": base, "idempotency_key": "dag/run/task"}
    hub.faults.add(Fault(MERGE, times=1, lose_answer=True, status=500))
    down = hub.faults.add(Fault(DETAILS, skip=2, status=500))
    with pytest.raises(XetHubError):
        publish(hub, repo, FIVE, **options)
    hub.faults.remove(down)
    [merged, _] = client(hub).latest_commits(repo, 9)[:2]
    theirs = dict.fromkeys(list(FIVE)[:3], b"theirs\n")
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    publish(hub, repo, theirs, message="theirs")
    monkeypatch.setattr(commit, "MAX_CHANGES", 2)
    result = publish(hub, repo, FIVE, **options)
    assert (result["oid"], result["created"]) == (merged["oid"], True)
    assert titles(hub, repo) == ["theirs", "all (#1)", "base"]


def test_a_merge_with_conflicts_closes_the_pull_request(hub, repo, base):
    with pytest.raises(XetConflictError, match="has conflicts"):
        publish(hub, repo, FIVE, message="all", atomic=True, by=meddled(hub, repo))
    assert titles(hub, repo) == ["theirs", "base"]
    assert status(hub, repo) == "closed"


def test_a_direct_commit_that_the_hub_makes_late_is_not_made_twice(hub, repo, base, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 100)
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 1)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    late = []

    class Slow(type(client(hub))):
        def json(self, method, path, **options):
            if "/commit/" in path and not late:
                late.append((method, path, options))
                hub.faults.add(Fault(COMMIT, times=1, status=504, headers=AT_ONCE))
            elif path.endswith("/discussions/1") and len(late) == 1:
                method, path, options = late[0]
                late.append(super().json(method, path, **options))
                path, options, method = f"{repo.api_path}/discussions/1", {"about": "it"}, "GET"
            return super().json(method, path, **options)

    result = publish(hub, repo, FIVE, message="all", atomic=True, parent_commit=base, by=Slow(hub.url, hub.token()))
    assert titles(hub, repo) == ["all", "base"]
    assert result["oid"] == late[1]["commitOid"]
    assert status(hub, repo) == "closed"


def test_an_error_of_the_merge_leaves_the_branch_as_it_was(hub, repo, base):
    hub.faults.add(Fault(MERGE, status=403))
    with pytest.raises(XetForbiddenError, match="the merge of pull request 1"):
        publish(hub, repo, FIVE, message="all", atomic=True, parent_commit=base)
    assert tree(hub, repo) == {"old.txt"}
