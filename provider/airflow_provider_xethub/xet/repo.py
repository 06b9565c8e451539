"""A repository at a revision: its ``hf://`` URI, its paths on the Hub, and the rules for names.

Pure values, no I/O. Source of the URL rules: the Hub's token documentation (``GET
/api/{repo_type}s/{repo_id}/xet-{scope}-token/{revision}``; buckets have no revision) and the paths that
``huggingface_hub`` 2.4 requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import quote, unquote

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.identifiers import COMMIT_ID

RepoType = Literal["model", "dataset", "space", "bucket"]
Scope = Literal["read", "write"]

REPO_TYPES: tuple[str, ...] = get_args(RepoType)
SCOPES: tuple[str, ...] = get_args(Scope)
DEFAULT_REVISION = "main"
URI_SCHEME = "hf://"
_PREFIXES = frozenset(f"{repo_type}s" for repo_type in REPO_TYPES)

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_BAD_IN_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_REVISION = 255
_NO_SEGMENTS = frozenset(("", ".", ".."))
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True)
class Repo:
    """One repository at one revision.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``.
    :param revision: branch, tag, commit or ``refs/pr/N``. A bucket has none: there it is always ``main``.
    :raises XetInputError: a name breaks the Hub's rules.
    """

    repo_id: str
    repo_type: RepoType = "model"
    revision: str = DEFAULT_REVISION

    def __post_init__(self) -> None:
        if self.repo_type not in REPO_TYPES:
            raise XetInputError(f"repo_type {self.repo_type!r} is unknown; use one of {', '.join(REPO_TYPES)}.")
        check_repo_id(self.repo_id)
        check_revision(self.revision)
        if self.is_bucket and self.revision != DEFAULT_REVISION:
            raise XetInputError(
                f"bucket {self.repo_id} cannot be used at revision {self.revision!r}: buckets have no revisions. "
                "Leave revision out."
            )

    @property
    def is_bucket(self) -> bool:
        """Whether this is a bucket: no revisions, no commits."""
        return self.repo_type == "bucket"

    @property
    def uri(self) -> str:
        """The ``hf://`` URI, such as ``hf://datasets/acme/corpus@main``, as in tokens and records."""
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        revision = "" if self.is_bucket else f"@{quote(self.revision, safe='')}"
        return f"{URI_SCHEME}{prefix}{self.repo_id}{revision}"

    @classmethod
    def from_uri(cls, uri: str) -> Repo:
        """Parse an ``hf://`` URI of a repository (without a path inside it).

        ``hf://[models/|datasets/|spaces/|buckets/]namespace/name[@revision]``; the revision may be
        percent-encoded, and is ``main`` when left out.

        :raises XetInputError: it is not such a URI.
        """
        if not isinstance(uri, str) or not uri.startswith(URI_SCHEME):
            raise XetInputError(f"{uri!r} is not a repository URI; expected hf://[datasets/]namespace/name.")
        location, at, revision = uri[len(URI_SCHEME) :].partition("@")
        parts = location.split("/")
        repo_type: RepoType = "model"
        if len(parts) == 3 and parts[0].endswith("s") and parts[0][:-1] in REPO_TYPES:
            repo_type = parts.pop(0)[:-1]  # type: ignore[assignment]
        if len(parts) != 2 or (at and not revision):
            raise XetInputError(
                f"{uri!r} is not a repository URI; expected hf://[datasets/|spaces/|buckets/]namespace/name[@revision]."
            )
        return cls("/".join(parts), repo_type, unquote(revision) if at else DEFAULT_REVISION)

    def at(self, revision: str) -> Repo:
        """Return the same repository at another revision."""
        return replace(self, revision=revision)

    def is_same_repo(self, other: Repo) -> bool:
        """Return whether ``other`` is this repository, at any revision."""
        return (self.repo_id, self.repo_type) == (other.repo_id, other.repo_type)

    @property
    def api_path(self) -> str:
        """Path of the repository in the Hub's API, such as ``/api/datasets/acme/corpus``."""
        return f"/api/{self.repo_type}s/{self.repo_id}"

    @property
    def web_path(self) -> str:
        """Path of the repository's page and files, such as ``/datasets/acme/corpus``; models have no prefix."""
        return f"/{self.repo_id}" if self.repo_type == "model" else f"/{self.repo_type}s/{self.repo_id}"

    @property
    def quoted_revision(self) -> str:
        """The revision as one path segment: percent-encoded, ``/`` included (``refs%2Fpr%2F1``)."""
        return quote(self.revision, safe="")

    def token_path(self, scope: Scope) -> str:
        """Return the path of the refresh route: where the Hub issues Xet tokens of this scope.

        :raises XetInputError: the scope is neither ``read`` nor ``write``.
        """
        if scope not in SCOPES:
            raise XetInputError(f"scope {scope!r} is unknown; use 'read' or 'write'.")
        path = f"{self.api_path}/xet-{scope}-token"
        return path if self.is_bucket else f"{path}/{self.quoted_revision}"

    def __str__(self) -> str:
        return self.uri


def check_repo_id(repo_id: str) -> None:
    """Refuse a repository id that the Hub would refuse: it must be two valid names, joined by one slash.

    :raises XetInputError: the repository id breaks a rule; the message shows it.
    """
    names = repo_id.split("/") if isinstance(repo_id, str) else []
    if len(names) != 2:
        raise XetInputError(f"repo_id {repo_id!r} is not of the form 'namespace/name'.")
    if names[0] in _PREFIXES:
        raise XetInputError(
            f"repo_id {repo_id!r} begins with a repository type. Write it as repo_type={names[0][:-1]!r}, and the "
            "namespace before the name."
        )
    for name in names:
        if not _NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
            raise XetInputError(
                f"repo_id {repo_id!r} is not valid: {name!r} must have 1 to 96 letters, digits, '-', '_' or '.', "
                "must not begin or end with '-' or '.', and must not contain '--' or '..' or end with '.git'."
            )


def check_revision(revision: str) -> None:
    """Refuse a revision that git would refuse as the name of a branch, tag or commit.

    :raises XetInputError: the revision breaks a rule; the message shows it.
    """
    if not isinstance(revision, str) or not revision or len(revision) > _MAX_REVISION:
        raise XetInputError(f"revision {revision!r} is not a branch, tag, commit or refs/pr/N.")
    if _BAD_IN_REVISION.search(revision):
        raise XetInputError(
            f"revision {revision!r} is not a valid git reference; use a branch, tag, commit or refs/pr/N."
        )


def check_ref_name(kind: Literal["branch", "tag"], name: str) -> None:
    """Refuse a branch or tag to create or delete whose name git refuses, looks like another thing, or is protected.

    :raises XetInputError: the message shows it.
    """
    try:
        check_revision(name)
    except XetInputError as error:
        raise XetInputError(f"{kind} {name!r:.80} is not valid: {error}") from None
    if name in (DEFAULT_REVISION, "HEAD") or name.startswith("refs/"):
        raise XetInputError(
            f"{kind} {name!r:.80} is refused: main and HEAD are never created or deleted, and a name does not begin "
            "with refs/."
        )
    if COMMIT_ID.fullmatch(name):
        raise XetInputError(f"{kind} {name!r} is refused: it looks like the id of a commit. Choose another name.")


def check_path(path: str) -> None:
    """Refuse a path that could lead elsewhere than into the repository: absolute, with ``..``, a backslash and so on.

    :raises XetInputError: the path breaks a rule; the message shows it.
    """
    why = None
    if not isinstance(path, str) or not path:
        why = "it is empty"
    elif path.startswith("/"):
        why = "it is absolute"
    elif "\\" in path:
        why = "it contains a backslash"
    elif _CONTROL.search(path):
        why = "it contains a control character"
    elif not _NO_SEGMENTS.isdisjoint(path.split("/")):
        why = "it contains an empty, '.' or '..' segment"
    elif ".git" in path.lower().split("/"):
        why = "it is inside .git"
    elif len(path.encode("utf-8", "surrogatepass")) > _MAX_PATH_BYTES:
        why = f"it is longer than {_MAX_PATH_BYTES} bytes"
    else:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            why = "it is not valid Unicode"
    if why:
        raise XetInputError(f"path {path!r} in a repository is not valid: {why}.")


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders that a path is in, the deepest first."""
    while at := path.rfind("/") + 1:
        path = path[: at - 1]
        yield path
