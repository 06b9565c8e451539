"""Where the Hub finds the keys of an issuer: its own in the data folder, those of others in their JWKS on the network.

Discovery follows OpenID Connect Discovery 1.0, section 4: ``{issuer}/.well-known/openid-configuration`` names the same
issuer and a ``jwks_uri``. Only the URL of an issuer that some publisher names is ever asked. How long the real Hub
keeps keys, and waits for them, is a guess.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from xethub_local.hub.hosts import is_loopback
from xethub_local.store.id_tokens import IdTokenError

DISCOVERY_PATH = "/.well-known/openid-configuration"
MAX_DOCUMENT_BYTES = 256 * 1024
TIMEOUT_SECONDS = 5.0
_KEEP_SECONDS = 300.0
_MAX_KEPT = 100


class IssuerKeys:
    """The JWKS of other issuers, each kept for five minutes.

    :param clock: seconds, for the age of what is kept.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def get(self, issuer: str, *, fresh: bool = False) -> dict[str, Any]:
        """Return the JWKS of an issuer.

        :param fresh: ask the issuer, even if its keys are kept: it may have new ones.
        :raises IdTokenError: the issuer cannot be reached within :data:`TIMEOUT_SECONDS` for each of its two documents,
            or they are not what they should be.
        """
        with self._lock:
            kept = self._kept.get(issuer)
        if kept is not None and not fresh and self._clock() - kept[0] < _KEEP_SECONDS:
            return kept[1]
        discovered = _document(issuer.rstrip("/") + DISCOVERY_PATH)
        if discovered.get("issuer") != issuer:
            raise IdTokenError(f"the discovery document of {issuer} names another issuer")
        jwks_uri = discovered.get("jwks_uri")
        if not isinstance(jwks_uri, str):
            raise IdTokenError(f"the discovery document of {issuer} names no jwks_uri")
        keys = _document(jwks_uri)
        with self._lock:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[issuer] = (self._clock(), keys)
        return keys


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it could lead to any address."""

    def redirect_request(self, *_: Any) -> None:
        """Make the redirect an error."""


# Never through a proxy, whatever the environment says: the issuers of tests are on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def _document(url: str) -> dict[str, Any]:
    """Return a JSON object; only ``https``, or ``http`` on this machine."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise IdTokenError(f"{url[:200]} is neither https nor on this machine")
        value = json.loads(_body(url))
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise IdTokenError(f"{url[:200]} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise IdTokenError(f"{url[:200]} is not a JSON object")
    return value


def _body(url: str) -> bytes:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    body = bytearray()
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked by the caller
    with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as response:
        while piece := response.read1(MAX_DOCUMENT_BYTES + 1 - len(body)):
            body += piece
            if len(body) > MAX_DOCUMENT_BYTES:
                raise IdTokenError(f"it has more than {MAX_DOCUMENT_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise IdTokenError(f"it took more than {TIMEOUT_SECONDS:.0f} seconds")
    return bytes(body)
