"""Commits to the local Hub. What is sent, byte for byte: test_commit_contract.py."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace

import pytest

from airflow_provider_xethub.exceptions import (
    XetCommitQuotaError,
    XetConflictError,
    XetNotFoundError,
    XetRateLimitError,
    XetServerError,
)
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import client, in_cas, name_of, publish, record, titles, tree
from support.small_server import Answer, Asked, SmallServer
from xethub_local.control.faults import Fault

BINARY, TEXT = bytes(range(256)) * 8, b"x,y\n1,2\n"
AT_ONCE = {"Retry-After": "0"}
COMMIT = "POST .*/commit/.*"
ANYWHERE = Repo("acme/corpus", "dataset")
FILE = record(ANYWHERE, "a.bin", BINARY)
THROUGH_CAS = {"a.bin": UploadMode(False, None, False)}


# --- one commit


def test_inline_and_xet_files_are_published_in_one_commit(hub, repo):
    result = publish(hub, repo, {"d/data.bin": BINARY, "table.csv": TEXT, "empty": b""}, message="first")
    assert titles(hub, repo) == ["first"]
    assert tree(hub, repo) == {"d/data.bin", "table.csv", "empty"}
    (head,) = client(hub).latest_commits(repo)
    assert {key: result[key] for key in head} == head
    assert (result["created"], result["unchanged"], result["deleted"]) == (True, [], [])
    assert result["pull_request"] is None
    listed = {file["path"]: file for file in client(hub).list_files(repo)}
    for file in result["files"]:
        known = listed[file["path"]]
        for key in ("size", "repo") if file["path"] != "d/data.bin" else ("size", "repo", "sha256"):
            assert file[key] == known[key]
        assert file.get("blob_id") == known.get("blob_id")
        assert "sample" not in file
    assert client(hub).read_inline(repo, "table.csv") == TEXT


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_every_type_of_repository_can_be_committed_to(hub, make_repo, repo_type):
    repo = make_repo(repo_type)
    assert publish(hub, repo, {"a.bin": BINARY})["created"]
    assert tree(hub, repo) == {"a.bin"}


def test_a_commit_goes_to_its_branch(hub, repo):
    hub.repositories.create_branch(name_of(repo), "feature/x")
    result = publish(hub, repo.at("feature/x"), {"a.txt": TEXT})
    assert result["repo"] == f"hf://datasets/{repo.repo_id}@feature%2Fx"
    assert {file["repo"] for file in result["files"]} == {result["repo"]}
    assert (tree(hub, repo, "feature/x"), tree(hub, repo)) == ({"a.txt"}, set())


def test_three_hundred_files_are_one_commit_of_two_preupload_requests(hub, repo):
    files = {f"{number:03}.txt": b"%d" % number for number in range(300)}
    publish(hub, repo, files)
    assert tree(hub, repo) == set(files)
    assert len(hub.log.requests("POST .*/preupload/main")) == 2
    assert len(hub.log.requests(COMMIT)) == 1
    assert len(hub.log.requests(f".* {repo.api_path}/.*")) == 3


def test_what_gitignore_excludes_is_left_out_and_told(hub, repo, caplog):
    files = in_cas(hub, repo, {"kept.bin": BINARY, "left-out.bin": BINARY})
    modes = {file["path"]: UploadMode(False, None, file["path"] == "left-out.bin") for file in files}
    with caplog.at_level(logging.WARNING):
        result = commit.publish(client(hub), CommitRequest(repo, files), modes, lambda _: {})
    assert tree(hub, repo) == {"kept.bin"}
    assert [file["path"] for file in result["files"]] == ["kept.bin"]
    assert "1 of 2 files are left out" in caplog.text
    assert "excludes them: left-out.bin" in caplog.text


# --- nothing new


def test_unchanged_files_are_not_committed_again(hub, repo):
    files = {"a.bin": BINARY, "b.csv": TEXT, "empty": b""}
    first = publish(hub, repo, files, message="first")
    hub.log.clear()
    again = publish(hub, repo, files, message="again")
    assert len(hub.log.requests(f".* {repo.api_path}/.*")) == 2, "preupload, and the head"
    assert titles(hub, repo) == ["first"]
    assert (again["created"], again["oid"], again["unchanged"]) == (False, first["oid"], ["a.bin", "b.csv", "empty"])
    assert again["files"] == first["files"]


def test_only_what_changed_is_in_the_commit(hub, repo):
    publish(hub, repo, {"a.bin": BINARY, "b.csv": TEXT})
    result = publish(hub, repo, {"a.bin": BINARY, "b.csv": TEXT + b"3,4\n"})
    assert (result["created"], result["unchanged"]) == (True, ["a.bin"])
    name = name_of(repo)
    head = hub.repositories.resolve(name, "main")
    assert hub.repositories.find(head, "b.csv").commit == head.id
    assert hub.repositories.find(head, "a.bin").commit != head.id


def test_the_same_text_is_not_the_same_file_when_it_moves_from_inline_to_cas(hub, repo):
    publish(hub, repo, {"a.csv": TEXT, ".gitattributes": b""})
    result = publish(hub, repo, {".gitattributes": b"*.csv filter=lfs\n"})
    assert result["created"]
    assert publish(hub, repo, {"a.csv": TEXT})["created"]


# --- lost answers and tries


@pytest.mark.parametrize("times", [1, 2, 4])
def test_after_a_lost_answer_there_is_exactly_one_commit_and_it_is_the_result(hub, repo, times):
    fault = hub.faults.add(Fault(COMMIT, times=times, lose_answer=True, headers=AT_ONCE))
    result = publish(hub, repo, {"a.bin": BINARY}, message="once")
    assert titles(hub, repo) == ["once"]
    assert hub.faults.acted(fault) == 1
    assert result["oid"] == hub.repositories.resolve(name_of(repo), "main").id
    assert result["created"]


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_commit_is_not_sent_again_before_a_search_has_succeeded(hub, repo, monkeypatch, create_pr):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    hub.faults.add(Fault(COMMIT, times=1, lose_answer=True, drop=True))
    unanswered = hub.faults.add(Fault("GET .*/(commits|refs).*", times=2, lose_answer=True, drop=True))
    assert publish(hub, repo, {"a.bin": BINARY}, message="once", create_pr=create_pr)["created"]
    assert hub.faults.acted(unanswered) == 2, "all tries of the first search"
    assert titles(hub, repo, "refs/pr/1" if create_pr else "main") == ["once"]
    assert len(hub.commits.discussions.find_all(name_of(repo))) == int(create_pr)


def test_a_commit_that_had_no_effect_is_sent_again_once_a_search_says_so(hub, repo, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    hub.faults.add(Fault(COMMIT, times=1, drop=True))
    hub.faults.add(Fault("GET .*/commits/.*", times=2, status=500, headers=AT_ONCE))
    assert publish(hub, repo, {"a.bin": BINARY}, message="once")["created"]
    assert titles(hub, repo) == ["once"]


def test_a_conflict_is_reported_though_the_first_search_for_the_commit_fails(hub, repo, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    head = publish(hub, repo, {"a.txt": TEXT})["oid"]
    publish(hub, repo, {"a.txt": TEXT * 2}, message="theirs")
    hub.faults.add(Fault("GET .*/commits/.*", times=2, status=500, headers=AT_ONCE))
    with pytest.raises(XetConflictError, match=rf"no longer at {head}. a.txt changed since"):
        publish(hub, repo, {"a.txt": TEXT * 3}, parent_commit=head)
    assert titles(hub, repo) == ["theirs", "a commit"]


def test_a_commit_whose_answer_nobody_can_read_is_found(hub, repo):
    hub.faults.add(Fault(COMMIT, times=1, fields={"commitOid": 5}))
    result = publish(hub, repo, {"a.bin": BINARY}, message="once")
    assert (titles(hub, repo), result["created"]) == (["once"], True)


@pytest.mark.parametrize("drop", ["before", "middle"])
def test_after_a_dropped_connection_there_is_exactly_one_commit(hub, repo, drop):
    hub.faults.add(Fault(COMMIT, times=1, drop=drop))
    assert publish(hub, repo, {"a.bin": BINARY}, message="once")["created"]
    assert titles(hub, repo) == ["once"]


def test_a_commit_found_again_is_described_like_one_just_made(hub, repo):
    made = publish(hub, repo, {"a.bin": BINARY}, description="more", idempotency_key="k")
    found = publish(hub, repo, {"a.bin": BINARY}, description="more", idempotency_key="k")
    assert found == made
    assert made["description"].startswith("more\n\nXet-Commit-Key: ")


def test_a_commit_found_again_has_what_it_changed_and_not_what_is_the_same_since(hub, repo):
    """Asset events are made of this: they would say that a commit whose task was killed changed nothing."""
    publish(hub, repo, {"same.bin": BINARY, "same.csv": TEXT, "other.csv": b"1\n"})
    files = {"same.bin": BINARY, "same.csv": TEXT, "other.csv": TEXT, "new.bin": BINARY * 2}
    made = publish(hub, repo, files, idempotency_key="k")
    publish(hub, repo, {"same.csv": b"theirs\n"}, message="theirs")
    found = publish(hub, repo, files, idempotency_key="k")
    assert found["unchanged"] == made["unchanged"] == ["same.bin", "same.csv"]
    assert found["oid"] == made["oid"]


def test_a_commit_found_again_after_its_parent_was_squashed_away_changed_everything(hub, repo):
    publish(hub, repo, {"same.bin": BINARY})
    files = {"same.bin": BINARY, "new.csv": TEXT}
    publish(hub, repo, files, idempotency_key="k")
    hub.faults.add(Fault("POST .*/paths-info/.*", times=1, status=404))
    assert publish(hub, repo, files, idempotency_key="k")["unchanged"] == []


def test_a_commit_found_again_that_is_the_first_of_its_branch_changed_everything():
    made = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            made.append({"id": "a" * 40, "message": asked.lines[0]["value"]["description"]})
            return Answer({"commitOid": "a" * 40})
        return Answer(made)

    request = CommitRequest(ANYWHERE, [FILE], idempotency_key="k", is_first_try=True)
    unchanged = {"a.bin": UploadMode(False, FILE["sha256"], False)}
    with SmallServer(answer) as server:
        commit.publish(Hub(server.url), request, THROUGH_CAS, lambda _: {})
        found = commit.publish(Hub(server.url), replace(request, is_first_try=False), unchanged, lambda _: {})
    assert (len(made), found["created"], found["unchanged"]) == (1, True, [])


def test_a_commit_found_again_has_the_card_that_it_published(hub, repo):
    def attempt(run):
        by, card = client(hub), Card("# A", facts={"Run": run})
        work = CardWork(by, repo, card, None, 1, len(BINARY))
        request = CommitRequest(repo, in_cas(hub, repo, {"a.bin": BINARY}), idempotency_key="k", card=card)
        modes = commit.upload_modes(by, repo, [*request.files, work.placeholder()])
        work.prepare(modes["README.md"])
        return commit.publish(by, request, modes, lambda _: {}, work)

    made, found = attempt("first"), attempt("second")
    names = ("path", "size", "repo", "blob_id")
    described = [[[file.get(name) for name in names] for file in each["files"]] for each in (made, found)]
    assert (found["oid"], described[1]) == (made["oid"], described[0])
    assert b"first" in client(hub).read_inline(repo, "README.md")


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_second_try_of_the_task_finds_what_the_first_one_did(hub, repo, monkeypatch, create_pr):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    files, work = {"a.bin": BINARY, "b.csv": TEXT}, {"idempotency_key": "dag/run/task", "create_pr": create_pr}
    hub.faults.add(Fault(COMMIT, times=1, lose_answer=True))
    hub.faults.add(Fault("GET .*/(commits|refs).*", times=1, status=500))
    with pytest.raises(XetServerError):
        publish(hub, repo, files, message="once", **work)
    again = publish(hub, repo, files, message="once", **work)
    assert again["created"]
    assert len(hub.commits.discussions.find_all(name_of(repo))) == int(create_pr)
    assert titles(hub, repo, "refs/pr/1" if create_pr else "main") == ["once"]
    if create_pr:
        assert again["pull_request"] == f"{hub.url}/datasets/{repo.repo_id}/discussions/1"
        assert again["repo"] == f"hf://datasets/{repo.repo_id}@refs%2Fpr%2F1"


def test_a_second_try_of_a_task_that_deletes_finds_what_the_first_one_did(hub, repo):
    publish(hub, repo, {"old.txt": TEXT})
    work = {"delete": ["old.txt"], "idempotency_key": "dag/run/task", "message": "once"}
    first = publish(hub, repo, {"a.bin": BINARY}, **work)
    again = publish(hub, repo, {"a.bin": BINARY}, **work)
    assert again["oid"] == first["oid"]
    assert again["deleted"] == ["old.txt"]
    assert titles(hub, repo) == ["once", "a commit"]


def test_a_second_try_finds_the_first_one_even_below_somebody_elses_work(hub, repo, caplog):
    caplog.set_level(logging.INFO)
    publish(hub, repo, {"old.txt": TEXT})
    work = {"delete": ["old.txt"], "idempotency_key": "dag/run/task", "message": "once"}
    first = publish(hub, repo, {"a.bin": BINARY}, **work)
    publish(hub, repo, {"a.bin": BINARY * 2}, message="theirs")
    assert publish(hub, repo, {"a.bin": BINARY}, **work)["oid"] == first["oid"]
    assert caplog.messages == [f"Found 1 commit of this work in {repo}."]
    assert titles(hub, repo) == ["theirs", "once", "a commit"]


def test_a_retry_does_not_undo_what_somebody_committed_since(hub, repo):
    work = {"idempotency_key": "dag/run/task", "message": "once"}
    first = publish(hub, repo, {"a.csv": TEXT}, **work)
    publish(hub, repo, {"a.csv": b"newer,1\n"}, message="somebody else")
    again = publish(hub, repo, {"a.csv": TEXT}, **work)
    assert again["oid"] == first["oid"]
    assert sorted(titles(hub, repo)) == ["once", "somebody else"]


@pytest.mark.parametrize("change", [{"message": "other"}, {"description": "other"}, {"idempotency_key": "other"}])
def test_other_work_opens_another_pull_request(hub, repo, change):
    work = {"message": "a", "idempotency_key": "k", "create_pr": True}
    publish(hub, repo, {"a.bin": BINARY}, **work)
    publish(hub, repo, {"a.bin": BINARY}, **{**work, **change})
    assert len(hub.commits.discussions.find_all(name_of(repo))) == 2


@pytest.mark.parametrize(("path", "one", "two"), [("a.bin", BINARY, BINARY * 2), ("a.csv", b"1\n", b"2\n")])
def test_other_content_opens_another_pull_request(hub, repo, path, one, two):
    work = {"idempotency_key": "k", "create_pr": True}
    publish(hub, repo, {path: one}, **work)
    publish(hub, repo, {path: two}, **work)
    assert len(hub.commits.discussions.find_all(name_of(repo))) == 2
    if path == "a.csv":  # as it comes from a task that uploads and commits: its digest is known only here
        for content in (b"3\n", b"4\n"):
            files = [record(repo, path, content, sha256=None, xet_hash=None)]
            modes = {path: UploadMode(True, None, False)}
            commit.publish(client(hub), CommitRequest(repo, files, **work), modes, lambda _, c=content: {path: c})
        assert len(hub.commits.discussions.find_all(name_of(repo))) == 4


def test_without_a_key_every_call_is_work_of_its_own(hub, repo):
    for _ in range(2):
        publish(hub, repo, {"a.bin": BINARY}, create_pr=True)
    assert [pull.number for pull in hub.commits.discussions.find_all(name_of(repo))] == [1, 2]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_is_asked_again(hub, repo, status):
    fault = hub.faults.add(Fault(COMMIT, times=2, status=status, headers=AT_ONCE))
    assert publish(hub, repo, {"a.bin": BINARY}, message="once")["created"]
    assert hub.faults.acted(fault) == 2
    assert titles(hub, repo) == ["once"]


def test_a_rate_limit_that_stays_is_raised(hub, repo):
    hub.faults.add(Fault(COMMIT, status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(XetRateLimitError) as caught:
        publish(hub, repo, {"a.bin": BINARY})
    assert caught.value.retry_after == 3600
    assert titles(hub, repo) == []
    assert len(hub.log.requests(COMMIT)) == 1


# --- concurrent work


def test_a_commit_upon_the_expected_parent_is_made(hub, repo):
    head = publish(hub, repo, {"a.txt": TEXT})["oid"]
    assert publish(hub, repo, {"b.txt": TEXT}, parent_commit=head)["created"]
    assert tree(hub, repo) == {"a.txt", "b.txt"}


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_commit_upon_another_parent_is_refused_and_nothing_is_committed(hub, repo, create_pr):
    head = publish(hub, repo, {"a.txt": TEXT}, message="mine")["oid"]
    publish(hub, repo, {"a.txt": TEXT * 2}, message="theirs")
    with pytest.raises(XetConflictError, match=rf"no longer at {head}. a.txt changed since") as caught:
        publish(hub, repo, {"a.txt": TEXT * 3}, parent_commit=head, create_pr=create_pr)
    assert caught.value.status == 412
    assert titles(hub, repo) == ["theirs", "mine"]
    assert hub.commits.discussions.find_all(name_of(repo)) == []
    assert len(hub.log.requests(COMMIT, status=412)) == 1


@pytest.mark.parametrize("path", ["a.csv", "a.bin"])
def test_other_content_of_the_same_size_is_a_change(hub, repo, path):
    content = TEXT if path == "a.csv" else BINARY
    head = publish(hub, repo, {path: content}, message="mine")["oid"]
    publish(hub, repo, {path: content[::-1]}, message="theirs")
    with pytest.raises(XetConflictError, match=rf"no longer at {head}. {path} changed since"):
        publish(hub, repo, {path: content * 2}, parent_commit=head)
    assert titles(hub, repo) == ["theirs", "mine"]


def test_a_commit_upon_another_parent_is_made_where_the_paths_are_disjoint(hub, repo, caplog):
    caplog.set_level(logging.INFO)
    head = publish(hub, repo, {"a.txt": TEXT, "d/b.txt": TEXT})["oid"]
    publish(hub, repo, {"other.txt": TEXT}, message="theirs")
    theirs = publish(hub, repo, {"d2/other.txt": TEXT}, message="theirs too")["oid"]
    made = publish(hub, repo, {"a.txt": TEXT * 2}, delete=["d/"], message="mine", parent_commit=head)
    assert made["created"]
    assert titles(hub, repo) == ["mine", "theirs too", "theirs", "a commit"]
    assert f"{repo} is now at {theirs}, which changed none of these paths." in caplog.messages
    assert tree(hub, repo) == {"a.txt", "other.txt", "d2/other.txt"}


@pytest.mark.parametrize("theirs", ["d/b.txt", "d/new.txt", "e.txt"])
def test_a_deletion_upon_another_parent_is_refused_where_somebody_changed_what_it_deletes(hub, repo, theirs):
    head = publish(hub, repo, {"d/b.txt": TEXT, "e.txt": TEXT})["oid"]
    publish(hub, repo, {theirs: TEXT * 2}, message="theirs")
    with pytest.raises(XetConflictError, match=f"{theirs} changed since"):
        publish(hub, repo, delete=["d/", "e.txt"], parent_commit=head)
    assert titles(hub, repo) == ["theirs", "a commit"]


@pytest.mark.parametrize(
    ("theirs", "mine", "named"),
    [("a/theirs.txt", "a", "a/"), ("a", "a/b/mine.txt", "a")],
    ids=["a file for a folder", "a folder for a file"],
)
def test_a_commit_upon_another_parent_is_refused_where_it_would_take_the_place_of_new_work(
    hub, repo, theirs, mine, named
):
    head = publish(hub, repo, {"other.txt": TEXT})["oid"]
    publish(hub, repo, {theirs: TEXT}, message="theirs")
    with pytest.raises(XetConflictError, match=rf"someone else committed.* {named} changed since"):
        publish(hub, repo, {mine: TEXT}, parent_commit=head)
    assert tree(hub, repo) == {"other.txt", theirs}


def test_a_parent_that_nobody_knows_is_refused(hub, repo):
    publish(hub, repo, {"a.txt": TEXT})
    with pytest.raises(XetConflictError, match="is no longer at 1234567890123456789012345678901234567890"):
        publish(hub, repo, {"b.txt": TEXT}, parent_commit="1234567890" * 4)


@pytest.mark.parametrize(
    "said",
    [
        "You have exceeded our limit of 128 commits per hour. Retry this action in about 1 hour.",
        "Too many requests: in this hour you made 256 commits",
    ],
)
def test_a_used_up_commit_quota_is_no_rate_limit_and_is_not_tried_again(hub, repo, said):
    plenty_left = {"RateLimit": '"api";r=949;t=1', "Retry-After": "1"}
    quota = hub.faults.add(Fault(COMMIT, status=429, headers=plenty_left, body=json.dumps({"error": said})))
    with pytest.raises(XetCommitQuotaError, match=r"Set retry_delay=.*publish more files in one commit") as caught:
        publish(hub, repo, {"a.bin": BINARY})
    assert hub.faults.acted(quota) == 1
    assert caught.value.retry_after == 3600


def test_after_a_lost_answer_a_commit_upon_a_parent_is_found(hub, repo):
    head = publish(hub, repo, {"a.txt": TEXT})["oid"]
    hub.faults.add(Fault(COMMIT, times=1, lose_answer=True, headers=AT_ONCE))
    assert publish(hub, repo, {"b.txt": TEXT}, message="once", parent_commit=head)["created"]
    assert titles(hub, repo) == ["once", "a commit"]


def test_a_second_request_after_trouble_is_tied_to_the_head_so_that_only_one_can_succeed():
    posted = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer([{"id": f"{len(posted):040x}"}])
        posted.append(asked.lines[0]["value"].get("parentCommit"))
        statuses = {1: 500, 2: 412}
        return Answer({"commitOid": "a" * 40}, statuses.get(len(posted), 200), AT_ONCE)

    with SmallServer(answer) as server:
        commit.publish(Hub(server.url), CommitRequest(ANYWHERE, [FILE]), THROUGH_CAS, lambda _: {})
    assert posted == [None, f"{1:040x}", f"{2:040x}"]


def test_a_commit_is_awaited_longer_than_other_requests():
    """The Hub's own limit is a minute."""
    late = threading.Event()

    def answer(asked: Asked) -> Answer:
        assert asked.headers["content-type"] == "application/x-ndjson"
        late.wait(0.4)
        return Answer({"commitOid": "a" * 40})

    with SmallServer(answer) as server:
        commit.publish(Hub(server.url, timeout=0.1), CommitRequest(ANYWHERE, [FILE]), THROUGH_CAS, lambda _: {})
    assert len(server.asked) == 1


def test_a_second_request_for_a_pull_request_is_not_tied_to_the_branch():
    posted = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            assert asked.path.endswith("/refs")
            return Answer({"pullRequests": []})
        posted.append((asked.query, "parentCommit" in asked.lines[0]["value"]))
        body = {"commitOid": "a" * 40, "pullRequestUrl": "https://hub.example/acme/corpus/discussions/7"}
        return Answer(body, 500 if len(posted) == 1 else 200, AT_ONCE)

    request = CommitRequest(ANYWHERE, [FILE], create_pr=True)
    with SmallServer(answer) as server:
        result = commit.publish(Hub(server.url), request, THROUGH_CAS, lambda _: {})
    assert posted == [({"create_pr": ["1"]}, False)] * 2
    assert (result["pull_request_number"], len(result["commits"])) == (7, 1)


def test_others_who_always_commit_first_are_overtaken_at_once_only_so_often(monkeypatch):
    monkeypatch.setattr(commit, "_MAX_OVERTAKES", 2)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    posted = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer([{"id": f"{len(posted):040x}"}])
        posted.append(asked.lines[0]["value"].get("parentCommit"))
        return Answer({"error": "no"}, 412, AT_ONCE)

    with SmallServer(answer) as server, pytest.raises(XetConflictError):
        commit.publish(Hub(server.url), CommitRequest(ANYWHERE, [FILE]), THROUGH_CAS, lambda _: {})
    assert posted == [None, *(f"{number:040x}" for number in range(1, 6))], "twice as many as one try"


def test_a_conflict_without_an_expected_parent_does_not_speak_of_one(hub, repo):
    hub.faults.add(Fault(COMMIT, status=409, headers=AT_ONCE))
    with pytest.raises(XetConflictError, match="answered 409 to the commit to hf://datasets/") as caught:
        publish(hub, repo, {"a.bin": BINARY}, create_pr=True)
    assert "None" not in str(caught.value)


# --- deleting


def test_files_and_folders_are_deleted_along_with_what_is_added(hub, repo):
    publish(hub, repo, dict.fromkeys(("a.txt", "keep.txt", "d/b.txt", "d/e/c.txt", "d2/x.txt"), TEXT))
    result = publish(hub, repo, {"new.bin": BINARY}, delete=["a.txt", "d/"])
    assert tree(hub, repo) == {"keep.txt", "new.bin", "d2/x.txt"}
    assert result["deleted"] == ["a.txt", "d/"]


def test_a_commit_may_only_delete(hub, repo):
    publish(hub, repo, {"a.txt": TEXT, "b.txt": TEXT})
    assert publish(hub, repo, delete=["a.txt"], message="gone")["created"]
    assert tree(hub, repo) == {"b.txt"}
    assert titles(hub, repo) == ["gone", "a commit"]


@pytest.mark.parametrize("missing", ["nowhere.txt", "nowhere/"])
def test_nothing_is_committed_where_a_path_to_delete_is_missing(hub, repo, missing):
    publish(hub, repo, {"a.txt": TEXT}, message="first")
    text = missing.removesuffix("/")
    with pytest.raises(
        XetNotFoundError, match=rf"Cannot delete {text} from hf://.*: not found. Check delete. Nothing was committed"
    ):
        publish(hub, repo, {"new.txt": TEXT}, delete=["a.txt", missing], idempotency_key="k")
    assert (titles(hub, repo), tree(hub, repo)) == (["first"], {"a.txt"})


def test_all_paths_to_delete_that_are_missing_are_named(hub, repo):
    publish(hub, repo, {"a.txt": TEXT})
    with pytest.raises(XetNotFoundError, match=r"Cannot delete b\.txt, d from hf://") as caught:
        publish(hub, repo, delete=["a.txt", "b.txt", "d/"])
    assert caught.value.status == 404


@pytest.mark.parametrize("delete", ["d", "a.txt/"])
def test_a_file_is_not_a_folder_nor_the_other_way_round(hub, repo, delete):
    publish(hub, repo, {"a.txt": TEXT, "d/b.txt": TEXT}, message="first")
    with pytest.raises(XetNotFoundError) as caught:
        publish(hub, repo, delete=[delete])
    assert ("d is a folder: write d/ to delete it" in str(caught.value)) == (delete == "d")
    assert titles(hub, repo) == ["first"]
