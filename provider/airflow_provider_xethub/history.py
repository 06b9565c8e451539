"""What was committed since a known commit: the history of a revision, read from its newest end.

Source: ``GET /api/{repo_type}s/{repo_id}/commits/{revision}``, newest first, in pages that ``Link`` connects, as
``huggingface_hub`` 2.4 reads them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from airflow_provider_xethub import answers, hub_errors
from airflow_provider_xethub.records import XetCommit
from airflow_provider_xethub.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.hub import Hub

MOST = 1000
"""Commits that are read at most; what is older is not looked for."""


def commits_until(hub: Hub, repo: Repo, known: Collection[str], most: int = MOST) -> list[XetCommit]:
    """Return the newest commits, newest first, back to the oldest of ``known``, which is included.

    Where one of them is not among the newest ``most``, that many are returned.

    :raises XetNotFoundError: the repository or the revision does not exist.
    """
    about = f"the commits of {repo}"
    missing = set(known)
    found: list[XetCommit] = []
    url = f"{repo.api_path}/commits/{repo.quoted_revision}"
    seen: set[str] = set()
    while url and url not in seen and len(found) < most:
        seen.add(url)
        response = hub.request("GET", url, about=about)
        page = hub_errors.check_is_json(response.headers, response.content, about=about, endpoint=hub.endpoint)
        with hub.reading(about):
            for entry in answers.sequence(page, "commits"):
                found.append(hub.listed_commit(repo, entry))
                missing.discard(found[-1]["oid"])
                if not missing:
                    return found
        link = response.links.get("next", {}).get("url", "")
        url = urljoin(response.url, link) if link else ""
    return found[:most]
