"""Merging and closing the pull requests that this provider itself opened.

Source of the routes: ``merge_pull_request``, ``change_discussion_status`` and ``get_discussion_details`` of
``huggingface_hub`` 2.4. They are requested here because their responses can be lost like that of a commit: the state of
the pull request says whether it was merged.
"""

from __future__ import annotations

import logging

from airflow_provider_xethub.exceptions import XetHubError, XetProtocolError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub, with_retries
from airflow_provider_xethub.xet.publish.request import COMMIT_TIMEOUT
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)


def merged_as(hub: Hub, repo: Repo, number: int) -> str | None:
    """Return the id of the commit by which a pull request was merged; ``None`` where it was not.

    :raises XetNotFoundError: there is no such pull request.
    """
    about = f"pull request {number} of {repo}"
    answer = hub.json("GET", _route(repo, number), about=about)
    with hub.reading(about):
        changes = answers.mapping(answer, "JSON").get("changes") or {}
        oid = answers.mapping(changes, "'changes'").get("mergeCommitId")
        return None if oid is None else answers.commit_id(oid)


def merge(hub: Hub, repo: Repo, number: int) -> str:
    """Merge a pull request once, and return the id of the commit; also after a lost response.

    The Hub makes one commit of all commits of the pull request.

    :raises XetConflictError: the branch has changed in the same files.
    """

    def once() -> str:
        if done := merged_as(hub, repo, number):
            return done
        about = f"the merge of pull request {number} of {repo}"
        timeout = max(hub.timeout, COMMIT_TIMEOUT)
        hub.request("POST", f"{_route(repo, number)}/merge", about=about, retry=False, timeout=timeout)
        merged = merged_as(hub, repo, number)
        if merged is None:
            raise XetProtocolError(f"The Hub at {hub.endpoint} accepted {about}, but reports no commit of it.")
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
