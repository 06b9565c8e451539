"""What an answer of the Hub means: the one place that maps it to this provider's errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_provider_xethub.exceptions import (
    XetCommitQuotaError,
    XetConflictError,
    XetForbiddenError,
    XetHubError,
    XetNotFoundError,
    XetProtocolError,
    XetRateLimitError,
    XetResponseError,
    XetRevisionNotFoundError,
    XetServerError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.redaction import HIDDEN, Secrets
from airflow_provider_xethub.xet.token import unix_seconds

PASSING = (408, 425)
"""Answers below 500 that say to ask again: the request took too long to arrive, or came too early."""

_MAX_SERVER_TEXT = 300
_COMMIT_QUOTA = re.compile(r"\bcommits?\b.*\b(hour|day)|\b(hour|day)\b.*\bcommits?\b", re.IGNORECASE | re.DOTALL)
_HOUR = 3600.0
_LONGEST_ASKED = 30 * 24 * _HOUR
"""Seconds that a server can ask to wait; what is longer is a mistake, and no clock could add it up."""

_MAX_DIGITS = 12
# Longer than any digest: it may be a token, such as one for CAS, which is not this request's own secret.
_OPAQUE = re.compile(r"[A-Za-z0-9_.=-]{80,}")


def from_response(
    status: int, headers: Mapping[str, str], body: str, *, about: str, credential: str, secrets: Secrets
) -> XetResponseError:
    """Return the error for an answer that is not a success.

    ``X-Error-Code`` decides before the status, because the Hub answers both 401 and 404 for a repository that the
    credential may not see.

    :param about: what was asked, such as ``the read token request for hf://acme/m@main``.
    :param credential: how to call the credential, such as ``connection 'xethub_default'``.
    :param secrets: removed from whatever the server says.
    """
    code = headers.get("X-Error-Code", "")
    said = server_text(headers, body, secrets)
    what = f"The Hub answered {status} to {about}"
    if code == "RevisionNotFound":
        error: type[XetResponseError] = XetRevisionNotFoundError
        text = f"{what}: this revision does not exist. Check the revision, or create the branch first.{said}"
    elif code == "EntryNotFound":
        error = XetNotFoundError
        text = f"{what}: this path does not exist there.{said}"
    elif code == "RepoNotFound" or status == 404:
        error = XetNotFoundError
        text = (
            f"{what}: it does not exist, or {credential} may not see it. Check repo_id, repo_type and revision, and "
            f"that the Hub token has access.{said}"
        )
    elif status == 401:
        error = XetUnauthorizedError
        text = (
            f"{what}: the Hub token of {credential} is missing, wrong or expired. Put a valid one into the "
            f"connection (Hub token in its form, password elsewhere).{said}"
        )
    elif status == 403:
        error = XetForbiddenError
        gated = " Ask for access on the repository's page." if code == "GatedRepo" else ""
        text = f"{what}: the Hub token of {credential} may not do this. Give it a token that may.{gated}{said}"
    elif status in (409, 412):
        error = XetConflictError
        text = f"{what}: somebody else was faster, or it exists already.{said}"
    elif status == 429 and _COMMIT_QUOTA.search(said):
        # Its RateLimit header is about requests, of which plenty are left, and says nothing about this limit.
        return XetCommitQuotaError(
            f"{what}: the commits that {credential} may make in an hour are used up. Nothing was committed. Publish "
            "more files in one commit (XetUploadOperator with commit=False, then one XetCommitOperator), and set "
            f"retry_delay=timedelta(hours=1) on this task.{said}",
            service="Hub",
            status=status,
            retry_after=_HOUR,
        )
    elif status == 429:
        error = XetRateLimitError
        text = f"{what}: too many requests from {credential}. Let the task retry later, or use fewer tasks.{said}"
    elif status >= 500 or status in PASSING:
        error = XetServerError
        text = f"{what}: the Hub has a problem. Let the task retry later.{said}"
    else:
        error = XetResponseError
        text = f"{what}.{said}"
    return error(text, service="Hub", status=status, retry_after=retry_after(headers))


def parse_json(headers: Mapping[str, str], body: bytes, *, about: str, endpoint: str) -> Any:
    """Return the JSON value of an answer.

    :raises XetProtocolError: it is something else, typically the page of a proxy or of a wrong host.
    """
    try:
        return answers.parse(body)
    except answers.WrongAnswerError as error:
        kind = "an HTML page" if "html" in headers.get("Content-Type", "") else f"something that is {error}"
        raise unexpected_response(about, endpoint, kind) from None


@contextmanager
def reading(about: str, endpoint: str) -> Iterator[None]:
    """Turn whatever an unexpected answer makes its reader raise into a protocol error: the one door for all readers.

    :raises XetProtocolError: the answer is not what was asked for; says what of it.
    """
    try:
        yield
    except XetHubError:
        raise
    except answers.WrongAnswerError as error:
        raise unexpected_response(about, endpoint, str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise unexpected_response(about, endpoint, f"something unexpected ({type(error).__name__})") from error


def unexpected_response(about: str, endpoint: str, kind: str) -> XetProtocolError:
    """Return the error for a success whose content is wrong."""
    return XetProtocolError(
        f"The Hub at {endpoint} answered {about} with {kind}. Check that the host of the connection is a Hub, and not "
        "a web page or a proxy's login."
    )


def server_text(headers: Mapping[str, str], body: str, secrets: Secrets) -> str:
    """Return what the server says about the error, short and on one line, as `` The Hub says: …``; or nothing."""
    text = headers.get("X-Error-Message", "")
    if not text:
        try:
            text = _reason(answers.parse(body))
        except answers.WrongAnswerError:
            return ""
    text = shown(text, secrets)
    return f" The Hub says: {text}" if text else ""


def _reason(body: object) -> str:
    """Return what an answer gives as its reason: ``error``, or the messages of ``errors``."""
    if not isinstance(body, Mapping):
        return ""
    said = [body.get("error"), body.get("errors")]
    each = [one for part in said for one in (part if isinstance(part, list) else [part])]
    texts = [one.get("message") if isinstance(one, Mapping) else one for one in each]
    return "; ".join(dict.fromkeys(str(text) for text in texts if text is not None and text != ""))


def shown(text: object, secrets: Secrets) -> str:
    """Return what the server says in a form that may be shown: short, on one line, and without any secret."""
    said = _OPAQUE.sub(HIDDEN, secrets.hide(str(text)))
    said = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    return said[:_MAX_SERVER_TEXT] + "…" if len(said) > _MAX_SERVER_TEXT else said


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds the server asks to wait: ``Retry-After`` (seconds or date), or ``RateLimit``.

    ``RateLimit: "api";r=0;t=55`` says that none is left for 55 seconds (IETF draft, as the Hub sends it).
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return _LONGEST_ASKED if len(value) > _MAX_DIGITS else min(float(value), _LONGEST_ASKED)
    if value:
        seconds = unix_seconds(value)
        return None if seconds is None else min(max(0.0, seconds - time.time()), _LONGEST_ASKED)
    limit = headers.get("RateLimit", "")
    remaining, reset = re.search(r"\br=(\d{1,9})\b", limit), re.search(r"\bt=(\d{1,9})\b", limit)
    if remaining and reset and int(remaining[1]) == 0:
        return min(float(reset[1]), _LONGEST_ASKED)
    return None
