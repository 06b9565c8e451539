"""References and commits as values, and the names that references have."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from xethub_local.repo import DEFAULT_REVISION

HEADS, TAGS, PULLS = "refs/heads/", "refs/tags/", "refs/pr/"


@dataclass(frozen=True)
class Ref:
    """A branch, tag or pull request: full name such as ``refs/heads/main``, and the id of its commit."""

    ref: str
    commit: str
    message: str = ""


@dataclass(frozen=True)
class Commit:
    """A commit. ``created`` in UNIX seconds."""

    id: str
    parent: str | None
    tree: str
    title: str
    message: str
    author: str
    created: float


def new_commit_id() -> str:
    """Return a new commit id: 40 random hex digits, so that files can refer to it before the commit is stored."""
    return secrets.token_hex(20)


def matching_refs(revision: str) -> tuple[str, ...]:
    """Return the full names of the references that ``revision`` may mean, the most likely first."""
    if revision == "HEAD":
        return (HEADS + DEFAULT_REVISION,)
    if revision.startswith("refs/"):
        return (revision,)
    return (HEADS + revision, TAGS + revision)
