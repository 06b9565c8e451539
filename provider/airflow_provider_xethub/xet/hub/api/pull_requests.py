"""Change pull requests: open, publish, merge, comment and close. Each is safe to retry, except opening one.

``huggingface_hub.HfApi`` sends the requests. After any failure, the state of the pull request on the Hub says whether
the request was carried out anyway.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetConnectionError,
    XetInputError,
    XetResponseError,
    XetServerError,
)
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.hub import pull_requests
from airflow_provider_xethub.xet.hub.api.calls import ApiCalls
from airflow_provider_xethub.xet.hub.client import Hub, with_retries
from airflow_provider_xethub.xet.hub.pull_requests import PullRequest
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.records import XetCommitResult, XetPullRequest
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

MAX_COMMENT = 60_000
"""Characters of a comment, fewer than are read of one, so that the mark at its end is found again."""


def open_pull_request(calls: ApiCalls, repo: Repo, title: str, description: str = "") -> XetPullRequest:
    """Open an empty pull request, as a draft; commits to ``refs/pr/N`` fill it.

    Not safe to retry: a call whose response was lost may have opened one.
    """
    pull_requests.check_not_bucket(repo)
    arguments.text("title", title)
    arguments.text("description", description)
    if not title.strip():
        raise XetInputError(f"title is empty: a pull request of {repo} needs one.")
    about = f"the new pull request of {repo}"
    opened = calls.run(
        about,
        lambda api: api.create_pull_request(
            repo.repo_id, title, repo_type=repo.repo_type, description=description or None
        ),
        retry=False,
    )
    return pull_requests.get(calls.hub, repo, opened.num).record


def merge(
    calls: ApiCalls,
    repo: Repo,
    number: int,
    *,
    comment: str | None = None,
    head_commit: str | None = None,
    is_first_try: bool = True,
) -> XetCommitResult:
    """Merge a pull request, and return the commit. A draft is published first.

    If it is merged already, that is a success. Whether this work did it is then known only in the first attempt; in
    later ones, the merge counts as that of an earlier attempt whose response was lost.

    :param comment: text of a comment on the merge.
    :param head_commit: ID of the newest commit in the pull request; merge only if no other has been added.
    :param is_first_try: whether no earlier attempt can have merged it.
    :raises XetPullRequestClosedError: it is closed. Nothing was merged.
    :raises XetConflictError: it conflicts with its branch, or has other commits. Nothing was merged.
    """
    _check_comment("comment", comment)
    if head_commit is not None and not (isinstance(head_commit, str) and COMMIT_ID.fullmatch(head_commit)):
        raise XetInputError(f"head_commit {head_commit!r:.80} is not a commit ID: 40 hex digits, as in 'oid'.")
    found = pull_requests.get(calls.hub, repo, number)
    if found.status == "merged":
        log.info("%s is merged already.", found)
        return pull_requests.merge_result(calls.hub, found, created=not is_first_try)
    _check_mergeable(calls.hub, found, head_commit)
    if found.status == "draft":
        _set_status(calls, found, "open")
    merged = _merge(calls, found, comment)
    return pull_requests.merge_result(calls.hub, merged, created=True)


def _check_mergeable(hub: Hub, found: PullRequest, head_commit: str | None) -> None:
    if found.status == "closed":
        raise pull_requests.closed_error(found)
    if found.record["conflicts"]:
        raise pull_requests.conflict_error(found)
    if head_commit is not None:
        newest = hub.latest_commits(found.repo)
        if not newest or newest[0]["oid"] != head_commit:
            at = newest[0]["oid"] if newest else "no commit"
            raise XetConflictError(
                f"{found} is at {at}, not at {head_commit}: it changed after it was checked. Nothing was merged. Check "
                "the new commit, then merge that one."
            )


def _merge(calls: ApiCalls, found: PullRequest, comment: str | None) -> PullRequest:
    hub, repo, number = calls.hub, found.repo, found.number
    about = f"the merge of pull request {number} into {found.base}"

    def once() -> PullRequest:
        try:
            calls.run(
                about,
                lambda api: api.merge_pull_request(repo.repo_id, number, comment=comment, repo_type=repo.repo_type),
                retry=False,
            )
        except (XetConnectionError, XetResponseError) as error:
            # The response may be lost, or that of a second request for what the first one did.
            now = pull_requests.get(hub, repo, number)
            if now.status == "merged":
                log.info("%s is merged, although the Hub reported an error: %s", now, error)
                return now
            if now.status == "closed":
                raise pull_requests.closed_error(now) from None
            if now.record["conflicts"]:
                raise pull_requests.conflict_error(now) from None
            raise
        now = pull_requests.get(hub, repo, number)
        if now.status != "merged":
            raise XetServerError(
                f"The merge of pull request {number} had no effect. Let the task retry later: the Hub accepted "
                f"{about}, but reports it as {now.status}.",
                status=200,
            )
        return now

    return with_retries(once) if hub.retries_enabled else once()


def close(calls: ApiCalls, repo: Repo, number: int, *, comment: str | None = None) -> XetPullRequest:
    """Close a pull request without merging it. If it is closed already, that is a success.

    :param comment: text of a comment that says why.
    :raises XetConflictError: it is merged.
    """
    _check_comment("comment", comment)
    found = pull_requests.get(calls.hub, repo, number)
    if found.status == "merged":
        raise XetConflictError(f"{found} is merged, so it cannot be closed. See {found.record['url']}.")
    if found.status == "closed":
        log.info("%s is closed already.", found)
        return found.record
    return _set_status(calls, found, "closed", comment).record


def _set_status(calls: ApiCalls, found: PullRequest, status: Any, comment: str | None = None) -> PullRequest:
    """Publish a draft, or close a pull request; the call can be repeated."""
    repo, number = found.repo, found.number
    now: list[PullRequest] = []

    def is_done() -> bool:
        now[:] = [pull_requests.get(calls.hub, repo, number)]
        return bool(now[0].status == status)

    calls.change(
        f"setting pull request {number} of {found.base} to {status}",
        lambda api: api.change_discussion_status(
            repo.repo_id, number, status, comment=comment, repo_type=repo.repo_type
        ),
        is_done,
    )
    log.info("%s is %s now.", found, status)
    return now[0]


def comment_on(calls: ApiCalls, repo: Repo, number: int, text: str, *, key: str | None = None) -> bool:
    """Comment on a pull request, and return whether a comment was added.

    :param key: the same for all attempts of one piece of work. The comment ends with a mark of it, which the page does
        not show; if there is such a comment already, none is added. ``None``: always add one.
    """
    _check_comment("text", text)
    if not text or not text.strip():
        raise XetInputError(f"text is empty: a comment on pull request {number} of {repo} needs one.")
    mark = f"<!-- xethub {hashlib.sha256(f'{key} {text}'.encode()).hexdigest()[:32]} -->" if key else ""
    about = f"the comment on pull request {number} of {repo}"
    body = f"{text.strip()}\n\n{mark}".rstrip()

    def send(api: Any) -> None:
        api.comment_discussion(repo.repo_id, number, body, repo_type=repo.repo_type)

    def is_done() -> bool:
        return any(mark in each for each in pull_requests.get(calls.hub, repo, number).comments)

    def once() -> bool:
        if not mark:
            calls.run(about, send, retry=False)
            return True
        if is_done():
            log.info("Pull request %d of %s has this comment already.", number, repo)
            return False
        calls.change(about, send, is_done, retry=False)
        return True

    return with_retries(once) if mark and calls.hub.retries_enabled else once()


def _check_comment(name: str, text: str | None) -> None:
    if text is not None:
        arguments.text(name, text, MAX_COMMENT)
