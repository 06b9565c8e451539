"""The first card of a repository, which states its license: ``huggingface_hub`` 2.4 has no other way to set one.

The Hub reads ``license`` from the YAML metadata at the beginning of ``README.md``.
"""

from __future__ import annotations

import logging
import re

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

PATH = "README.md"

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,99}")


def checked(hub: Hub, repo: Repo, license_id: str) -> bytes:
    """Return a card with this license, after the Hub accepted it (``POST /api/validate-yaml``).

    :param license_id: such as ``apache-2.0``.
    :raises XetInputError: it is not the identifier of a license, or the repository has no card to state it.
    :raises XetResponseError: the Hub rejects it. A Hub that cannot check it does not.
    """
    if repo.repo_type not in ("model", "dataset"):
        remedy = "Write it into its README.md." if repo.repo_type == "space" else "A bucket has no card."
        raise XetInputError(f"{repo.repo_type} {repo.repo_id} cannot be created with a license. {remedy}")
    if not _LICENSE.fullmatch(license_id):
        raise XetInputError(
            f"license {license_id!r:.80} is not the identifier of a license, such as apache-2.0, mit or cc-by-4.0."
        )
    content = f'---\nlicense: "{license_id}"\n---\n'
    about = f"the check of license {license_id} for {repo.repo_type} {repo.repo_id}"
    body = {"repoType": repo.repo_type, "content": content}
    try:
        hub.json("POST", "/api/validate-yaml", about=about, json=body, repo=repo)
    except XetNotFoundError:
        log.warning("The Hub at %s cannot validate cards, so license %s was not checked.", hub.endpoint, license_id)
    return content.encode()


def is_wanted(hub: Hub, repo: Repo) -> bool:
    """Return whether the repository has only its first commit and no card: a repository in use is left as it is.

    This also finishes the work of an earlier attempt that was killed between the two requests.
    """
    return len(hub.latest_commits(repo, 2)) == 1 and not hub.existing_paths(repo, [PATH])


def commit_request(repo: Repo) -> CommitRequest:
    """Return the request for the commit of the card."""
    return CommitRequest(repo, (), message="Add the license")
