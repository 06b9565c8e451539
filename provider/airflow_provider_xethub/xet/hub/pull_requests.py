"""Pull requests of a repository: their state, the commit that merged them, and what it changed.

Source: ``get_discussion_details`` of ``huggingface_hub`` 2.4, which also requests the difference; that can be large,
and nothing here needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetInputError,
    XetProtocolError,
    XetPullRequestClosedError,
)
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.changes import changes
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import repo_in, shortened
from airflow_provider_xethub.xet.records import XetCommit, XetCommitResult, XetPullRequest, published_record
from airflow_provider_xethub.xet.repo import Repo

REFERENCE = "refs/pr/"
STATUSES = ("draft", "open", "merged", "closed")

_NUMBER = re.compile(rf"(?:{REFERENCE})?([1-9][0-9]{{0,9}})")
_URL = re.compile(r"https?://[^/]+(/.+)/discussions/([1-9][0-9]{0,9})/?")
_COMMITS_TO_SEARCH = 100
_MAX_NAMED = 10


@dataclass(frozen=True)
class PullRequest:
    """A pull request, as the Hub describes it.

    :param record: for users.
    :param repo: the repository at ``refs/pr/N``.
    :param merge_oid: ID of the commit that merged it; ``None`` if it is not merged, or the Hub does not say.
    :param oids: IDs of its commits.
    :param comments: the texts of its comments.
    """

    record: XetPullRequest
    repo: Repo
    merge_oid: str | None
    oids: frozenset[str]
    comments: Sequence[str]

    @property
    def number(self) -> int:
        """The number."""
        return self.record["number"]

    @property
    def status(self) -> str:
        """``draft``, ``open``, ``merged`` or ``closed``."""
        return self.record["status"]

    @property
    def base(self) -> Repo:
        """The repository at the branch that it is to be merged into."""
        return self.repo.at(self.record["base"])

    def __str__(self) -> str:
        return f"Pull request {self.number} of {self.base}"


def number_of(value: object, repo: Repo) -> int | None:
    """Return the number in an argument that names a pull request; ``None`` if the argument names none.

    :param value: a number, ``refs/pr/N``, the URL of the pull request, or the result of publishing, which has it;
        ``None`` or the string of it for none.
    :param repo: the repository that it belongs to.
    :raises XetInputError: it is something else, or belongs to another repository.
    """
    if isinstance(value, Mapping) and ("pull_request" in value or "number" in value):
        value = value["pull_request"] if "pull_request" in value else value.get("url")
    if value is None or value == "None":
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        if found := _NUMBER.fullmatch(text):
            return int(found[1])
        if found := _URL.fullmatch(text):
            if found[1] != repo.web_path:
                raise XetInputError(f"pull_request {text!r:.200} belongs to another repository than {repo}.")
            return int(found[2])
    raise XetInputError(
        f"pull_request {value!r:.200} is not a pull request; use its number, refs/pr/N, its URL, or the output "
        "of the task that publishes."
    )


def check_not_bucket(repo: Repo) -> None:
    """Reject a bucket.

    :raises XetInputError: it is one.
    """
    if repo.is_bucket:
        raise XetInputError(f"{repo} is a bucket: it has no pull requests.")


def get(hub: Hub, repo: Repo, number: int) -> PullRequest:
    """Request the state of a pull request (``GET /api/{repo_type}s/{repo_id}/discussions/{number}``).

    :raises XetInputError: the repository is a bucket, or the number belongs to a discussion.
    :raises XetNotFoundError: the repository or the pull request does not exist.
    """
    check_not_bucket(repo)
    about = f"pull request {number} of {repo.at('main')}"
    answer = hub.json("GET", f"{repo.api_path}/discussions/{number}", about=about)
    with hub.reading(about):
        found = answers.mapping(answer, "JSON")
        if not isinstance(found.get("isPullRequest"), bool):
            raise answers.WrongAnswerError("'isPullRequest' that is not a boolean")
        if not found["isPullRequest"]:
            raise XetInputError(f"{number} of {repo} is a discussion, not a pull request. Check pull_request.")
        status = found.get("status")
        if status not in STATUSES:
            raise answers.WrongAnswerError(f"a status that is not one of {', '.join(STATUSES)}")
        # Without the difference, the real Hub may leave these out.
        merge = answers.mapping(found.get("changes") or {}, "'changes'")
        oid = merge.get("mergeCommitId")
        events = [answers.mapping(each, "an event") for each in found.get("events") or []]
        at = repo.at(f"{REFERENCE}{number}")
        record: XetPullRequest = {
            "number": number,
            "url": f"{hub.endpoint}{repo.web_path}/discussions/{number}",
            "repo": at.uri,
            "title": answers.title(found.get("title")),
            "status": cast("Any", status),
            "base": str(merge.get("base") or "main").removeprefix("refs/heads/"),
            "conflicts": _conflicts(found.get("filesWithConflicts")),
        }
        return PullRequest(
            record,
            at,
            None if oid is None else answers.commit_id(oid),
            frozenset(answers.commit_id(_data(each).get("oid")) for each in events if each.get("type") == "commit"),
            [_comment(each) for each in events if each.get("type") == "comment"],
        )


def _data(event: Any) -> Any:
    return answers.mapping(event.get("data") or {}, "the data of an event")


def _comment(event: Any) -> str:
    latest = _data(event).get("latest")
    return answers.text(latest.get("raw")) if isinstance(latest, dict) else ""


def _conflicts(value: object) -> list[str] | bool:
    if isinstance(value, list):
        return [answers.path(each) for each in value]
    return value is True


def closed_error(found: PullRequest) -> XetPullRequestClosedError:
    """Return the error for a pull request that was closed without being merged."""
    return XetPullRequestClosedError(
        f"{found} was closed without being merged. Reopen it at {found.record['url']}, or publish again."
    )


def conflict_error(found: PullRequest) -> XetConflictError:
    """Return the error for a pull request that cannot be merged."""
    conflicts = found.record["conflicts"]
    where = f" in {shortened(conflicts, _MAX_NAMED)}" if isinstance(conflicts, list) and conflicts else ""
    return XetConflictError(
        f"Pull request {found.number} of {repo_in(str(found))} has conflicts. Publish again from the new state of the "
        f"branch, or resolve them at {found.record['url']}. {found.record['base']} changed{where}, too. Nothing was "
        "merged."
    )


def merge_commit(hub: Hub, found: PullRequest) -> XetCommit:
    """Return the commit that merged a pull request, with the branch in ``repo``.

    :raises XetProtocolError: the Hub does not say which one it is.
    """
    base = found.base
    if found.merge_oid is not None:
        commits = hub.latest_commits(base.at(found.merge_oid))
    else:
        # A guess for a Hub that does not name it: the title of a merge ends with the number.
        newest = hub.latest_commits(base, _COMMITS_TO_SEARCH)
        commits = [each for each in newest if each["title"].endswith(f"(#{found.number})")]
    if not commits:
        raise XetProtocolError(f"{found} is merged, but the Hub at {hub.endpoint} does not say by which commit.")
    return {**commits[0], "repo": base.uri}


def merge_result(hub: Hub, found: PullRequest, *, created: bool) -> XetCommitResult:
    """Return the commit that merged a pull request, and the files that it changed.

    :param created: whether this work merged it, and not someone else before.
    """
    commit = merge_commit(hub, found)
    oid = commit["oid"]
    changed = changes(hub, found.base.at(oid), _before(hub, found, oid))
    return {
        **commit,
        "files": [published_record(file, commit["repo"]) for file in changed["files"]],
        "deleted": changed["deleted"],
        "unchanged": [],
        "created": created,
        "pull_request": found.record["url"],
        "pull_request_number": found.number,
        "commits": [commit],
    }


def _before(hub: Hub, found: PullRequest, oid: str) -> str | None:
    """Return the commit that the branch had before the merge; ``None`` if it had none.

    A Hub that merges as git does lists the commits of the pull request below the merge.
    """
    history = hub.latest_commits(found.base.at(oid), min(len(found.oids) + 2, _COMMITS_TO_SEARCH))
    return next((each["oid"] for each in history[1:] if each["oid"] not in found.oids), None)
