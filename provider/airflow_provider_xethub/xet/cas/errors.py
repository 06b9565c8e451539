"""Map errors of ``hf_xet`` to exceptions of this provider: the only module that reads its error texts.

The client reports nearly everything as ``ConnectionError``, ``RuntimeError`` or ``OSError`` with a text. The texts are
those of hf-xet 1.8; a test provokes each of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_provider_xethub.exceptions import (
    Service,
    XetCancelledError,
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
from airflow_provider_xethub.xet.message_text import capitalized, repo_in
from airflow_provider_xethub.xet.redaction import Secrets

_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
_REFUSED_URL = re.compile(r"HTTP status client error \((40[03])\b[^)]*\), domain: (\S+)")
_API = re.compile(r"/v\d+/")
_OS_ERROR = re.compile(r"([A-Z][a-z ]+) \(os error \d+\)")
_QUERY = re.compile(r"\?[^\s)\"']*")
_ANSWER = re.compile(r"decoding response body|Invalid response")
_LOST = "Data sender was dropped"
_DAMAGED = re.compile(
    r"size mismatch|unexpected end of file|uncompressed bytes, got|Format error|Chunk header parse error|"
    rf"CorruptedReconstruction|Malformed data|{_LOST}|write_vectored returned 0|range end out of bounds|"
    r"Byte range not sequential"
)
_NO_ANSWER = re.compile(
    r"error sending request for url \((\S+?)\)|HTTP status client error \(407\b[^)]*\), domain: (\S+)"
)
_NO_TOKEN = re.compile(rf"Token refresh failed|Auth error|/xet-token/|{_LOST}")
_XORB = re.compile(r"[Xx]orb (?:hash )?([0-9a-f]{64})\b")
_REFUSED = (400, 404, 422)
_MAX_TEXT = 400

_BY_STATUS: dict[int, tuple[type[XetResponseError], str]] = {
    408: (XetServerError, "the request took too long. Let the task retry later"),
    425: (XetServerError, "the request came too early. Let the task retry later"),
    401: (XetUnauthorizedError, "it rejected the Xet token. Fetch a new one"),
    403: (XetForbiddenError, "the Xet token lacks permission. Check its scope, repository and revision"),
    404: (XetNotFoundError, "it has no such file. Upload it to this repository first"),
    409: (XetServerError, "it is busy. Let the task retry later"),
    412: (XetServerError, "it is busy. Let the task retry later"),
    429: (XetRateLimitError, "too many requests. Let the task retry later, or use fewer tasks"),
}


class Unreachable(NamedTuple):
    """A server that did not respond: its URL without a path, and the service that it belongs to."""

    url: str
    service: Service


def unreachable_server(error: BaseException, cas_url: str) -> Unreachable | None:
    """Return the server that did not respond, where that is the error; ``None`` for other errors.

    The client does not report the cause, nor whether only a proxy responded. The server need not be CAS itself: data
    may be elsewhere, and the next token comes from the Hub.
    """
    found = _NO_ANSWER.search(str(error))
    parts = urlsplit((found[1] or found[2]) if found else cas_url)
    if not found or parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return Unreachable(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", "Hub" if "-token/" in parts.path else "CAS"
    )


def is_lost(error: BaseException) -> bool:
    """Return whether ``hf_xet`` reports only that no more data comes; it may report the cause when asked again."""
    return _LOST in str(error)


def lacks_token(error: BaseException) -> bool:
    """Return whether the cause is, or may be, that ``hf_xet`` got no new Xet token when the last one expired."""
    return bool(_NO_TOKEN.search(str(error)))


def refuses_shard(error: BaseException) -> bool:
    """Return whether CAS refused the shard of an upload, as it does if the shard names content that CAS lacks.

    What the real CAS says then is not known. So this is every refusal of a shard that another attempt of the same
    request would not change.
    """
    text = str(error)
    others = (_NO_ANSWER, _ANSWER, _OS_ERROR)
    if "shard" not in text.lower() or "Network error" in text or any(each.search(text) for each in others):
        return False
    status = _STATUS.search(text)
    return status is None or int(status[1]) in _REFUSED


def xorb_named_in(error: BaseException) -> str | None:
    """Return the hash of the xorb that the error is about, in hex; ``None`` if it names none."""
    found = _XORB.search(str(error))
    return found[1] if found else None


def from_client(error: BaseException, *, about: str, cas_url: str, secrets: Secrets, upload: bool) -> XetHubError:
    """Return the exception for an error of ``hf_xet``.

    :param about: the transfer, such as ``the upload of 3 files to hf://acme/m@main``.
    :param cas_url: where CAS is.
    :param secrets: removed from the text, should any occur in it.
    :param upload: the direction; decides whether an error of the operating system concerns source or destination.
    """
    text = _clean(str(error), secrets)
    if "cancelled" in text.lower() or "aborted" in text.lower():
        return XetCancelledError(
            f"Stopped from outside, and partial results were discarded. Run the task again. This ended {about}."
        )
    if "Token refresh not expected" in text:
        return XetTokenExpiredError(
            "The Xet token expired, and no connection is available to fetch a new one. Set xethub_conn_id on this "
            "task, or split the work into transfers that are shorter than the token's life. It expired during "
            f"{about}."
        )
    if refused := _refused_signed_url(text, cas_url):
        return XetTransferError(
            f"CAS's storage answered {refused} to a signed URL, which may have expired. Let the task retry; if that "
            f"does not help, check the clocks and the proxy. This ended {about}; CAS is at {cas_url}."
        )
    refresh = "Token refresh failed" in text
    if status := _STATUS.search(text):
        return from_status(int(status[1]), about, cas_url, "Hub" if refresh or "-token/" in text else "CAS")
    if "Rate limited" in text:
        return from_status(429, about, cas_url, "CAS")
    if "Server error" in text:
        return from_status(500, about, cas_url, "CAS")
    if _ANSWER.search(text):
        # Cut off, or an HTML page: the client has one text for both, and a retry can fix the first.
        return XetConnectionError(
            f"CAS returned a truncated or unexpected response. Let the task retry; if the error persists, check the "
            f"proxy. This ended {about}; CAS is at {cas_url}."
        )
    if _DAMAGED.search(text):
        return XetIntegrityError(
            f"Content of {repo_in(about)} arrived damaged or ended early. Let the task retry: {_tail(text)}. It was "
            f"discarded. This ended {about}."
        )
    if found := _OS_ERROR.search(text):
        kind = XetSourceError if upload else XetDestinationError
        what = "source" if upload else "destination"
        return kind(
            f"{found[1].strip()} on this worker. Correct that, or choose another {what}, and run the task again. This "
            f"ended {about}."
        )
    if "Network error" in text or "error sending request" in text or "Auth error" in text:
        return XetConnectionError(
            f"CAS at {cas_url} could not be reached. Check the network and the proxy. This ended {about}."
        )
    return XetTransferError(f"{capitalized(about)} failed. Let the task retry; report it if it repeats: {_tail(text)}.")


def from_status(status: int, about: str, cas_url: str, service: Service) -> XetResponseError:
    """Return the exception for an error status of CAS, or of the Hub where the client refreshes its token."""
    broken = (XetServerError, "it has a problem. Let the task retry later")
    refused = (XetResponseError, "it refused the request. Report it")
    kind, why = _BY_STATUS.get(status, broken if status >= 500 else refused)
    who, where = ("CAS", f"; CAS is at {cas_url}") if service == "CAS" else ("The Hub, asked for a new Xet token,", "")
    text = f"{who} answered {status} for {repo_in(about)}: {why}. This ended {about}{where}."
    return kind(text, service=service, status=status)


def _refused_signed_url(text: str, cas_url: str) -> str | None:
    """Return the status if it is about a URL that CAS signed: no token goes there, so no permission is missing.

    CAS signs URLs of content, which expire. The client asks for new ones about six times, and then gives up. Storage
    such as S3 answers 400 if the credential that signed it has expired, or the request stalled.
    """
    found = _REFUSED_URL.search(text)
    if not found or "-token" in found[2]:
        return None
    path = found[2].removeprefix(cas_url)
    return found[1] if path == found[2] or not _API.match(path) else None


def _clean(text: str, secrets: Secrets) -> str:
    # The query of a data URL authorises the request.
    text = _QUERY.sub("?…", secrets.hide(text))
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _tail(text: str) -> str:
    """Return the innermost part of a chain of prefixes such as ``Task error: File reconstruction error: …``."""
    return text.rpartition(" error: ")[2][:_MAX_TEXT].rstrip(".")
