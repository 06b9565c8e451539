"""What the Hub's webhooks say: which branches, tags and pull requests of a repository moved to which commit. No I/O.

Source: the Hub's documentation of webhooks, payload version 3. The secret comes as ``X-Webhook-Secret``, as it is. The
body is JSON with ``event.scope``, ``repo.type``, ``repo.name``, ``repo.url.web`` and, where refs moved,
``updatedRefs``: a list of ``ref``, ``oldSha`` (``null`` for a new one) and ``newSha`` (``null`` for one that was
deleted). It has no signature, no time and no id of the delivery: only the commits tell a replay from a new event.
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
"""Bytes; a body that is larger is not read."""

MIN_SECRET = 16
"""Characters that a secret must have: it is all that stands between the endpoint and everybody."""

_SECRET = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class RefUpdate:
    """A branch, tag or pull request that points to another commit now.

    :param repo: the repository, at that branch, tag or pull request.
    :param before: id of the commit where it was.
    :param after: id of the commit where it is.
    :param commit_url: address of the page of ``after``.
    """

    repo: Repo
    before: str
    after: str
    commit_url: str


class WebhookSecrets:
    """The secrets that a webhook may come with; kept as digests only.

    :param text: one secret, or several with commas between them, while one takes the place of another.
    :raises XetInputError: one is too short, or cannot be in an HTTP header. The message does not show it.
    """

    def __init__(self, text: str) -> None:
        secrets = [part.strip() for part in text.split(",") if part.strip()]
        if any(len(secret) < MIN_SECRET or not _SECRET.fullmatch(secret) for secret in secrets):
            raise XetInputError(
                f"a webhook secret must have at least {MIN_SECRET} ASCII characters, without blanks; "
                "a comma separates two secrets."
            )
        self._digests = [_digest(secret) for secret in secrets]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def matches(self, given: str) -> bool:
        """Whether ``given`` is one of them; takes the same time whatever it is."""
        digest = _digest(given)
        # All are compared, so that the time does not tell which one it was either.
        return sum(hmac.compare_digest(digest, each) for each in self._digests) > 0


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def parse_ref_updates(body: bytes) -> list[RefUpdate]:
    """Return what moved, each once; nothing where the event is about something else.

    A ref that is new or was deleted is left out: as for a watcher, a branch begins with the commit it is created at.

    :raises XetInputError: the body is not what the Hub sends. The message names the field, and not its value.
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
            continue  # a type or name that no asset can have, such as a repository without a namespace
        if at.is_bucket or not before or not after or before == after:
            continue
        move = RefUpdate(at, before, after, f"{_page(repo, at)}/commit/{after}")
        # One push moves a branch once. Each move costs questions to the database, and some to the Hub.
        if found.setdefault(at, move) != move:
            raise _wrong(where, "the only move of its ref")
    return list(found.values())


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        payload = answers.parse(body)
    except answers.WrongAnswerError as error:
        raise XetInputError(f"the body is {error}.") from None
    if not isinstance(payload, dict):
        raise XetInputError("the body is not a JSON object.")
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
        raise _wrong(f"{where}{name}", "a text") from None


def _oid(of: dict[str, Any], name: str, where: str) -> str | None:
    value = of.get(name)
    if value is not None and not (isinstance(value, str) and COMMIT_ID.fullmatch(value)):
        raise _wrong(f"{where}.{name}", "null or the 40 hex digits of a commit")
    return value


def _wrong(name: str, expected: str) -> XetInputError:
    return XetInputError(f"{name} is not {expected}: this is not the body of a webhook of the Hub.")


def _revision(ref: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/"):
        if ref.startswith(prefix):
            return ref[len(prefix) :]
    return ref


def _page(repo: dict[str, Any], at: Repo) -> str:
    """Return the address of the repository's page: the body's, where it is one."""
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


def event_payloads(move: RefUpdate, history: Iterable[Any]) -> list[dict[str, Any]]:
    """Return what a watcher would tell of a move: one payload for each commit, oldest first, with ``previous``.

    :param history: the newest commits at ``move.after``, newest first, back to ``move.before``; empty where the Hub
        could not be asked. Then there is one payload, and title and description are empty.
    """
    new = list(history)
    oids = [commit["oid"] for commit in new]
    if move.before in oids:
        new = new[: oids.index(move.before)]
    if not new or new[0]["oid"] != move.after:
        new = [{"oid": move.after, "url": move.commit_url, "title": "", "description": ""}]
    elif move.before not in oids:
        new = new[:1]  # the history was rewritten, or is too long: only the newest, as a watcher does
    told, previous = [], move.before
    for commit in reversed(new):
        told.append({**commit, "repo": move.repo.uri, "previous": previous})
        previous = commit["oid"]
    return told
