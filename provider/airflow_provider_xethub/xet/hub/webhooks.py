"""Parse the Hub's webhooks: which branches, tags and pull requests of a repository point to new commits. No I/O.

Source: the Hub's documentation of webhooks, payload version 3. The header ``X-Webhook-Secret`` contains the secret in
clear text. The body is JSON with ``event.scope``, ``repo.type``, ``repo.name``, ``repo.url.web`` and, if refs were
updated, ``updatedRefs``: a list of ``ref``, ``oldSha`` (``null`` for a new ref) and ``newSha`` (``null`` for a deleted
ref). It has no signature, no time and no delivery ID: only the commits distinguish a replay from a new event.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlsplit

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.repo import Repo, RepoType
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT, origin

MAX_BODY = 1024 * 1024
"""Largest body in bytes; a larger one is not read."""

MIN_SECRET = 16
"""Shortest secret in characters: the secret is the only protection of the endpoint."""

_SECRET = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class RefUpdate:
    """Describe a branch, tag or pull request that points to another commit.

    :param repo: the repository, at that branch, tag or pull request.
    :param before: ID of the commit before the update.
    :param after: ID of the commit after the update.
    :param commit_url: URL of the page of ``after``.
    """

    repo: Repo
    before: str
    after: str
    commit_url: str


class WebhookSecrets:
    """Check the secret of a webhook against those that are valid; only digests are kept in memory.

    :param text: one secret, or several separated by commas during a rotation.
    :raises XetInputError: a secret is too short, or not valid in an HTTP header. The message does not show it.
    """

    def __init__(self, text: str) -> None:
        secrets = [part.strip() for part in text.split(",") if part.strip()]
        if any(len(secret) < MIN_SECRET or not _SECRET.fullmatch(secret) for secret in secrets):
            raise XetInputError(
                f"a webhook secret must have at least {MIN_SECRET} ASCII characters and no spaces. "
                "A comma separates two secrets."
            )
        self._digests = [_digest(secret) for secret in secrets]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def matches(self, given: str) -> bool:
        """Return whether ``given`` is one of the secrets, in constant time."""
        digest = _digest(given)
        # All are compared, so that the time does not reveal which one matched.
        return sum(hmac.compare_digest(digest, each) for each in self._digests) > 0


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def parse_ref_updates(body: bytes) -> list[RefUpdate]:
    """Return the updated refs, each once; an empty list if the event is about something else.

    New and deleted refs are skipped: as for a watcher, a branch starts with the commit at which it was created.

    :raises XetInputError: the body is not that of a webhook. The message names the field, but not its value.
    """
    payload = _parsed(body)
    scope = _text(_field(payload, "event", dict), "scope", "event.")
    repo = _field(payload, "repo", dict)
    repo_type, name = _text(repo, "type", "repo."), _text(repo, "name", "repo.")
    updated = payload.get("updatedRefs")
    if updated is None or scope.partition(".")[0] != "repo":
        return []
    if not isinstance(updated, list):
        raise _wrong("updatedRefs", "a list")
    found: dict[Repo, RefUpdate] = {}
    for number, each in enumerate(updated):
        where = f"updatedRefs[{number}]"
        if not isinstance(each, dict):
            raise _wrong(where, "an object")
        ref, before, after = _text(each, "ref", f"{where}."), _oid(each, "oldSha", where), _oid(each, "newSha", where)
        try:
            at = Repo(name, cast("RepoType", repo_type), _revision(ref))
        except XetInputError:
            continue  # no asset can have this type or name, such as a repository without a namespace
        if at.is_bucket or not before or not after or before == after:
            continue
        update = RefUpdate(at, before, after, f"{_page(repo, at)}/commit/{after}")
        # A push updates a branch once. Each update costs queries of the database and requests to the Hub.
        if found.setdefault(at, update) != update:
            raise _wrong(where, "the only update of its ref")
    return list(found.values())


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        payload = answers.parse(body)
    except answers.WrongAnswerError as error:
        raise XetInputError(f"The body is {error}.") from None
    if not isinstance(payload, dict):
        raise XetInputError("The body is not a JSON object.")
    return payload


def _field(of: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(of.get(name), kind):
        raise _wrong(name, "an object")
    return of[name]


def _text(of: dict[str, Any], name: str, where: str) -> str:
    value = of.get(name)
    try:
        return answers.identifier(value, name)
    except answers.WrongAnswerError:
        raise _wrong(f"{where}{name}", "a string") from None


def _oid(of: dict[str, Any], name: str, where: str) -> str | None:
    value = of.get(name)
    if value is not None and not (isinstance(value, str) and COMMIT_ID.fullmatch(value)):
        raise _wrong(f"{where}.{name}", "null or the 40 hex digits of a commit")
    return value


def _wrong(name: str, expected: str) -> XetInputError:
    return XetInputError(f"{name} is not {expected}, so this is not the body of a Hub webhook.")


def _revision(ref: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/"):
        if ref.startswith(prefix):
            return ref[len(prefix) :]
    return ref


def _page(repo: dict[str, Any], at: Repo) -> str:
    """Return the URL of the repository's page: the one in the body, if it is valid."""
    urls = repo.get("url")
    page = urls.get("web") if isinstance(urls, dict) else None
    try:
        parts = urlsplit(page) if isinstance(page, str) else None
        if parts is not None:
            origin(str(page))
    except ValueError:
        parts = None
    if parts is None or not parts.path.endswith(at.web_path):
        return f"{DEFAULT_ENDPOINT}{at.web_path}"
    return f"{parts.scheme}://{parts.netloc}{quote(parts.path, errors='replace')}"


def event_payloads(update: RefUpdate, history: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the payloads that a watcher would report: one for each commit, oldest first, with ``previous``.

    :param update: the updated ref.
    :param history: the commits at ``update.after``, newest first, back to ``update.before``. If it is empty because the
        Hub was not asked, there is one payload with an empty title and description.
    """
    new = list(history)
    oids = [commit["oid"] for commit in new]
    if update.before in oids:
        new = new[: oids.index(update.before)]
    if not new or new[0]["oid"] != update.after:
        new = [{"oid": update.after, "url": update.commit_url, "title": "", "description": ""}]
    elif update.before not in oids:
        new = new[:1]  # the history was rewritten or is too long: only the newest commit, like a watcher
    payloads, previous = [], update.before
    for commit in reversed(new):
        payloads.append({**commit, "repo": update.repo.uri, "previous": previous})
        previous = commit["oid"]
    return payloads
