"""The ``hf://`` URIs of Airflow assets: a repository, or a file or folder in it. Pure: no I/O.

``hf://[datasets/|spaces/|buckets/]namespace/name[@revision][/path]``. Each repository, folder or file has exactly one
URI, because Airflow compares assets by URI (and by name, which providers do not control): no ``models/``, no ``@main``,
no connection id, and one way of percent-encoding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, REPO_TYPES, URI_SCHEME, Repo, RepoType, check_path

SCHEME = "hf"
_PREFIXES = {f"{repo_type}s": repo_type for repo_type in REPO_TYPES}
_FORM = "hf://[datasets/|spaces/|buckets/]namespace/name[@revision][/path]"
_SPECIAL_REVISION = re.compile(r"refs/(?:pr|convert)/[^/]+")
READABLE = "/=@:+,!$&'()*;"
"""Characters of a path that RFC 3986 does not require to encode, so that names such as ``day=1`` stay readable."""


@dataclass(frozen=True)
class AssetPlace:
    """The repository, folder or file that an asset stands for.

    :param path: a file or folder in the repository; empty for all of it.
    """

    repo: Repo
    path: str = ""

    def __post_init__(self) -> None:
        if self.path:
            check_path(self.path)

    @property
    def uri(self) -> str:
        """The only URI of this place."""
        return f"{URI_SCHEME}{self.name}"

    @property
    def name(self) -> str:
        """The URI without its scheme, such as ``datasets/acme/corpus``; the name of the dataset in OpenLineage."""
        repo = self.repo
        revision = "" if repo.revision == DEFAULT_REVISION else f"@{repo.quoted_revision}"
        path = f"/{quote(self.path, safe=READABLE)}" if self.path else ""
        return f"{repo.web_path.lstrip('/')}{revision}{path}"

    def has(self, path: str) -> bool:
        """Return whether a path of the repository is this file, or in this folder."""
        return not self.path or path == self.path or path.startswith(f"{self.path}/")


def parse(uri: str) -> AssetPlace:
    """Return the place that an ``hf://`` URI means.

    :raises XetInputError: it is not such a URI, or one of its names breaks the Hub's rules.
    """
    return parse_parts(urlsplit(uri))


def parse_parts(parts: SplitResult) -> AssetPlace:
    """Return the place that a URI means, from the parts into which Airflow splits it.

    :raises XetInputError: see :func:`parse`. The message does not show user info.
    """
    where = parts.netloc.rpartition("@")[2]  # Airflow's own URIs have the connection id before the "@"
    shown = f"{parts.scheme}://{where}{parts.path}"
    if parts.scheme != SCHEME or not where:
        raise XetInputError(f"{shown!r} is not the URI of a repository, folder or file on the Hub; expected {_FORM}.")
    if parts.query or parts.fragment:
        raise XetInputError(f"{shown!r} contains '?' or '#'. Write them as %3F and %23.")
    segments = [where, *parts.path.strip("/").split("/")]
    repo_type = "model"
    if segments[0] in _PREFIXES:
        repo_type = _PREFIXES[segments.pop(0)]
    if len(segments) < 2 or not segments[1]:
        raise XetInputError(f"{shown!r} does not name a repository; expected {_FORM}.")
    namespace, rest = segments[0], "/".join(segments[1:])
    name, at, revision = segments[1].partition("@")
    path = rest[len(segments[1]) :].lstrip("/")
    if at and (special := _SPECIAL_REVISION.match(rest, len(name) + 1)):
        # As the clients of the Hub write them: the only revisions whose slashes need no percent-encoding.
        revision, path = special[0], rest[special.end() :].lstrip("/")
    if at and not revision:
        raise XetInputError(f"{shown!r} has an '@' without a revision; expected {_FORM}.")
    repo = Repo(f"{namespace}/{name}", cast("RepoType", repo_type), _decoded(revision, shown) or DEFAULT_REVISION)
    return AssetPlace(repo, _decoded(path, shown))


def _decoded(text: str, shown: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise XetInputError(f"{shown!r} is not percent-encoded UTF-8.") from None
