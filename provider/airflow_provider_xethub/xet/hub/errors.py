"""Map responses of the Hub to this provider's errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_provider_xethub.exceptions import (
    XetBusyError,
    XetCommitQuotaError,
    XetConnectionError,
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
from airflow_provider_xethub.xet.message_text import repo_in
from airflow_provider_xethub.xet.redaction import HIDDEN, Secrets
from airflow_provider_xethub.xet.token import unix_seconds

RETRYABLE_STATUSES = (408, 425)
"""Statuses below 500 that ask for a retry: the request took too long to arrive, or came too early."""

_CONFLICTS = (409, 412)
_MAX_SERVER_TEXT = 300
_MAX_CAUSE = 94
"""Longest cause that leaves room for the remedy within the first 100 characters of a message."""

_COMMIT_QUOTA = re.compile(r"\bcommits?\b.*\b(hour|day)|\b(hour|day)\b.*\bcommits?\b", re.IGNORECASE | re.DOTALL)
_HOUR = 3600.0
_MAX_RETRY_AFTER = 30 * 24 * _HOUR
"""Longest delay that a server can ask for, in seconds; a longer one is a mistake and could overflow a clock."""

_MAX_DIGITS = 12
# Longer than any digest, so it may be a token that is not a secret of this request, such as one for CAS.
_OPAQUE = re.compile(r"[A-Za-z0-9_.=-]{80,}")


def from_response(
    status: int,
    headers: Mapping[str, str],
    body: str,
    *,
    about: str,
    credential: str,
    secrets: Secrets,
    publisher: str | None = None,
    is_read: bool = False,
) -> XetResponseError:
    """Return the error for an unsuccessful response.

    ``X-Error-Code`` takes precedence over the status, because the Hub returns both 401 and 404 for a repository to
    which the credential has no access.

    :param about: what was requested, such as ``the read token request for hf://acme/m@main``.
    :param credential: name of the credential, such as ``connection 'xethub_default'``.
    :param secrets: removed from the text of the server.
    :param publisher: where and for whom a keyless connection needs a trusted publisher; ``None`` for a Hub token.
    :param is_read: whether the request changes nothing, so that it cannot conflict with anything for long.
    """
    code = headers.get("X-Error-Code", "")
    said = server_text(headers, body, secrets)
    repo = repo_in(about)
    asked = f" The Hub answered {status} to {about}.{said}"
    if code == "RevisionNotFound":
        error: type[XetResponseError] = XetRevisionNotFoundError
        text = f"Revision not found ({status}): {repo}. Check revision, or create the branch first."
    elif code == "EntryNotFound":
        error = XetNotFoundError
        text = f"Path not found ({status}). Check it, and the revision."
    elif code == "RepoNotFound" or status == 404:
        error = XetNotFoundError
        text = (
            f"{repo} not found ({status}). Check repo_id, repo_type and revision, and whether {credential} has access: "
            "the Hub hides a private repository from a Hub token without access."
        )
        if publisher:
            text += f" It is a keyless connection: see the trusted publishers at {publisher}."
    elif status == 401 and publisher:
        error = XetUnauthorizedError
        text = (
            f"The Hub rejected the token that it exchanged for {credential} ({status}). Check the trusted publishers "
            f"at {publisher}."
        )
    elif status == 403 and publisher:
        error = XetForbiddenError
        text = (
            f"No permission for {repo} (403): its trusted publisher may be read-only. Let it write at {publisher}. The "
            "token of a keyless connection is for one repository and never more than its publisher allows."
        )
    elif status == 401:
        error = XetUnauthorizedError
        text = (
            f"The Hub token of {credential} is missing, wrong or expired ({status}). Set a valid one in the connection "
            "(Hub token in its form, password elsewhere)."
        )
    elif status == 403:
        error = XetForbiddenError
        gated = "request access on its page, or " if code == "GatedRepo" else ""
        text = (
            f"No permission for {repo} (403): {gated}use a Hub token that has it. The Hub token of {credential} lacks "
            "permission."
        )
    elif status in _CONFLICTS and not is_read:
        error = XetBusyError
        text = f"{repo} is being changed ({status}). Let the task retry: it reads the new state."
    elif status == 429 and _COMMIT_QUOTA.search(said):
        # The RateLimit header of this response is about requests and says nothing about the limit of commits.
        return XetCommitQuotaError(
            f"The hourly limit of commits of {credential} is reached (429). Set retry_delay=timedelta(hours=1) on this "
            "task, or publish more files in one commit (XetUploadOperator with commit=False, then one "
            f"XetCommitOperator). Nothing was committed to {repo}.{asked}",
            service="Hub",
            status=status,
            retry_after=_HOUR,
        )
    elif status == 429:
        error = XetRateLimitError
        text = f"Too many requests from {credential} (429). Let the task retry later, or run fewer tasks."
    elif status >= 500 or status in (*RETRYABLE_STATUSES, *_CONFLICTS):
        error = XetServerError
        text = f"The Hub answered {status} for {repo}. Let the task retry later: the Hub has a problem."
    else:
        error = XetResponseError
        text = f"The Hub rejected a request for {repo} ({status}). Correct what it says below, or report it."
    return error(text + asked, service="Hub", status=status, retry_after=retry_after(headers))


def hides_repository(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether a response means that a repository is not accessible, rather than something in it."""
    return status in (401, 403, 404) and headers.get("X-Error-Code") not in ("EntryNotFound", "RevisionNotFound")


def parse_json(headers: Mapping[str, str], body: bytes, *, about: str, endpoint: str) -> Any:
    """Return the JSON value of a response.

    :raises XetProtocolError: the content is something else, typically the page of a proxy or of a wrong host.
    :raises XetConnectionError: it seems to have lost something on its way.
    """
    try:
        return answers.parse(body)
    except answers.NotJSONError:
        raise unreadable_response(about, endpoint, body, is_page="html" in headers.get("Content-Type", "")) from None
    except answers.WrongAnswerError as error:
        raise unexpected_response(about, endpoint, f"content that is {error}") from None


def unreadable_response(about: str, endpoint: str, body: bytes, *, is_page: bool = False) -> XetHubError:
    """Return the error for a successful response that is not JSON.

    :param is_page: whether it says to be an HTML page.
    """
    if is_page or body.lstrip()[:1] == b"<":
        return unexpected_response(about, endpoint, "an HTML page")
    return XetConnectionError(
        "The Hub's response is damaged or cut off: it is not JSON. Let the task retry; if that does not help, check "
        f"that the host of the connection is a Hub. {endpoint} answered so to {about}."
    )


@contextmanager
def reading(about: str, endpoint: str) -> Iterator[None]:
    """Turn any error that reading an unexpected response raises into a protocol error; all readers use this.

    :raises XetProtocolError: the response has unexpected content; the message names it.
    """
    try:
        yield
    except XetHubError:
        raise
    except answers.WrongAnswerError as error:
        raise unexpected_response(about, endpoint, str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise unexpected_response(about, endpoint, f"unexpected content ({type(error).__name__})") from error


def unexpected_response(about: str, endpoint: str, kind: str) -> XetProtocolError:
    """Return the error for a successful response with unexpected content."""
    what, details = f"{endpoint} did not answer like a Hub, but with {kind}.", ""
    if len(what) > _MAX_CAUSE:
        what, details = f"{endpoint} did not answer like a Hub.", f" It answered with {kind}."
    return XetProtocolError(
        f"{what} Check that the host of the connection is a Hub, not a website or the login page of a proxy.{details} "
        f"This was the answer to {about}."
    )


def server_text(headers: Mapping[str, str], body: str, secrets: Secrets) -> str:
    """Return the server's text about the error, short and on one line, as `` The Hub says: …``; else ``""``."""
    text = headers.get("X-Error-Message", "")
    if not text:
        try:
            text = _reason(answers.parse(body))
        except answers.WrongAnswerError:
            return ""
    text = shown(text, secrets)
    return f" The Hub says: {text}" if text else ""


def _reason(body: object) -> str:
    """Return the reason in the body of a response: ``error``, or the messages of ``errors``."""
    if not isinstance(body, Mapping):
        return ""
    said = [body.get("error"), body.get("errors")]
    each = [one for part in said for one in (part if isinstance(part, list) else [part])]
    texts = [one.get("message") if isinstance(one, Mapping) else one for one in each]
    return "; ".join(dict.fromkeys(str(text) for text in texts if text is not None and text != ""))


def shown(text: object, secrets: Secrets) -> str:
    """Return a text of the server in a form that may be shown: short, on one line, and without any secret."""
    said = _OPAQUE.sub(HIDDEN, secrets.hide(str(text)))
    said = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    return said[:_MAX_SERVER_TEXT] + "…" if len(said) > _MAX_SERVER_TEXT else said


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the delay in seconds that the server asks for: ``Retry-After`` (seconds or date), or ``RateLimit``.

    ``RateLimit: "api";r=0;t=55`` means that no request is allowed for 55 seconds (IETF draft, as the Hub sends it).
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return _MAX_RETRY_AFTER if len(value) > _MAX_DIGITS else min(float(value), _MAX_RETRY_AFTER)
    if value:
        seconds = unix_seconds(value)
        return None if seconds is None else min(max(0.0, seconds - time.time()), _MAX_RETRY_AFTER)
    limit = headers.get("RateLimit", "")
    remaining, reset = re.search(r"\br=(\d{1,9})\b", limit), re.search(r"\bt=(\d{1,9})\b", limit)
    if remaining and reset and int(remaining[1]) == 0:
        return min(float(reset[1]), _MAX_RETRY_AFTER)
    return None
