"""Read the history of a revision from its newest commit back to a known one.

Source: ``GET /api/{repo_type}s/{repo_id}/commits/{revision}``, newest first, in pages that ``Link`` connects, as
``huggingface_hub`` 2.4 reads them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetRevisionNotFoundError
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.records import XetCommit
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

MAX_COMMITS = 1000
"""Commits to read at most; older ones are not searched."""

_PAGE = 100


def commits_until(hub: Hub, repo: Repo, known: Collection[str], limit: int = MAX_COMMITS) -> list[XetCommit]:
    """Return the newest commits, newest first, back to the oldest of ``known``, which is included.

    If one of ``known`` is not among the newest ``limit`` commits, that many are returned.

    :raises XetNotFoundError: the repository or the revision does not exist.
    """
    about = f"the commits of {repo}"
    missing = set(known)
    found: list[XetCommit] = []
    for page in hub.pages(f"{repo.api_path}/commits/{repo.quoted_revision}", None, about):
        with hub.reading(about):
            for entry in page:
                found.append(hub.listed_commit(repo, entry))
                missing.discard(found[-1]["oid"])
                if not missing:
                    return found
        if len(found) >= limit:
            break
    return found[:limit]


def parents(hub: Hub, repo: Repo, oids: Collection[str]) -> dict[str, str | None]:
    """Return the commit before each of these commits; ``None`` for the first of the repository.

    :param repo: the repository at the newest of the commits.
    :raises XetRevisionNotFoundError: the commits are no longer in the repository, or not within the newest
        :data:`MAX_COMMITS` before it.
    """
    about = f"the commits of {repo}"
    found: dict[str, str | None] = {}
    child, seen = "", 0
    params = {"limit": str(min(len(oids) + 1, _PAGE))}
    for page in hub.pages(f"{repo.api_path}/commits/{repo.quoted_revision}", params, about):
        with hub.reading(about):
            for entry in page:
                oid = hub.listed_commit(repo, entry)["oid"]
                if child in oids:
                    found[child] = oid
                if len(found) == len(set(oids)):
                    return found
                child, seen = oid, seen + 1
        if seen >= MAX_COMMITS:
            break
    else:
        if child in oids:
            found[child] = None
    if missing := sorted(set(oids) - found.keys()):
        raise XetRevisionNotFoundError(f"{shortened(missing, 3)} not found in the history of {repo}.", status=404)
    return found
