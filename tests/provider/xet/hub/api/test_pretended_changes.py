"""A success that somebody else than the Hub reports: a change counts once the Hub says that it was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_xethub import Repo
from airflow_provider_xethub.exceptions import XetServerError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub import client as hub_module
from support.builders import binary
from support.repository_trees import set_tree
from xethub_local.control.faults import Fault

Hook = XetHubConnection


@dataclass(frozen=True)
class Change:
    """A change; ``request`` is the one that makes it, ``start`` prepares it, and ``is_made`` reads what the Hub has."""

    request: str
    make: Callable[[Hook, Repo], object]
    is_made: Callable[[Hook, Repo], Any]
    start: Callable[[Hook, Repo], object] = lambda hook, repo: None


def new(repo):
    return Repo(f"{repo.repo_id}-new", "dataset")


def refs(hook, repo):
    return {each["name"] for each in hook.list_refs(repo)}


def settings(hook, repo):
    info = hook.api.repo_info(repo.repo_id, repo_type="dataset", expand=["private", "gated"])
    return (info.private, info.gated) == (False, "auto")


def comments(hook, repo):
    events = hook.api.get_discussion_details(repo.repo_id, 1, repo_type="dataset").events
    return [each.content for each in events if each.type == "comment" and each.content.startswith("Checked")]


def stored(hook, repo):
    return list(hook.api.list_lfs_files(repo.repo_id, repo_type="dataset"))


def delete_unreferenced(hook, repo):
    return hook.delete_unreferenced_files(repo, dry_run=False, min_age=timedelta(0))


CHANGES = {
    "create": Change(
        "POST /api/repos/create",
        lambda hook, repo: hook.create_repo(new(repo)),
        lambda hook, repo: hook.repo_exists(new(repo)),
    ),
    "create a bucket": Change(
        "POST /api/buckets/.*",
        lambda hook, repo: hook.create_repo(Repo(repo.repo_id, "bucket")),
        lambda hook, repo: hook.repo_exists(Repo(repo.repo_id, "bucket")),
    ),
    "delete": Change(
        "DELETE /api/repos/delete",
        lambda hook, repo: hook.delete_repo(repo, confirm=repo.repo_id),
        lambda hook, repo: not hook.repo_exists(repo),
    ),
    "delete a bucket": Change(
        "DELETE /api/buckets/.*",
        lambda hook, repo: hook.delete_repo(Repo(repo.repo_id, "bucket"), confirm=repo.repo_id),
        lambda hook, repo: not hook.repo_exists(Repo(repo.repo_id, "bucket")),
        lambda hook, repo: hook.create_repo(Repo(repo.repo_id, "bucket")),
    ),
    "settings": Change(
        "PUT .*/settings", lambda hook, repo: hook.update_repo(repo, visibility="public", gated="auto"), settings
    ),
    "branch": Change(
        "POST .*/branch/.*",
        lambda hook, repo: hook.create_branch(repo, "dev"),
        lambda hook, repo: "dev" in refs(hook, repo),
    ),
    "tag": Change(
        "POST .*/tag/.*", lambda hook, repo: hook.create_tag(repo, "v1"), lambda hook, repo: "v1" in refs(hook, repo)
    ),
    "delete branch": Change(
        "DELETE .*/branch/.*",
        lambda hook, repo: hook.delete_branch(repo, "dev"),
        lambda hook, repo: "dev" not in refs(hook, repo),
        lambda hook, repo: hook.create_branch(repo, "dev"),
    ),
    "delete tag": Change(
        "DELETE .*/tag/.*",
        lambda hook, repo: hook.delete_tag(repo, "v1"),
        lambda hook, repo: "v1" not in refs(hook, repo),
        lambda hook, repo: hook.create_tag(repo, "v1"),
    ),
    "squash": Change(
        "POST .*/super-squash/.*",
        lambda hook, repo: hook.squash_history(repo),
        lambda hook, repo: len(hook.hub.latest_commits(repo, 2)) == 1,
    ),
    "publish and merge": Change(
        "POST .*/discussions/1/status",
        lambda hook, repo: hook.merge_pull_request(repo, 1),
        lambda hook, repo: hook.get_pull_request(repo, 1)["status"] == "merged",
        lambda hook, repo: hook.open_pull_request(repo, "Proposed"),
    ),
    "close": Change(
        "POST .*/discussions/1/status",
        lambda hook, repo: hook.close_pull_request(repo, 1),
        lambda hook, repo: hook.get_pull_request(repo, 1)["status"] == "closed",
        lambda hook, repo: hook.open_pull_request(repo, "Proposed"),
    ),
    "comment": Change(
        "POST .*/discussions/1/comment",
        lambda hook, repo: hook.comment_pull_request(repo, 1, "Checked.", key="one"),
        lambda hook, repo: len(comments(hook, repo)) == 1,
        lambda hook, repo: hook.open_pull_request(repo, "Proposed"),
    ),
    "unreferenced files": Change(
        "POST .*/lfs-files/batch",
        delete_unreferenced,
        lambda hook, repo: not stored(hook, repo),
        lambda hook, repo: hook.squash_history(repo),
    ),
}

RESPONSES: dict[str, dict[str, Any]] = {
    "page": {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "<html>Sign in</html>"},
    "empty": {"status": 200, "headers": {"Content-Type": "application/json"}, "body": "{}"},
}


@pytest.fixture
def used(hub, repo, connection):
    """A repository with two commits, the first of them with content in CAS."""
    set_tree(hub, repo, {"a.bin": binary(3000)})
    set_tree(hub, repo, {})
    return repo


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_that_was_not_made_is_no_success(hub, used, hook, monkeypatch, change, response):
    change.start(hook, used)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    hub.faults.add(Fault(change.request, times=1, **response))
    with pytest.raises(XetServerError, match=r"had no effect\. Let the task retry") as raised:
        change.make(hook, used)
    assert "had no effect. Let" in str(raised.value)[:100]
    assert not change.is_made(hook, used)
    change.make(hook, used)
    assert change.is_made(hook, used)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_whose_response_is_unreadable_was_made(hub, used, hook, change):
    change.start(hook, used)
    hub.faults.add(Fault(change.request, times=1, truncate=1))
    change.make(hook, used)
    assert change.is_made(hook, used)
    assert len(hub.log.requests(change.request)) == 1
