"""Paths of the filesystem: ``[datasets/|spaces/|buckets/]namespace/name[@revision]/path``, and what they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, REPO_TYPES, Repo, RepoType, check_path

SCHEMES = ("hf", "xethub")
"""``xethub`` is ours alone: what other libraries do with an ``hf://`` address does not concern it."""

_SCHEME = re.compile(rf"(?:{'|'.join(SCHEMES)})(?:://|::)")
_CONNECTION = re.compile(r"([^/@]*)@")
_UNQUOTED_REFERENCES = re.compile(r"(refs/(?:pr|convert)/[^/]+)(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A place in a repository or a bucket.

    :param repo: the repository at its revision.
    :param path: the path in it; empty for its root.
    :param root: the repository as it was written.
    """

    repo: Repo
    path: str
    root: str

    def name(self, path: str) -> str:
        """Return the filesystem's name of another path in this repository."""
        return f"{self.root}/{path}" if path else self.root


def connection_of(url: str) -> str | None:
    """Return the id of the connection in an address ``scheme://connection@path``."""
    found = _CONNECTION.match(_without_scheme(url))
    return (found[1] or None) if found else None


def plain(path: str) -> str:
    """Return a path without scheme and connection, and without slashes around it.

    The ``@`` before a revision comes after the first slash, that of a connection before it.
    """
    text = _without_scheme(path).lstrip("/")
    found = _CONNECTION.match(text)
    return (text[found.end() :] if found else text).strip("/")


def _without_scheme(path: str) -> str:
    found = _SCHEME.match(path)
    return path[found.end() :] if found else path


def place(path: str) -> Place | None:
    """Return what a plain path means; ``None`` for what is above a repository, such as a namespace.

    The revision is percent-encoded (``@refs%2Fpr%2F1``); ``refs/pr/N`` and ``refs/convert/…`` may be as they are. In
    the path nothing is encoded.

    :raises XetInputError: a name breaks the Hub's rules.
    """
    repo_type: RepoType = "model"
    first, slash, rest = path.partition("/")
    prefix = ""
    if first.endswith("s") and first[:-1] in REPO_TYPES:
        repo_type, prefix, path = first[:-1], f"{first}/", rest  # type: ignore[assignment]
        if not slash:
            return None
    namespace, _, rest = path.partition("/")
    if not rest:
        return None
    rest, at, behind = rest.partition("@")
    if not at or "/" in rest:
        name, _, in_repo = f"{rest}{at}{behind}".partition("/")
        revision, written = DEFAULT_REVISION, ""
    else:
        name = rest
        reference = _UNQUOTED_REFERENCES.fullmatch(behind)
        revision, in_repo = (
            (reference[1], reference[2] or "") if reference else (behind.partition("/")[0], behind.partition("/")[2])
        )
        written, revision = f"@{revision}", unquote(revision)
    return Place(Repo(f"{namespace}/{name}", repo_type, revision), in_repo, f"{prefix}{namespace}/{name}{written}")


def file_place(path: str) -> Place:
    """Return the place of a file, or of a folder that is not the root.

    :raises XetInputError: it is no path in a repository.
    """
    found = place(path)
    if found is None or not found.path:
        raise XetInputError(
            f"hf://{path} names no file; expected hf://[datasets/|spaces/|buckets/]namespace/name[@revision]/path."
        )
    check_path(found.path)
    return found
