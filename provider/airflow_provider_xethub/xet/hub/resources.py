"""What an exchanged token is for: one repository, or the gated repositories of one user. Pure: no I/O.

Source: the Hub's page about trusted publishers, and ``huggingface_hub`` 2.4 (``_oidc.py``): the resource is
``namespace/name`` for a model, ``datasets/…``, ``spaces/…`` or ``kernels/…`` for the others, or a user name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.repo import Repo

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_API = re.compile(rf"/api/(?P<kind>model|dataset|space|kernel|bucket)s/(?P<id>{_NAME}/{_NAME})(?:/.*)?")
_FILES = re.compile(
    rf"/(?:(?P<kind>dataset|space|kernel|bucket)s/)?(?P<id>{_NAME}/{_NAME})/(?:resolve|raw|info|blob|tree)/.*"
)
_USER = re.compile(_NAME)


@dataclass(frozen=True)
class Resource:
    """What the Hub is asked to issue a token for.

    :param text: in the form of the request, such as ``datasets/acme/corpus``, or a user name.
    """

    text: str

    @property
    def is_user(self) -> bool:
        """Whether it is a user: the token then reads the gated repositories of that user, and nothing else."""
        return "/" not in self.text

    def settings_url(self, endpoint: str) -> str:
        """Return the page on which its trusted publishers are set. That of a user is a guess."""
        return f"{endpoint}/settings/account" if self.is_user else f"{endpoint}/{self.text}/settings"

    def __str__(self) -> str:
        return f"user {self.text}" if self.is_user else self.text


def of_repo(repo: Repo) -> Resource:
    """Return the resource of a repository.

    :raises XetIdentityError: it is a bucket.
    """
    return of_name(repo.repo_type, repo.repo_id)


def of_path(path: str) -> Resource:
    """Return the resource of a request, by its path on the Hub.

    :param path: such as ``/api/datasets/acme/corpus/tree/main`` or ``/acme/m/resolve/main/README.md``.
    :raises XetIdentityError: the path is not about one repository, or it is about a bucket.
    """
    match = _API.fullmatch(path) or _FILES.fullmatch(path)
    if match is None or (match.re is _FILES and match["id"].startswith("api/")):
        raise XetIdentityError(
            f"A keyless connection cannot request {path!r:.80}: its tokens are for one repository each, and this "
            "request is not about one. Nothing was sent. Use a connection with a Hub token for it."
        )
    return of_name(match["kind"] or "model", match["id"].removesuffix(".git"))


def of_user(name: str) -> Resource:
    """Return the resource of a user.

    :raises XetIdentityError: it is not a user name.
    """
    if not _USER.fullmatch(name):
        raise XetIdentityError(
            f"identity_user {name!r:.100} is not the name of a user of the Hub. Correct the connection."
        )
    return Resource(name)


def of_name(kind: str, repo_id: str) -> Resource:
    """Return the resource of a repository by its type and ID.

    :raises XetIdentityError: it is a bucket.
    """
    if kind == "bucket":
        raise XetIdentityError(
            f"Bucket {repo_id} has no trusted publishers: the Hub exchanges no identity for a bucket. Use a connection "
            "with a Hub token for buckets."
        )
    return Resource(repo_id if kind == "model" else f"{kind}s/{repo_id}")
