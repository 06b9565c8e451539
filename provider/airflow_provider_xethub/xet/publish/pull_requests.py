"""Merging and closing the pull requests that this provider itself opened for one commit to a branch.

Source of the routes: ``merge_pull_request`` and ``change_discussion_status`` of ``huggingface_hub`` 2.4. They are
requested here because publishing has no ``HfApi``.
"""

from __future__ import annotations

import logging

from airflow_provider_xethub.exceptions import XetConnectionError, XetHubError, XetResponseError, XetServerError
from airflow_provider_xethub.xet.hub import pull_requests
from airflow_provider_xethub.xet.hub.client import Hub, with_retries
from airflow_provider_xethub.xet.publish.request import COMMIT_TIMEOUT
from airflow_provider_xethub.xet.records import XetCommit
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)


def merged_as(hub: Hub, repo: Repo, number: int) -> XetCommit | None:
    """Return the commit by which a pull request was merged, with the branch in ``repo``; ``None`` where it was not.

    :raises XetNotFoundError: there is no such pull request.
    """
    found = pull_requests.get(hub, repo, number)
    return pull_requests.merge_commit(hub, found) if found.status == "merged" else None


def merge(hub: Hub, repo: Repo, number: int) -> XetCommit:
    """Merge a pull request once, and return the commit, with the branch in ``repo``; also after a lost response.

    :raises XetConflictError: the branch has changed in the same files.
    """

    def once() -> XetCommit:
        found = pull_requests.get(hub, repo, number)
        if found.status == "merged":
            return pull_requests.merge_commit(hub, found)
        if found.record["conflicts"]:
            raise pull_requests.conflict_error(found)
        about = f"the merge of pull request {number} into {found.base}"
        timeout = max(hub.timeout, COMMIT_TIMEOUT)
        try:
            hub.request("POST", f"{_route(repo, number)}/merge", about=about, retry=False, timeout=timeout)
        except (XetConnectionError, XetResponseError):
            if merged := merged_as(hub, repo, number):
                return merged
            raise
        merged = merged_as(hub, repo, number)
        if merged is None:
            raise XetServerError(
                f"The merge of pull request {number} had no effect. Let the task retry: the Hub accepted {about}, but "
                "does not report it as merged."
            )
        return merged

    return with_retries(once)


def close(hub: Hub, repo: Repo, number: int, why: str) -> None:
    """Close a pull request that is not to be merged. An error is only logged, because it does no harm while open."""
    about = f"the closing of pull request {number} of {repo}"
    try:
        hub.json("POST", f"{_route(repo, number)}/status", about=about, json={"status": "closed", "comment": why})
    except XetHubError as error:
        log.warning("Pull request %d of %s is still open: %s", number, repo, error)


def _route(repo: Repo, number: int) -> str:
    return f"{repo.api_path}/discussions/{number}"
