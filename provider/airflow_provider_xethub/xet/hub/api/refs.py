"""Create and delete branches and tags, and squash the history of a branch; safe to repeat.

A branch or tag is created at a commit, not at a name that may move, so that a repeated request means the same. Source:
the routes and parameters of ``huggingface_hub`` 2.4.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetInputError,
    XetNotFoundError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.records import XetRef, XetSquashResult
from airflow_provider_xethub.xet.repo import Repo, check_ref_name

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.api.calls import ApiCalls

Kind = Literal["branch", "tag"]

log = logging.getLogger(__name__)

_LISTS: Mapping[str, str] = {"branch": "branches", "tag": "tags"}
_COMMITS_TO_SEARCH = 50


def list_refs(hub: Hub, repo: Repo) -> list[XetRef]:
    """Return the branches, then the tags of a repository, each sorted by name.

    :raises XetInputError: it is a bucket.
    :raises XetNotFoundError: it does not exist.
    """
    kinds: tuple[Kind, ...] = ("branch", "tag")
    found = read_refs(hub, repo)
    return [
        _record(hub, repo, kind, name, commit) for kind in kinds for name, commit in sorted(found[_LISTS[kind]].items())
    ]


def read_refs(hub: Hub, repo: Repo, *, pull_requests: bool = False) -> dict[str, dict[str, str]]:
    """Return the commit ids of all references of a repository, by the Hub's names for their kinds.

    Those are ``branches`` and ``tags``, by name; and ``converts``, ``pullRequests``, if asked for, and any others, by
    their full name, such as ``refs/pr/1``.
    """
    if repo.is_bucket:
        raise XetInputError(f"{repo} is a bucket: it has no branches, tags and commits.")
    about = f"the branches and tags of {repo}"
    params = {"include_prs": "1"} if pull_requests else None
    answer = hub.json("GET", f"{repo.api_path}/refs", about=about, params=params)
    with hub.reading(about):
        listed = answers.mapping(answer, "JSON")
        required = ["branches", "tags", *(["pullRequests"] if pull_requests else [])]
        found: dict[str, dict[str, str]] = {name: {} for name in required}
        for kind in {*required, *listed}:
            for each in answers.sequence(listed.get(kind), kind):
                ref = answers.mapping(each, "a reference")
                name = answers.identifier(ref.get("name" if kind in _LISTS.values() else "ref"), "a name")
                found.setdefault(kind, {})[name] = answers.commit_id(ref.get("targetCommit"))
    return found


def create(
    calls: ApiCalls,
    repo: Repo,
    kind: Kind,
    name: str,
    *,
    message: str | None = None,
    exist_ok: bool = False,
) -> XetRef:
    """Create a branch or tag at a revision, or return the one that exists at the same commit.

    :param repo: at the revision that it starts from.
    :param name: its name.
    :param message: of a tag.
    :param exist_ok: whether it may exist at another commit; it is then left there.
    :raises XetInputError: the name is not valid. Nothing was sent.
    :raises XetConflictError: it exists at another commit, and ``exist_ok`` is false.
    :raises XetRevisionNotFoundError: the revision does not exist.
    """
    check_ref_name(kind, name)
    commit = head(calls.hub, repo)
    if found := _find(calls.hub, repo, kind, name):
        return _existing(calls.hub, repo, kind, name, found, commit, exist_ok=exist_ok)

    def send(api: Any) -> None:
        if kind == "branch":
            api.create_branch(repo.repo_id, branch=name, revision=commit, repo_type=repo.repo_type)
        else:
            api.create_tag(repo.repo_id, tag=name, tag_message=message, revision=commit, repo_type=repo.repo_type)

    def is_done() -> bool:
        # For a tag with a message, the Hub may list git's object for the tag.
        found = _find(calls.hub, repo, kind, name)
        return found == commit or (kind == "tag" and found is not None)

    try:
        calls.change(f"the creation of {kind} {name} of {repo}", send, is_done)
    except XetConflictError:
        # Another task was faster, or the response to an earlier attempt was lost.
        if found := _find(calls.hub, repo, kind, name):
            return _existing(calls.hub, repo, kind, name, found, commit, exist_ok=exist_ok)
        raise
    log.info("Created %s %s of %s at %s.", kind, name, repo.repo_id, commit)
    return {**_record(calls.hub, repo, kind, name, commit), "created": True}


def delete(calls: ApiCalls, repo: Repo, kind: Kind, name: str, *, missing_ok: bool = False) -> bool:
    """Delete a branch or a tag. Commits that nothing else refers to are lost.

    :param missing_ok: whether it may be missing.
    :returns: whether it existed.
    :raises XetInputError: it is ``main``, or the name is not valid. Nothing was sent.
    :raises XetRevisionNotFoundError: it does not exist, and ``missing_ok`` is false.
    """
    check_ref_name(kind, name)
    found = _find(calls.hub, repo, kind, name)
    if found is None:
        if not missing_ok:
            raise XetRevisionNotFoundError(
                f"{repo.repo_id} has no {kind} {name}. Nothing was deleted. Check the name, or set missing_ok=True.",
                status=404,
            )
        log.info("%s has no %s %s, so there is nothing to delete.", repo.repo_id, kind, name)
        return False

    def send(api: Any) -> None:
        if kind == "branch":
            api.delete_branch(repo.repo_id, branch=name, repo_type=repo.repo_type)
        else:
            api.delete_tag(repo.repo_id, tag=name, repo_type=repo.repo_type)

    try:
        calls.change(
            f"the deletion of {kind} {name} of {repo}", send, lambda: _find(calls.hub, repo, kind, name) is None
        )
    except XetNotFoundError:
        # It existed a moment ago: the response to an earlier attempt was lost, or someone else deleted it.
        if _find(calls.hub, repo, kind, name) is not None:
            raise
    log.info("Deleted %s %s of %s, which was at %s.", kind, name, repo.repo_id, found)
    return True


def squash(calls: ApiCalls, repo: Repo, message: str | None = None) -> XetSquashResult:
    """Replace the history of a branch by one commit with the same files. It cannot be restored.

    A branch with one commit stays as it is.

    :param repo: at the branch.
    :param message: title of the commit.
    :raises XetInputError: the revision is not a branch. Nothing was sent.
    :raises XetRevisionNotFoundError: it does not exist.
    """
    refs = read_refs(calls.hub, repo)
    newest = calls.hub.latest_commits(repo, 2)
    if repo.revision not in refs["branches"]:
        raise XetInputError(
            f"{repo.revision} is not a branch of {repo.repo_id}, so its history cannot be squashed. Branches are "
            f"{', '.join(sorted(refs['branches'])[:10])}."
        )
    if len(newest) == 1:
        log.info("Nothing to squash: %s has one commit.", repo)
        return {**newest[0], "previous": None, "changed": False}
    previous = newest[0]["oid"]
    calls.change(
        f"the squashing of {repo}",
        lambda api: api.super_squash_history(
            repo.repo_id,
            branch=repo.revision,
            commit_message=message or f"Squash the history of {repo.revision}",
            repo_type=repo.repo_type,
        ),
        # Others may have committed to the branch since.
        lambda: previous not in {each["oid"] for each in calls.hub.latest_commits(repo, _COMMITS_TO_SEARCH)},
    )
    squashed = calls.hub.latest_commits(repo)[0]
    log.info("Squashed the history of %s, which ended at %s: %s", repo, previous, squashed["url"])
    return {**squashed, "previous": previous, "changed": True}


def head(hub: Hub, repo: Repo) -> str:
    """Return the id of the newest commit of a revision."""
    commits = hub.latest_commits(repo)
    if not commits:
        raise XetNotFoundError(f"{repo} has no commits yet.", status=404)
    return commits[0]["oid"]


def _find(hub: Hub, repo: Repo, kind: Kind, name: str) -> str | None:
    return read_refs(hub, repo)[_LISTS[kind]].get(name)


def _existing(hub: Hub, repo: Repo, kind: Kind, name: str, found: str, commit: str, *, exist_ok: bool) -> XetRef:
    if found != commit and kind == "tag":
        # Whether the Hub lists the commit or, for a tag with a message, git's object for the tag is not documented.
        found = head(hub, repo.at(name))
    if found != commit and not exist_ok:
        remedy = f"Delete the {kind} first, or choose another name" + (
            ", or set exist_ok=True to use it as it is." if kind == "branch" else "."
        )
        raise XetConflictError(f"{kind} {name} of {repo.repo_id} exists already, at {found}, not at {commit}. {remedy}")
    log.info("%s %s of %s exists already, at %s.", kind.capitalize(), name, repo.repo_id, found)
    return _record(hub, repo, kind, name, found)


def _record(hub: Hub, repo: Repo, kind: Kind, name: str, commit: str) -> XetRef:
    return {
        "kind": kind,
        "name": name,
        "oid": commit,
        "repo": repo.at(name).uri,
        "url": f"{hub.endpoint}{repo.web_path}/tree/{quote(name, safe='')}",
        "created": False,
    }
