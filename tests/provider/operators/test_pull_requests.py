"""Merging, closing and commenting on pull requests, against a real Hub."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
    XetPullRequestClosedError,
    XetServerError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.pull_requests import (
    XetClosePullRequestOperator,
    XetCommentPullRequestOperator,
    XetMergePullRequestOperator,
)
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.api import calls as api_calls
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import TEXT, binary, names, publish, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

MERGE = "POST /api/datasets/.*/discussions/1/merge"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def opened(repo, where, run_task, tmp_path):
    """A pull request that changes, adds and deletes a file; the branch has another one."""
    publish(repo, tmp_path, {"changed.csv": TEXT, "gone.bin": binary(), "same.bin": binary(10)})
    source = str(write(tmp_path / "new", {"changed.csv": b"x\n", "d/new.bin": binary(100)}))
    uploaded = run_task(XetUploadOperator, source=source, commit=False, **where).value
    return run_task(XetCommitOperator, files=uploaded, delete=["gone.bin"], create_pr=True, **where).value


def test_what_opens_a_pull_request_says_its_number(opened, repo, where, run_task, tmp_path):
    assert opened["pull_request_number"] == 1
    assert opened["pull_request"].endswith(f"/datasets/{repo.repo_id}/discussions/1")
    assert opened["repo"] == repo.at("refs/pr/1").uri
    source = str(write(tmp_path / "again", {"b.bin": binary(7)}))
    assert run_task(XetUploadOperator, source=source, **where).value["pull_request_number"] is None


@pytest.mark.parametrize("form", ["number", "text", "reference", "url", "result", "revision"])
def test_a_merge_returns_the_commit_and_the_files_that_it_changed(hub, repo, opened, where, run_task, tmp_path, form):
    forms = {
        "number": 1,
        "text": "{{ 0 + 1 }}",
        "reference": "refs/pr/1",
        "url": opened["pull_request"],
        "result": opened,
    }
    named = {"revision": "refs/pr/1"} if form == "revision" else {"pull_request": forms[form]}
    run = run_task(XetMergePullRequestOperator, comment="Checked.", **named, **where)
    merged = run.value
    head = XetHubConnection().get_latest_commit(repo)
    assert (merged["oid"], merged["repo"], merged["title"]) == (head["oid"], repo.uri, head["title"])
    assert [file["path"] for file in merged["files"]] == ["changed.csv", "d/new.bin"]
    assert (merged["deleted"], merged["unchanged"], merged["created"]) == (["gone.bin"], [], True)
    assert (merged["pull_request"], merged["pull_request_number"]) == (opened["pull_request"], 1)
    assert run.xcoms["_link_XetHubLink"] == head["url"]
    run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=merged["files"]).value  # noqa: B018
    assert names(tmp_path / "out") == ["changed.csv", "d/new.bin"]


def test_a_merge_describes_itself_in_the_event_of_the_repository(repo, opened, where, run_task):
    corpus = Asset(f"hf://datasets/{repo.repo_id}")
    run = run_task(XetMergePullRequestOperator, pull_request=opened, outlets=[corpus], **where)
    (event,) = run.message.outlet_events
    extra = event["extra"]
    assert (event["dest_asset_key"]["uri"], extra["oid"], extra["repo"]) == (corpus.uri, run.value["oid"], repo.uri)
    assert [file["path"] for file in extra["files"]] == ["changed.csv", "d/new.bin"]
    assert (extra["file_count"], extra["deleted"], extra["created"]) == (2, ["gone.bin"], True)


def test_a_merge_counts_only_what_it_changed_itself(hub, repo, opened, hook, tmp_path):
    publish(repo, tmp_path / "theirs", {"theirs.bin": binary(33), "same.bin": binary(12)})
    merged = hook.merge_pull_request(repo, 1)
    assert [file["path"] for file in merged["files"]] == ["changed.csv", "d/new.bin"]
    assert merged["deleted"] == ["gone.bin"]
    assert (hook.lineage.moved[-1].version, hook.lineage.moved[-1].files) == (merged["oid"], 2)


def test_a_merge_without_an_answer_is_a_success_and_happens_once(hub, repo, opened, where, run_task):
    hub.faults.add(Fault(MERGE, times=1, lose_answer=True))
    merged = run_task(XetMergePullRequestOperator, pull_request=1, **where).value
    assert merged["created"]
    assert len(hub.log.requests(MERGE)) == 1
    assert merged["oid"] == XetHubConnection().get_latest_commit(repo)["oid"]


@pytest.mark.parametrize("fault", [{"status": 503}, {"drop": True}, {"status": 429, "headers": {"Retry-After": "0"}}])
def test_a_merge_that_the_hub_did_not_carry_out_is_sent_again(hub, repo, opened, where, run_task, fault):
    hub.faults.add(Fault(MERGE, times=1, **fault))
    assert run_task(XetMergePullRequestOperator, pull_request=1, **where).value["created"]
    assert len(hub.log.requests(MERGE)) == 2


def test_a_hub_that_stays_down_fails_the_task_with_its_retries(hub, opened, where, run_task, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    hub.faults.add(Fault(MERGE, status=503))
    run = run_task(XetMergePullRequestOperator, pull_request=1, **where)
    assert (run.state, type(run.error)) == ("up_for_retry", XetServerError)
    assert "the merge of pull request 1" in run.text


def test_merging_again_succeeds_and_says_that_nothing_was_merged(repo, opened, where, run_task):
    first = run_task(XetMergePullRequestOperator, pull_request=1, **where).value
    second = run_task(XetMergePullRequestOperator, pull_request=1, **where).value
    assert (first["created"], second["created"]) == (True, False)
    assert {**second, "created": True} == first
    # A killed attempt may have merged it: then its consumers must start.
    retried = run_task(XetMergePullRequestOperator, pull_request=1, try_number=2, **where).value
    assert retried == first


def test_a_conflict_names_the_files_and_merges_nothing(hub, repo, opened, where, run_task, tmp_path):
    publish(repo, tmp_path / "theirs", {"changed.csv": b"theirs\n"})
    run = run_task(XetMergePullRequestOperator, pull_request=1, **where)
    assert run.is_final
    assert isinstance(run.error, XetConflictError)
    assert "Pull request 1 of" in run.text
    assert "has conflicts. Publish again" in run.text
    assert "main changed in changed.csv, too. Nothing was merged." in run.text
    assert not hub.log.requests(MERGE)


def test_a_closed_pull_request_is_not_merged(hub, repo, opened, where, run_task):
    closed = run_task(XetClosePullRequestOperator, pull_request=1, comment="Not good enough.", **where).value
    assert (closed["status"], closed["base"], closed["number"]) == ("closed", "main", 1)
    assert run_task(XetClosePullRequestOperator, pull_request=1, **where).value == closed
    run = run_task(XetMergePullRequestOperator, pull_request=1, **where)
    assert isinstance(run.error, XetPullRequestClosedError)
    assert isinstance(run.error, AirflowFailException)
    assert "was closed without being merged. Reopen it" in run.text
    details = XetHubConnection().api.get_discussion_details(repo.repo_id, 1, repo_type="dataset")
    assert [event.content for event in details.events if event.type == "comment"].count("Not good enough.") == 1


def test_a_merged_pull_request_is_not_closed(opened, where, run_task):
    run_task(XetMergePullRequestOperator, pull_request=1, **where).value  # noqa: B018
    run = run_task(XetClosePullRequestOperator, pull_request=1, **where)
    assert isinstance(run.error, XetConflictError)
    assert "is merged, so it cannot be closed" in run.text


def test_a_draft_is_published_and_merged(hub, repo, hook, where, run_task, tmp_path):
    draft = hook.open_pull_request(repo, "Later", "In parts.")
    assert (draft["status"], draft["repo"]) == ("draft", repo.at("refs/pr/1").uri)
    target = repo.at("refs/pr/1")
    hook.publish(write(tmp_path / "in", {"a.bin": binary()}), CommitRequest(target, ()))
    hub.faults.add(Fault("POST .*/discussions/1/status", times=1, lose_answer=True))
    merged = run_task(XetMergePullRequestOperator, pull_request=1, **where).value
    assert [file["path"] for file in merged["files"]] == ["a.bin"]
    assert hook.get_pull_request(repo, 1)["status"] == "merged"


def test_only_what_was_checked_is_merged(hub, repo, opened, hook, where, run_task, tmp_path):
    hook.publish(write(tmp_path / "more", {"late.bin": binary(9)}), CommitRequest(repo.at("refs/pr/1"), ()))
    run = run_task(XetMergePullRequestOperator, pull_request=1, head_commit=opened, **where)
    assert isinstance(run.error, XetConflictError)
    assert f"not at {opened['oid']}: it changed after it was checked. Nothing was merged." in run.text
    assert not hub.log.requests(MERGE)
    now = hook.get_latest_commit(repo.at("refs/pr/1"))["oid"]
    assert run_task(XetMergePullRequestOperator, pull_request=1, head_commit=now, **where).value["created"]


def test_a_comment_is_added_once_for_all_attempts(hub, repo, opened, hook, where, run_task):
    hub.faults.add(Fault("POST .*/discussions/1/comment", times=1, lose_answer=True))
    url = run_task(XetCommentPullRequestOperator, pull_request=1, comment="All {{ 2 + 1 }} checks.", **where).value
    assert url == opened["pull_request"]
    run_task(XetCommentPullRequestOperator, pull_request=1, comment="All 3 checks.", try_number=2, **where).value  # noqa: B018
    details = hook.api.get_discussion_details(repo.repo_id, 1, repo_type="dataset")
    (comment,) = [each.content for each in details.events if each.type == "comment" and "All" in each.content]
    assert comment.startswith("All 3 checks.\n\n<!-- xethub ")
    assert hook.comment_pull_request(repo, 1, "All 3 checks.")
    assert hook.comment_pull_request(repo, 1, "All 3 checks.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "pull_request is empty. The task that publishes opened none"),
        ({"pull_request": "{{ none }}"}, "pull_request is empty"),
        ({"pull_request": {"pull_request": None}}, "pull_request is empty"),
        ({"pull_request": {"a": 1}}, "pull_request {'a': 1} is not a pull request"),
        ({"pull_request": 1, "head_commit": {"a": 1}}, "head_commit is not a commit: {'a': 1}"),
        ({"pull_request": ""}, "pull_request '' is not a pull request; use its number"),
        ({"pull_request": 0}, "pull_request 0 is not a pull request"),
        ({"pull_request": True}, "pull_request True is not a pull request"),
        ({"pull_request": "main"}, "pull_request 'main' is not a pull request"),
        ({"pull_request": "https://hub/datasets/acme/other/discussions/1"}, "belongs to another repository"),
        ({"pull_request": 1, "repo_type": "bucket"}, "is a bucket: it has no pull requests"),
        ({"pull_request": 1, "head_commit": "main"}, "head_commit 'main' is not a commit ID"),
        ({"pull_request": 1, "comment": "a\0b"}, "comment contains a NUL character"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_asked(hub, where, run_task, arguments, message):
    run = run_task(XetMergePullRequestOperator, **{**where, **arguments})
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert message in run.text
    assert not hub.log.requests()


def test_nothing_to_merge_can_be_skipped(where, run_task):
    for kind in (XetMergePullRequestOperator, XetClosePullRequestOperator):
        assert run_task(kind, on_empty="skip", pull_request="{{ none }}", **where).state == "skipped"


def test_an_empty_comment_is_refused(hub, opened, where, run_task):
    hub.log.clear()
    run = run_task(XetCommentPullRequestOperator, pull_request=1, comment="{{ none }}", **where)
    assert isinstance(run.error, XetInputError)
    assert not hub.log.requests("POST .*")


def test_a_discussion_and_a_missing_pull_request_are_told_apart(repo, hook):
    hook.api.create_discussion(repo.repo_id, "Why?", repo_type="dataset")
    with pytest.raises(XetInputError, match=r"1 of .* is a discussion, not a pull request"):
        hook.merge_pull_request(repo, 1)
    with pytest.raises(XetNotFoundError, match="pull request 7"):
        hook.merge_pull_request(repo, 7)


def test_a_token_that_may_only_read_merges_nothing(hub, opened, connection, where, run_task):
    connection(password=hub.token("read"))
    run = run_task(XetMergePullRequestOperator, pull_request=1, **where)
    assert run.is_final
    assert isinstance(run.error, XetForbiddenError)
    assert "the merge of pull request 1" in run.text


def test_a_call_that_the_hub_does_not_answer_ends(hub, opened, connection, where, run_task, monkeypatch):
    monkeypatch.setattr(api_calls, "CALL_TIMEOUT", 1.0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    connection(extra={"timeout": 1})
    hub.faults.add(Fault(MERGE, endless=True))
    run = run_task(XetMergePullRequestOperator, pull_request=1, **where)
    # The Hub had carried it out, and only kept its answer back.
    assert run.value["created"]


def test_a_merge_that_the_hub_does_not_name_is_found_by_its_title(hub, repo, opened, hook):
    expected = hook.merge_pull_request(repo, 1)
    hub.faults.add(Fault("GET .*/discussions/1", fields={"changes": {}}))
    assert hook.merge_pull_request(repo, 1)["oid"] == expected["oid"]
