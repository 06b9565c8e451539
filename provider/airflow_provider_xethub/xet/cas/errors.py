"""What a failure of ``hf_xet`` means: the one place that reads its texts.

The client reports nearly everything as ``ConnectionError``, ``RuntimeError`` or ``OSError`` with a text; the texts are
those of hf-xet 1.8, and a test provokes each of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_provider_xethub.exceptions import (
    Service,
    XetCancelledError,
    XetConflictError,
    XetConnectionError,
    XetDestinationError,
    XetForbiddenError,
    XetHubError,
    XetIntegrityError,
    XetNotFoundError,
    XetRateLimitError,
    XetResponseError,
    XetServerError,
    XetSourceError,
    XetTokenExpiredError,
    XetTransferError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.xet.message_text import capitalized
from airflow_provider_xethub.xet.redaction import Secrets

_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
_OS_ERROR = re.compile(r"([A-Z][a-z ]+) \(os error \d+\)")
_QUERY = re.compile(r"\?[^\s)\"']*")
_ANSWER = re.compile(r"decoding response body|Invalid response")
_LOST = "Data sender was dropped"
_DAMAGED = re.compile(
    r"size mismatch|unexpected end of file|uncompressed bytes, got|Format error|Chunk header parse error|"
    rf"CorruptedReconstruction|Malformed data|{_LOST}|write_vectored returned 0|range end out of bounds"
)
_NO_ANSWER = re.compile(
    r"error sending request for url \((\S+?)\)|HTTP status client error \(407\b[^)]*\), domain: (\S+)"
)
_NO_TOKEN = re.compile(rf"Token refresh failed|Auth error|/xet-token/|{_LOST}")
_MAX_TEXT = 400

_BY_STATUS: dict[int, tuple[type[XetResponseError], str]] = {
    408: (XetServerError, "the request took too long to arrive. Let the task retry later"),
    425: (XetServerError, "the request came too early. Let the task retry later"),
    401: (XetUnauthorizedError, "the Xet token is not accepted. Fetch a new one"),
    403: (XetForbiddenError, "the Xet token may not do this. Check its scope, repository and revision"),
    404: (XetNotFoundError, "it does not know this file or upload. Check that it was uploaded to this repository"),
    409: (XetConflictError, "somebody else was faster"),
    412: (XetConflictError, "somebody else was faster"),
    429: (XetRateLimitError, "too many requests. Let the task retry later, or use fewer tasks"),
}


class Silent(NamedTuple):
    """Who gave no answer: URL without a path, and whose it is."""

    url: str
    service: Service


def no_answer_from(error: BaseException, cas_url: str) -> Silent | None:
    """Return who did not answer, or only the proxy in its place, where that is what ``hf_xet`` raised.

    It does not tell why.
    Data may be elsewhere than CAS itself, and the next token comes from the Hub.
    """
    found = _NO_ANSWER.search(str(error))
    parts = urlsplit((found[1] or found[2]) if found else cas_url)
    if not found or parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return Silent(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", "Hub" if "-token/" in parts.path else "CAS")


def is_lost(error: BaseException) -> bool:
    """Whether ``hf_xet`` says only that nothing more comes: what went wrong it may tell when it is asked again."""
    return _LOST in str(error)


def lacks_token(error: BaseException) -> bool:
    """Whether ``hf_xet`` says, or may hide, that it got no Xet token for the one that expired."""
    return bool(_NO_TOKEN.search(str(error)))


def from_client(error: BaseException, *, about: str, cas_url: str, secrets: Secrets, upload: bool) -> XetHubError:
    """Return the error for what ``hf_xet`` raised.

    :param about: the transfer, such as ``the upload of 3 file(s) to hf://acme/m@main``.
    :param cas_url: where CAS is.
    :param secrets: removed from the text should they ever occur there.
    :param upload: the direction; decides whose fault an operating system error is.
    """
    text = _clean(str(error), secrets)
    if "cancelled" in text.lower() or "aborted" in text.lower():
        return XetCancelledError(f"{capitalized(about)} was stopped from outside. Nothing was kept.")
    if "Token refresh not expected" in text:
        return XetTokenExpiredError(
            f"The Xet token expired during {about}, and this worker has no connection to fetch another with. Give it "
            "one with xethub_conn_id, or split work into transfers shorter than the token's life."
        )
    refresh = "Token refresh failed" in text
    if status := _STATUS.search(text):
        return from_status(int(status[1]), about, cas_url, "Hub" if refresh or "-token/" in text else "CAS")
    if "Rate limited" in text:
        return from_status(429, about, cas_url, "CAS")
    if "Server error" in text:
        return from_status(500, about, cas_url, "CAS")
    if _ANSWER.search(text):
        # Cut off, or an HTML page: the client tells the two with one text, and the first is mended by a retry.
        return XetConnectionError(
            f"CAS at {cas_url} gave an answer that broke off or is none of CAS during {about}. Let the task retry; if "
            "it stays so, check the proxy."
        )
    if _DAMAGED.search(text):
        return XetIntegrityError(
            f"{capitalized(about)} arrived damaged or ended early: {_tail(text)}. Nothing was kept."
        )
    if found := _OS_ERROR.search(text):
        kind = XetSourceError if upload else XetDestinationError
        return kind(f"{capitalized(about)} failed on this worker: {found[1].strip().lower()}.")
    if "Network error" in text or "error sending request" in text or "Auth error" in text:
        return XetConnectionError(
            f"CAS at {cas_url} could not be reached during {about}. Check the network and the proxy."
        )
    return XetTransferError(f"{capitalized(about)} failed: {_tail(text)}.")


def from_status(status: int, about: str, cas_url: str, service: Service) -> XetResponseError:
    """Return the error for a status that CAS, or the Hub in its place, answered."""
    default = (XetServerError, "it has a problem. Let the task retry later")
    kind, why = _BY_STATUS.get(status, default if status >= 500 else (XetResponseError, "it refuses the request"))
    who = f"CAS at {cas_url}" if service == "CAS" else "The Hub, asked for the next Xet token,"
    return kind(f"{who} answered {status} during {about}: {why}.", service=service, status=status)


def _clean(text: str, secrets: Secrets) -> str:
    # Data URLs authorise themselves by their query.
    text = _QUERY.sub("?…", secrets.hide(text))
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _tail(text: str) -> str:
    """Return the innermost part of a chain of prefixes such as ``Task error: File reconstruction error: …``."""
    return text.rpartition(" error: ")[2][:_MAX_TEXT].rstrip(".")
