"""``POST /oauth/token``: exchanges an ID token for a Hub token (RFC 8693); and the local Hub's own issuer.

Source: the Hub's documentation of Trusted Publishers, and ``huggingface_hub`` 2.4 (``_oidc.py``). The Hub answers 400
in the style of OAuth and does not say which check failed; this server writes the reason into its log.

Guesses, because the documentation does not say: forms are accepted beside JSON, as RFC 8693 has it; another
``grant_type`` is ``unsupported_grant_type`` (RFC 6749); what is no JWT, and an issuer that cannot be reached, are
``invalid_grant``; the wording of ``error_description``; that an ``Authorization`` header is ignored.
"""

from __future__ import annotations

import logging
import sqlite3
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.hub.hosts import is_loopback
from xethub_local.hub.issuer_keys import DISCOVERY_PATH, IssuerKeys
from xethub_local.hub.request import HubBackend, HubRequest, hub_route
from xethub_local.store.errors import BadRequestError
from xethub_local.store.id_tokens import IdTokenError, issuer_of, verified_claims
from xethub_local.store.issuer import ISSUER_ALGORITHMS, ISSUER_PATH, Issuer
from xethub_local.store.publishers import OWN_ISSUER, Publisher, Publishers, Resource

PATH = "/oauth/token"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
_KEYS_PATH = f"{ISSUER_PATH}/keys"
_MAX_BODY = 64 * 1024
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_DESCRIPTIONS = {
    "invalid_request": "The request is missing a required parameter or is otherwise malformed",
    "invalid_grant": "The provided authorization grant is invalid",
    "unsupported_grant_type": "The grant type is not supported",
}

log = logging.getLogger(__name__)


class _RefusedError(Exception):
    """The exchange is refused. The text is for the log of this server only."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error


def routes(hub: HubBackend, publishers: Publishers, issuer: Issuer) -> list[Route]:
    """Return the routes."""
    exchange_route = partial(exchange, publishers, issuer, IssuerKeys())
    return [
        hub_route(hub, PATH, exchange_route, "POST", max_body=_MAX_BODY, identifies=False),
        hub_route(hub, ISSUER_PATH + DISCOVERY_PATH, discover, "GET", identifies=False),
        hub_route(hub, _KEYS_PATH, partial(list_keys, issuer), "GET", identifies=False),
    ]


def exchange(publishers: Publishers, issuer: Issuer, keys: IssuerKeys, request: HubRequest) -> Response:
    """Exchange an ID token for a Hub token of one repository, or of the gated repositories of one user."""
    try:
        token, resource = _parameters(request)
        publisher, claims = _accepted(publishers, issuer, keys, request, token, resource)
        access_token, lifetime = _issued(request, publisher, claims)
    except _RefusedError as refusal:
        log.info("Refused to exchange an ID token (%s): %s.", refusal.error, refusal)
        return JSONResponse({"error": refusal.error, "error_description": _DESCRIPTIONS[refusal.error]}, 400, _NO_STORE)
    publishers.mark_used(publisher.id)
    return JSONResponse(
        {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": lifetime,
            "issued_token_type": ACCESS_TOKEN_TYPE,
        },
        headers=_NO_STORE,
    )


def discover(request: HubRequest) -> Response:
    """Describe the local Hub's own issuer, which stands for a cluster, a cloud or a CI system."""
    return JSONResponse(
        {
            "issuer": request.origin + ISSUER_PATH,
            "jwks_uri": request.origin + _KEYS_PATH,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(ISSUER_ALGORITHMS),
        }
    )


def list_keys(issuer: Issuer, _: HubRequest) -> Response:
    """Return the public keys of the local Hub's own issuer as a JWKS."""
    return JSONResponse(issuer.jwks())


def _parameters(request: HubRequest) -> tuple[str, Resource]:
    """Return the ID token and the resource of a request."""
    try:
        body = request.form_or_json()
    except BadRequestError as error:
        raise _RefusedError("invalid_request", error.message) from error
    given: dict[str, str] = {}
    for name in ("grant_type", "subject_token_type", "subject_token", "resource"):
        value = body.get(name)
        if isinstance(value, list) and len(value) == 1:  # of a form
            value = value[0]
        if not isinstance(value, str) or not value:
            raise _RefusedError("invalid_request", f"the parameter {name} is missing or not a string")
        given[name] = value
    if given["grant_type"] != GRANT_TYPE:
        raise _RefusedError("unsupported_grant_type", f"grant_type is {given['grant_type'][:100]!r}")
    if given["subject_token_type"] != ID_TOKEN_TYPE:
        raise _RefusedError("invalid_request", f"subject_token_type is {given['subject_token_type'][:100]!r}")
    try:
        return given["subject_token"], Resource.parse(given["resource"])
    except ValueError as error:
        raise _RefusedError("invalid_request", str(error)) from error


def _accepted(
    publishers: Publishers, issuer: Issuer, keys: IssuerKeys, request: HubRequest, token: str, resource: Resource
) -> tuple[Publisher, dict[str, Any]]:
    """Return the publisher that accepts an ID token, and the token's claims."""
    found = publishers.find(resource)
    if not found:
        raise _RefusedError("invalid_grant", f"{resource} does not exist, or has no publishers")
    try:
        name = issuer_of(token)
        is_own = _is_own(request, name)
        of_issuer = [each for each in found if each.issuer == name or (is_own and each.issuer == OWN_ISSUER)]
        if not of_issuer:
            raise _RefusedError("invalid_grant", f"no publisher of {resource} names the issuer {name[:200]!r}")
        claims = _verified(issuer, None if is_own else keys, request, token, name)
    except IdTokenError as error:
        raise _RefusedError("invalid_grant", f"the ID token for {resource} is not valid: {error}") from error
    matching = [publisher for publisher in of_issuer if publisher.matches(claims)]
    if not matching:
        raise _RefusedError("invalid_grant", f"the claims of the ID token match no publisher of {resource}")
    # Two publishers may match; which one the real Hub takes is not known. The stronger one is the more useful.
    return min(matching, key=lambda publisher: publisher.read_only), claims


def _issued(request: HubRequest, publisher: Publisher, claims: dict[str, Any]) -> tuple[str, int]:
    access = request.hub.access
    try:
        return access.exchanged_tokens.issue(
            publisher, issuer=claims["iss"], subject=claims["sub"], lifetime=access.exchanged_token_lifetime
        )
    except sqlite3.IntegrityError as error:
        raise _RefusedError("invalid_grant", f"{publisher.resource} was deleted in the meantime") from error


def _verified(issuer: Issuer, keys: IssuerKeys | None, request: HubRequest, token: str, name: str) -> dict[str, Any]:
    check = partial(verified_claims, token, issuer=name, audience=request.origin, now=request.hub.access.now())
    try:
        if keys is None:
            return check(issuer.jwks())
        try:
            return check(keys.get(name))
        except KeyError:
            return check(keys.get(name, fresh=True))
    except KeyError as error:
        raise IdTokenError(f"the issuer has no key {error}") from error


def _is_own(request: HubRequest, issuer: str) -> bool:
    """Return whether a URL is that of this server's own issuer, under any name of this machine."""
    base = issuer.removesuffix(ISSUER_PATH)
    if base == issuer:
        return False
    if base == request.origin:
        return True
    try:
        parts = urlsplit(base)
        server = request.http.scope.get("server") or (None, None)
        return base == f"http://{parts.netloc}" and is_loopback(parts.hostname or "") and parts.port == server[1]
    except ValueError:
        return False
