"""Branches and tags: created at one commit, protected where they must be; and the history of a branch, squashed."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.operators.refs import (
    XetCreateBranchOperator,
    XetCreateTagOperator,
    XetDeleteBranchOperator,
    XetDeleteTagOperator,
    XetSquashHistoryOperator,
)
from support.airflow_runs import HAS_STATE_STORE, ExecutionApi
from support.builders import TEXT, commits, publish
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

AT_ONCE = {"Retry-After": "0"}
CHANGES = "(POST|DELETE) .*/(branch|tag|super-squash)/.*"
CREATE: dict[str, type] = {"branch": XetCreateBranchOperator, "tag": XetCreateTagOperator}
DELETE: dict[str, type] = {"branch": XetDeleteBranchOperator, "tag": XetDeleteTagOperator}


@pytest.fixture
def where(repo, connection):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def write_more(repo, connection, tmp_path):
    """Returns what makes another commit on main, and its id."""
    count = iter(range(100))

    def write(revision="main"):
        number = next(count)
        publish(repo.at(revision), tmp_path / f"{number}", {f"{number}.csv": TEXT})
        return head(repo, revision)

    return write


def head(repo, revision="main"):
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

    return XetHubConnection().get_latest_commit(repo.at(revision))["oid"]


def refs_of(hub, repo):
    return {ref.ref: ref.commit for ref in hub.repositories.refs(f"datasets/{repo.repo_id}")}


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_it_is_created_at_the_revision_and_found_again(hub, repo, where, write_more, run_task, kind):
    first, _ = write_more(), write_more()
    run = run_task(CREATE[kind], **{kind: "v1/ä"}, revision=first, **where)
    name = "heads" if kind == "branch" else "tags"
    assert refs_of(hub, repo)[f"refs/{name}/v1/ä"] == first
    assert run.value == {
        "kind": kind,
        "name": "v1/ä",
        "oid": first,
        "repo": repo.at("v1/ä").uri,
        "url": f"{hub.url}{repo.web_path}/tree/v1%2F%C3%A4",
        "created": True,
    }
    assert run.xcoms["_link_XetHubLink"] == run.value["url"]
    again = run_task(CREATE[kind], **{kind: "v1/ä"}, revision=first, **where).value
    assert again == {**run.value, "created": False}


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_at_another_commit_it_is_a_conflict_that_names_both(repo, where, write_more, run_task, kind):
    first = run_task(CREATE[kind], **{kind: "v1"}, **where).value["oid"]
    second = write_more()
    run = run_task(CREATE[kind], **{kind: "v1"}, **where)
    assert isinstance(run.error, XetConflictError)
    assert run.is_final
    assert f"{kind} v1 of {repo.repo_id} exists already" in run.text[:100]
    assert first in run.text
    assert second in run.text
    assert "Delete the" in run.text


def test_a_branch_may_have_moved_on_where_that_is_expected(where, write_more, run_task):
    run_task(XetCreateBranchOperator, branch="dev", **where).value  # noqa: B018 - raises what failed
    moved = write_more("dev")
    value = run_task(XetCreateBranchOperator, branch="dev", exist_ok=True, **where).value
    assert (value["oid"], value["created"]) == (moved, False)


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_a_lost_answer_is_no_failure(hub, where, run_task, kind):
    hub.faults.add(Fault(f"POST .*/{kind}/.*", times=1, lose_answer=True, headers=AT_ONCE))
    assert run_task(CREATE[kind], **{kind: "v1"}, **where).value["name"] == "v1"
    assert len(hub.log.requests(CHANGES)) == 1


@pytest.mark.skipif(not HAS_STATE_STORE, reason="before Airflow 3.3, a retry does not know at which commit it began")
@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_a_retry_creates_it_where_the_first_attempt_did_although_main_moved_on(
    hub, repo, where, write_more, run_task, kind
):
    first, api = write_more(), ExecutionApi()
    hub.faults.add(Fault(f"POST .*/{kind}/.*", lose_answer=True, headers=AT_ONCE))
    hub.faults.add(Fault("GET .*/refs", skip=1, status=503, headers=AT_ONCE))
    assert run_task(CREATE[kind], **{kind: "v1"}, api=api, **where).error
    hub.faults.clear()
    write_more()
    assert run_task(CREATE[kind], **{kind: "v1"}, api=api, try_number=2, **where).value["oid"] == first


def test_a_tag_with_a_message_is_recognised_whatever_the_hub_lists_for_it(hub, repo, where, run_task):
    value = run_task(XetCreateTagOperator, tag="v1", tag_message="the first", **where).value
    listed = {"tags": [{"name": "v1", "ref": "refs/tags/v1", "targetCommit": "a" * 40}]}
    hub.faults.add(Fault("GET .*/refs", fields=listed))
    again = run_task(XetCreateTagOperator, tag="v1", tag_message="the first", **where).value
    assert again == {**value, "created": False}


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_it_is_deleted_once(hub, repo, where, run_task, kind):
    run_task(CREATE[kind], **{kind: "old"}, **where).value  # noqa: B018
    hub.faults.add(Fault(f"DELETE .*/{kind}/.*", times=1, lose_answer=True, headers=AT_ONCE))
    deleted = run_task(DELETE[kind], **{kind: "old"}, **where)
    assert deleted.value == {"repo": repo.uri, "name": "old", "deleted": True}
    assert [*refs_of(hub, repo)] == ["refs/heads/main"]
    missing = run_task(DELETE[kind], **{kind: "old"}, **where)
    assert isinstance(missing.error, XetRevisionNotFoundError)
    assert missing.is_final
    assert f"{repo.repo_id} has no {kind} old" in missing.text[:100]
    for options in ({"missing_ok": True}, {"try_number": 2}):
        assert run_task(DELETE[kind], **{kind: "old"}, **options, **where).value["deleted"] is False


@pytest.mark.parametrize("operator", [*CREATE.values(), *DELETE.values()], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main", "is refused"),
        ("HEAD", "is refused"),
        ("refs/heads/main", "is refused"),
        ("refs/pr/1", "is refused"),
        ("a" * 40, "looks like the id of a commit"),
        ("a..b", "is not valid"),
        ("{{ '' }}", "is empty"),
        ("{{ none }}", "is empty"),
        ("main{{ '' }}", "is refused"),
        (7, "must be a string"),
    ],
)
def test_names_that_are_protected_or_wrong_are_refused_before_anything_is_sent(
    hub, where, run_task, operator, name, text
):
    kind = "branch" if "Branch" in operator.__name__ else "tag"
    run = run_task(operator, **{kind: name}, **where)
    assert isinstance(run.error, XetInputError)
    assert text in run.text
    assert not hub.log.requests()


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_deleting_takes_no_revision(hub, where, run_task, kind):
    run = run_task(DELETE[kind], **{kind: "v1"}, revision="v2", **where)
    assert "leave out revision" in run.text
    assert not hub.log.requests()


@pytest.mark.parametrize("operator", [*CREATE.values(), *DELETE.values()], ids=lambda each: each.__name__)
def test_errors_say_what_is_missing(hub, where, make_repo, connection, run_task, operator):
    kind = "branch" if "Branch" in operator.__name__ else "tag"
    missing = run_task(operator, **{kind: "v1"}, repo_id="local/none")
    assert isinstance(missing.error, XetNotFoundError)
    bucket = run_task(operator, **{kind: "v1"}, repo_id=make_repo("bucket").repo_id, repo_type="bucket")
    assert isinstance(bucket.error, XetInputError)
    assert "is a bucket: it has no" in bucket.text
    run_task(CREATE[kind], **{kind: "old"}, **where).value  # noqa: B018
    connection(password=hub.token("read"))
    denied = run_task(operator, **{kind: "old" if operator in DELETE.values() else "new"}, **where)
    assert isinstance(denied.error, XetForbiddenError)
    assert denied.text.startswith("No permission for hf://datasets/local/")


def test_a_branch_of_a_revision_that_does_not_exist_is_not_made(hub, where, run_task):
    run = run_task(XetCreateBranchOperator, branch="v1", revision="none", **where)
    assert isinstance(run.error, XetRevisionNotFoundError)
    assert not hub.log.requests(CHANGES)


# --- squash


def test_the_history_becomes_one_commit_with_the_same_files(hub, repo, where, write_more, hook, run_task):
    write_more()
    last = write_more()
    files = hook.list_files(repo)
    run = run_task(XetSquashHistoryOperator, commit_message="Keep the files", **where)
    assert commits(hub, repo) == 1
    assert (run.value["previous"], run.value["changed"], run.value["title"]) == (last, True, "Keep the files")
    assert run.value["oid"] == head(repo)
    assert run.xcoms["_link_XetHubLink"] == run.value["url"]
    assert hook.list_files(repo) == files
    again = run_task(XetSquashHistoryOperator, **where).value
    assert again == {**run.value, "previous": None, "changed": False}
    assert len(hub.log.requests(CHANGES)) == 1


def test_tags_keep_the_history_before_a_squash(hub, repo, where, write_more, run_task):
    first = write_more()
    run_task(XetCreateTagOperator, tag="v1", **where).value  # noqa: B018
    write_more()
    value = run_task(XetSquashHistoryOperator, **where).value
    assert value["title"] == "Squash task of test"
    assert refs_of(hub, repo)["refs/tags/v1"] == first


def test_a_squash_whose_answer_was_lost_is_done(hub, repo, where, write_more, run_task):
    write_more()
    hub.faults.add(Fault("POST .*/super-squash/.*", times=1, lose_answer=True, headers=AT_ONCE))
    assert run_task(XetSquashHistoryOperator, **where).value["changed"]
    assert commits(hub, repo) == 1


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1"])
def test_only_a_branch_is_squashed(hub, repo, where, write_more, hook, run_task, revision):
    write_more()
    hook.api.create_tag(repo.repo_id, tag="v1", repo_type="dataset")
    hook.api.create_pull_request(repo.repo_id, title="change", repo_type="dataset")
    hub.log.clear()
    run = run_task(XetSquashHistoryOperator, revision=revision, **where)
    assert isinstance(run.error, XetInputError)
    assert f"{revision} is not a branch of {repo.repo_id}" in run.text[:100]
    assert not hub.log.requests(CHANGES)
