"""Stored content that nothing refers to: found over all references, listed by default, deleted only when certain."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import timedelta

import pytest
import requests
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
)
from airflow_provider_xethub.operators.repositories import XetDeleteUnreferencedFilesOperator
from airflow_provider_xethub.xet.hub.api import unreferenced_files
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import binary, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

DELETE = "POST .*/lfs-files/batch"
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture
def where(repo, connection):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def put(repo, hook, tmp_path):
    """Returns what commits files with content in CAS, each of a seed, to a branch or a new pull request."""

    count = iter(range(100))

    def put_files(revision="main", create_pr=False, **seeds):
        source = write(tmp_path / f"{next(count)}", {f"{name}.bin": binary(seed=seed) for name, seed in seeds.items()})
        return hook.publish(source, CommitRequest(repo.at(revision), (), message="more", create_pr=create_pr))

    return put_files


@pytest.fixture
def storage(hub, repo, put, hook):
    """A repository that keeps content for a branch, a tag, an open and a closed pull request, and for nothing."""
    api = hook.api
    put(main=1)
    put(main=2)
    put(main=3)
    put(create_pr=True, opened=4)
    put(create_pr=True, closed=5)
    api.change_discussion_status(repo.repo_id, 2, "closed", repo_type="dataset")
    api.create_branch(repo.repo_id, branch="dev", repo_type="dataset")
    put("dev", dev=6)
    put("dev", dev=7)
    api.create_branch(repo.repo_id, branch="gone", repo_type="dataset")
    put("gone", gone=8)
    api.create_tag(repo.repo_id, tag="v1", revision="gone", repo_type="dataset")
    put("gone", lost=9)
    api.delete_branch(repo.repo_id, branch="gone", repo_type="dataset")
    hub.log.clear()
    return api


def contents(hub, repo):
    """Return the seeds whose content the repository still has."""
    name = f"datasets/{repo.repo_id}"
    digests = {seed: hashlib.sha256(binary(seed=seed)).hexdigest() for seed in range(1, 20)}
    return [seed for seed, sha256 in digests.items() if hub.content.file_by_sha256(sha256, repository=name)]


def stored_files(hub, repo):
    """Return the Hub's own list."""
    headers = {"Authorization": f"Bearer {hub.token()}"}
    listed = requests.get(f"{hub.url}{repo.api_path}/lfs-files", headers=headers, timeout=20).json()
    hub.log.clear()
    return listed


def answer(hub, listed, times=None):
    """Let the Hub return another list."""
    headers = {"Content-Type": "application/json"}
    hub.faults.add(Fault("GET .*/lfs-files", times=times, status=200, headers=headers, body=json.dumps(listed)))


def paths(value):
    return sorted(file["path"] for file in value["files"])


def test_a_dry_run_lists_and_deletes_nothing(hub, repo, where, storage, run_task, caplog):
    caplog.set_level("INFO")
    run = run_task(XetDeleteUnreferencedFilesOperator, min_age=0, **where)
    assert paths(run.value) == ["lost.bin"]
    assert {**run.value, "files": []} == {
        "repo": repo.uri,
        "dry_run": True,
        "deleted": False,
        "files": [],
        "file_count": 1,
        "bytes": 5000,
        "kept": 8,
    }
    assert run.value["files"][0]["size"] == 5000
    assert contents(hub, repo) == [*range(1, 10)]
    log = caplog.text
    found = f"Found 1 stored file (5.0 kB) that nothing in {repo.repo_id} refers to; this is a dry run."
    assert f"{found} Kept: 8 in use, 0 pushed recently." in log
    assert "lost.bin" in log
    assert run.xcoms["_link_XetHubLink"]


def test_what_a_squash_leaves_behind_is_deleted_and_nothing_else(hub, repo, where, storage, hook, run_task, tmp_path):
    storage.super_squash_history(repo.repo_id, repo_type="dataset")
    # main=1 and 2 are in the history of dev and of both pull requests still.
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert (paths(run.value), run.value["deleted"]) == (["lost.bin"], True)
    assert contents(hub, repo) == [*range(1, 9)]
    storage.delete_branch(repo.repo_id, branch="dev", repo_type="dataset")
    storage.delete_tag(repo.repo_id, tag="v1", repo_type="dataset")
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert contents(hub, repo) == [1, 2, 3, 4, 5]  # the pull requests began at main=3, and have its history
    assert run.value["file_count"] == 3
    hook.download(f"{tmp_path}/out/", hook.list_files(repo))
    assert (tmp_path / "out" / "main.bin").read_bytes() == binary(seed=3)
    again = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where).value
    assert (again["file_count"], again["deleted"]) == (0, False)


def test_commits_keep_their_ids(hub, repo, where, storage, hook, run_task):
    before = [commit["oid"] for commit in hook.hub.latest_commits(repo, 20)]
    run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where).value  # noqa: B018
    assert [commit["oid"] for commit in hook.hub.latest_commits(repo, 20)] == before


def test_recent_content_is_kept_because_its_commit_may_be_on_its_way(hub, repo, where, storage, run_task):
    for options in ({}, {"min_age": timedelta(hours=1)}, {"min_age": 60}):
        run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, **options, **where)
        assert run.value["file_count"] == 0
    assert not hub.log.requests(DELETE)


def test_pull_requests_that_the_list_of_references_leaves_out_are_kept(hub, repo, where, storage, run_task):
    """Whether the Hub lists the references of closed pull requests is not documented."""
    hub.faults.add(Fault("GET .*/refs", fields={"pullRequests": []}))
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert paths(run.value) == ["lost.bin"]
    assert {4, 5} <= {*contents(hub, repo)}


@pytest.mark.parametrize(
    ("body", "deletes"), [('{"error": "Discussions are disabled for this repo"}', True), ('{"error": "no"}', False)]
)
def test_pull_requests_that_cannot_be_listed_end_the_work(hub, repo, where, storage, run_task, body, deletes):
    hub.faults.add(Fault("GET .*/discussions", status=403, body=body))
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert (run.error is None) == deletes
    if not deletes:
        assert isinstance(run.error, XetForbiddenError)
    assert bool(hub.log.requests(DELETE)) == deletes
    assert {*range(1, 9)} <= {*contents(hub, repo)}


def test_a_branch_and_a_tag_of_the_same_name_are_both_read(hub, repo, where, storage, run_task):
    storage.create_tag(repo.repo_id, tag="dev", revision="v1", repo_type="dataset")
    storage.delete_tag(repo.repo_id, tag="v1", repo_type="dataset")
    run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where).value  # noqa: B018
    assert contents(hub, repo) == [*range(1, 9)]


def test_a_list_without_a_file_in_use_is_not_trusted(hub, repo, where, storage, run_task):
    """It may use identifiers that no tree repeats, and then everything would look unreferenced."""
    listed = [
        {
            "fileOid": "f" * 40,
            "filename": "main.bin",
            "oid": "e" * 64,
            "pushedAt": "2026-01-01T00:00:00.000Z",
            "size": 5000,
        }
    ]
    answer(hub, listed)
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert isinstance(run.error, XetProtocolError)
    assert "cannot be known" in run.text[:100]
    assert "Nothing was deleted" in run.text
    assert not hub.log.requests(DELETE)


@pytest.mark.parametrize("revision", ["main", "refs/pr/2"])
def test_a_commit_made_meanwhile_prevents_the_deletion(hub, repo, where, storage, put, run_task, revision):
    """It may refer to content that looked unreferenced: here it does, also in a pull request that is not listed."""
    hub.faults.add(Fault("GET .*/refs", fields={"pullRequests": []}))
    hub.faults.add(Fault("GET .*/lfs-files", times=1, delay=1.0))
    asked = threading.Event()

    def commit():
        while not hub.log.requests("GET .*/tree/.*"):
            asked.wait(0.01)
        put(revision, again=9)

    thread = threading.Thread(target=commit)
    thread.start()
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    thread.join()
    assert isinstance(run.error, XetConflictError)
    assert "Nothing was deleted" in run.text
    assert not hub.log.requests(DELETE)


def test_a_deletion_whose_answer_was_lost_is_done(hub, repo, where, storage, run_task):
    hub.faults.add(Fault(DELETE, times=1, lose_answer=True, headers=AT_ONCE))
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert run.value["deleted"]
    assert contents(hub, repo) == [*range(1, 9)]


def test_optional_fields_may_be_missing(hub, repo, where, storage, run_task):
    """The Hub's OpenAPI description has no required ``filename``, and huggingface_hub's own list fails without it."""
    listed = stored_files(hub, repo)
    without = [{k: v for k, v in each.items() if k not in ("filename", "ref", "xetHash")} for each in listed]
    answer(hub, without, times=1)  # the next list is read after the deletion
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert [file["path"] for file in run.value["files"]] == [None]
    assert contents(hub, repo) == [*range(1, 9)]


def test_content_that_shares_an_identifier_with_a_file_in_use_is_kept(hub, repo, where, storage, run_task):
    listed = stored_files(hub, repo)
    used = next(each for each in listed if each["filename"] == "dev.bin")
    lost = next(each for each in listed if each["filename"] == "lost.bin")
    lost["fileOid"] = used["fileOid"] = "f" * 40  # the trees repeat the sha256 of one of them
    answer(hub, listed)
    run = run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where)
    assert run.value["file_count"] == 0
    assert not hub.log.requests(DELETE)


def test_too_many_commits_are_refused_with_a_remedy(hub, where, storage, run_task, monkeypatch):
    monkeypatch.setattr(unreferenced_files, "MAX_COMMITS", 3)
    run = run_task(XetDeleteUnreferencedFilesOperator, min_age=0, **where)
    assert isinstance(run.error, XetInputError)
    assert "more than 3 commits" in run.text[:100]
    assert "XetSquashHistoryOperator" in run.text
    assert not hub.log.requests("GET .*/tree/.*")


def test_the_result_names_a_hundred_and_counts_all(hub, repo, where, hook, put, run_task):
    put("main", **{f"f{number:03}": f"n{number}" for number in range(120)})
    hook.api.create_branch(
        repo.repo_id, branch="first", revision=hook.hub.latest_commits(repo, 2)[1]["oid"], repo_type="dataset"
    )
    hook.commit(CommitRequest(repo, (), delete=[f"f{number:03}.bin" for number in range(120)], message="away"))
    hook.squash_history(repo)
    value = run_task(XetDeleteUnreferencedFilesOperator, min_age=0, **where).value
    assert (len(value["files"]), value["file_count"], value["bytes"]) == (100, 120, 120 * 5000)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"dry_run": "False"}, "dry_run must be True or False"),
        ({"min_age": -1}, "min_age must be a positive"),
        ({"min_age": False}, "min_age must be a positive"),
        ({"min_age": "7 days"}, "min_age must be a positive"),
        ({"revision": "main"}, "leave out revision"),
        ({"repo_type": "bucket"}, "has no history"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(hub, where, run_task, wrong, text):
    run = run_task(XetDeleteUnreferencedFilesOperator, **{**where, **wrong})
    assert isinstance(run.error, XetInputError)
    assert text in run.text
    assert not hub.log.requests()


def test_a_missing_repository_is_an_error(connection, run_task):
    run = run_task(XetDeleteUnreferencedFilesOperator, repo_id="local/none")
    assert isinstance(run.error, XetNotFoundError)


@pytest.mark.skipif(not hasattr(BaseOperator, "dry_run"), reason="this Airflow has no dry run of an operator")
def test_the_dry_run_of_airflow_itself_still_works(where):
    """``airflow tasks test --dry-run`` calls the method ``dry_run`` of an operator."""
    XetDeleteUnreferencedFilesOperator(task_id="t", **where).dry_run()
