"""Paths of the filesystem, ``[datasets/|spaces/|buckets/]namespace/name[@revision]/path``, and how they are parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, REPO_TYPES, Repo, RepoType, check_path

SCHEMES = ("hf", "xethub")
"""``xethub`` exists only in this provider, so that no other library treats its addresses specially."""

_ROOT = "[datasets/|spaces/|buckets/]namespace/name[@revision]"
_SCHEME = re.compile(rf"(?:{'|'.join(SCHEMES)})(?:://|::)")
_CONNECTION = re.compile(r"([^/@]*)@")
_UNQUOTED_REFERENCES = re.compile(r"(refs/(?:pr|convert)/[^/]+)(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True)
class HubPath:
    """A path in a repository or a bucket.

    :param repo: the repository at its revision.
    :param path: the path in it; empty for its root.
    :param root: the repository as the path of the filesystem writes it.
    """

    repo: Repo
    path: str
    root: str

    def name_of(self, path: str) -> str:
        """Return the filesystem's path of another path in this repository."""
        return f"{self.root}/{path}" if path else self.root


def connection_of(url: str) -> str | None:
    """Return the id of the connection in an address ``scheme://connection@path``."""
    found = _CONNECTION.match(_without_scheme(url))
    return (found[1] or None) if found else None


def strip(path: str) -> str:
    """Return a path without its scheme, its connection, and the slashes around it.

    The ``@`` of a revision comes after the first slash, that of a connection before it.
    """
    text = _without_scheme(path).lstrip("/")
    found = _CONNECTION.match(text)
    return (text[found.end() :] if found else text).strip("/")


def _without_scheme(path: str) -> str:
    found = _SCHEME.match(path)
    return path[found.end() :] if found else path


def parse(path: str) -> HubPath | None:
    """Parse a stripped path; return ``None`` for what is above a repository, such as a namespace.

    The revision is percent-encoded (``@refs%2Fpr%2F1``), but ``refs/pr/N`` and ``refs/convert/…`` may be written as
    they are. In the path nothing is encoded.

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
    rest, at, after = rest.partition("@")
    if not at or "/" in rest:
        name, _, in_repo = f"{rest}{at}{after}".partition("/")
        revision, written = DEFAULT_REVISION, ""
    else:
        name = rest
        reference = _UNQUOTED_REFERENCES.fullmatch(after)
        revision, in_repo = (
            (reference[1], reference[2] or "") if reference else (after.partition("/")[0], after.partition("/")[2])
        )
        written, revision = f"@{revision}", unquote(revision)
    return HubPath(Repo(f"{namespace}/{name}", repo_type, revision), in_repo, f"{prefix}{namespace}/{name}{written}")


def parse_root(path: str) -> HubPath:
    """Parse the stripped path of a repository, or of anything in it.

    :raises XetInputError: it is above a repository.
    """
    found = parse(path)
    if found is None:
        raise XetInputError(f"hf://{path} does not name a repository. Use hf://{_ROOT}.")
    return found


def parse_file(path: str) -> HubPath:
    """Parse the stripped path of a file, or of a folder that is not the root.

    :raises XetInputError: it is not a path in a repository.
    """
    found = parse(path)
    if found is None or not found.path:
        raise XetInputError(f"hf://{path} does not name a file. Use hf://{_ROOT}/path.")
    check_path(found.path)
    return found
