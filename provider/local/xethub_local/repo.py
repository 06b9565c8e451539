"""A repository at a revision, and the Hub's rules for the names of repositories, revisions and paths.

The local Hub has rules of its own because it plays the other side of the protocol: if it used the provider's, it would
accept whatever the provider wrongly accepts. ``tests/unit/local/test_repo.py`` compares the two.

Pure values, no I/O. Source: the names that huggingface.co accepts, as ``huggingface_hub`` documents them in
``validate_repo_id``, and git's rules for references (``git check-ref-format``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import quote

RepoType = Literal["model", "dataset", "space", "bucket"]
Scope = Literal["read", "write"]

REPO_TYPES: tuple[str, ...] = get_args(RepoType)
SCOPES: tuple[str, ...] = get_args(Scope)
DEFAULT_REVISION = "main"

_NAME = re.compile(r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_NOT_IN_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock$")
_NOT_IN_PATH = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|^\.\.\\")
_NOT_IN_A_FOLDER = ("", ".", "..", ".git")
_MAX_REVISION = 255
_MAX_PATH_BYTES = 4096


class InvalidNameError(ValueError):
    """The name of a repository, a revision or a path breaks a rule of the Hub; the message shows it."""


@dataclass(frozen=True, eq=False)
class Repo:
    """One repository at one revision.

    It has what tests need of the provider's ``Repo``, is equal to one with the same three values, and can be passed to
    the provider's hook in its place.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``.
    :param revision: branch, tag, commit or ``refs/pr/N``; a bucket has none, and it is always ``main``.
    :raises InvalidNameError: a name breaks a rule.
    """

    repo_id: str
    repo_type: RepoType = "model"
    revision: str = DEFAULT_REVISION

    def __post_init__(self) -> None:
        if self.repo_type not in REPO_TYPES:
            raise InvalidNameError(f"repo_type {self.repo_type!r} is unknown; use one of {', '.join(REPO_TYPES)}.")
        check_repo_id(self.repo_id)
        check_revision(self.revision)
        if self.is_bucket and self.revision != DEFAULT_REVISION:
            raise InvalidNameError(
                f"bucket {self.repo_id} is not at revision {self.revision!r}: buckets have no revisions. Leave it out."
            )

    def __eq__(self, other: object) -> bool:
        return tuple(getattr(other, name, None) for name in self.__dataclass_fields__) == self._values

    def __hash__(self) -> int:
        return hash(self._values)

    @property
    def _values(self) -> tuple[str, str, str]:
        return (self.repo_id, self.repo_type, self.revision)

    @property
    def is_bucket(self) -> bool:
        """Whether this is a bucket: no revisions, no commits."""
        return self.repo_type == "bucket"

    @property
    def name(self) -> str:
        """The name under which it is stored, such as ``datasets/acme/corpus`` or ``models/acme/m``."""
        return f"{self.repo_type}s/{self.repo_id}"

    @property
    def uri(self) -> str:
        """The ``hf://`` URI, such as ``hf://datasets/acme/corpus@main``; models have no prefix."""
        revision = "" if self.is_bucket else f"@{self.quoted_revision}"
        return f"hf:/{self.web_path}{revision}"

    @property
    def api_path(self) -> str:
        """Path of the repository in the Hub's API, such as ``/api/datasets/acme/corpus``."""
        return f"/api/{self.name}"

    @property
    def web_path(self) -> str:
        """Path of the repository's page and files, such as ``/datasets/acme/corpus``; models have no prefix."""
        return f"/{self.repo_id}" if self.repo_type == "model" else f"/{self.name}"

    @property
    def quoted_revision(self) -> str:
        """The revision as one path segment, with ``/`` percent-encoded."""
        return quote(self.revision, safe="")

    def token_path(self, scope: Scope) -> str:
        """Return the path of the route that issues Xet tokens of this scope."""
        path = f"{self.api_path}/xet-{scope}-token"
        return path if self.is_bucket else f"{path}/{self.quoted_revision}"

    def at(self, revision: str) -> Repo:
        """Return the same repository at another revision."""
        return replace(self, revision=revision)

    def is_same_repo(self, other: Repo) -> bool:
        """Return whether ``other`` is this repository, at any revision."""
        return (self.repo_id, self.repo_type) == (other.repo_id, other.repo_type)

    def __str__(self) -> str:
        return self.uri


def check_repo_id(repo_id: str) -> None:
    """Refuse a repository id that is not two valid names, joined by one slash.

    :raises InvalidNameError: it breaks a rule.
    """
    names = repo_id.split("/") if isinstance(repo_id, str) else []
    if len(names) != 2:
        raise InvalidNameError(f"repo_id {repo_id!r} is not of the form 'namespace/name'.")
    if names[0].removesuffix("s") in REPO_TYPES and names[0].endswith("s"):
        raise InvalidNameError(f"repo_id {repo_id!r} is not valid: the namespace {names[0]!r} is a repository type.")
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidNameError(
                f"repo_id {repo_id!r} is not valid: {name!r} must have 1 to 96 letters, digits, '-', '_' or '.', "
                "must not begin or end with '-' or '.', and must not contain '--' or '..' or end with '.git'."
            )


def check_revision(revision: str) -> None:
    """Refuse a revision that git would refuse as the name of a branch, tag or commit.

    :raises InvalidNameError: it breaks a rule.
    """
    is_text = isinstance(revision, str) and 0 < len(revision) <= _MAX_REVISION
    if not is_text or _NOT_IN_REVISION.search(revision):
        raise InvalidNameError(
            f"revision {revision!r} is not a valid git reference; use a branch, tag, commit or refs/pr/N."
        )


def check_path(path: str) -> None:
    r"""Refuse a path that could lead elsewhere than into the repository.

    On the Hub a backslash is an ordinary character, except that a path may not begin with ``..\``.

    :raises InvalidNameError: it breaks a rule.
    """
    why = None
    if not path:
        why = "it is empty"
    elif path.startswith("/"):
        why = "it is absolute"
    elif _NOT_IN_PATH.search(path):
        why = "it begins with '..\\', or contains a control character or what is not valid Unicode"
    elif any(part.lower() in _NOT_IN_A_FOLDER for part in path.split("/")):
        why = "it contains an empty, '.git', '.' or '..' segment"
    elif len(path.encode()) > _MAX_PATH_BYTES:
        why = f"it is longer than {_MAX_PATH_BYTES} bytes"
    if why:
        raise InvalidNameError(f"path {path!r} in a repository is not valid: {why}.")
