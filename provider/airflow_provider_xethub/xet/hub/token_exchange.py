"""Exchange an ID token for a Hub token of one repository: ``POST /oauth/token`` (RFC 8693).

Source of the request and of its responses: the Hub's page about trusted publishers, ``huggingface_hub`` 2.4
(``_oidc.py``), and RFC 6749, section 5 (fields of a response, error codes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import requests

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetIdentityError,
    XetPublisherError,
    XetRedirectError,
)
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub import errors as hub_errors
from airflow_provider_xethub.xet.hub.resources import Resource
from airflow_provider_xethub.xet.identity.jwt import IdToken

PATH = "/oauth/token"

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_SUBJECT = "urn:ietf:params:oauth:token-type:id_token"

_MAX_CHARS = 64_000
_DEFAULT_LIFETIME = 300.0
"""Seconds that a token counts as valid where the response does not say how long it is; RFC 6749 allows that."""

_MAX_LIFETIME = 24 * 3600.0
_REFUSED = (400, 401, 403)
_WITHOUT_ROUTE = (404, 405, 410, 501)
_RETRYABLE = (429, *hub_errors.RETRYABLE_STATUSES)

Send = Callable[[str, dict[str, str]], requests.Response]
"""Sends a JSON body to a path, without any credential and without following a redirect."""


@dataclass(frozen=True)
class ExchangedToken:
    """A Hub token that is for one resource.

    :param text: the token, a secret.
    :param lifetime: seconds from the moment of the request.
    """

    text: str = field(repr=False)
    lifetime: float

    def __reduce__(self) -> NoReturn:
        raise TypeError("An exchanged token cannot be pickled. Pickle the hook, or its connection ID.")


def exchange(
    id_token: IdToken,
    resource: Resource,
    send: Send,
    response_error: Callable[[requests.Response, str], XetHubError],
    *,
    source: str,
) -> ExchangedToken:
    """Exchange an ID token. One request; the caller retries.

    :param id_token: as checked for the Hub that ``send`` reaches.
    :param resource: what the token is to be for.
    :param send: sends the request.
    :param response_error: makes an error of a response, and of what it was requested for.
    :param source: name of the identity, for messages.
    :raises XetPublisherError: the Hub refuses: it has no trusted publisher for this ID token and resource.
    :raises XetIdentityError: this Hub does not exchange ID tokens.
    :raises XetHubError: no response, 429, 5xx or an unexpected one.
    """
    about = f"the exchange of the ID token of {source} for {resource}"
    body = {
        "grant_type": _GRANT,
        "subject_token_type": _SUBJECT,
        "subject_token": id_token.text,
        "resource": resource.text,
    }
    response = send(about, body)
    status, endpoint = response.status_code, id_token.audience
    if (status >= 500 and status not in _WITHOUT_ROUTE) or status in _RETRYABLE:
        raise response_error(response, about)
    if 300 <= status < 400:
        raise XetRedirectError(
            f"{endpoint} redirects {about} ({status}). The ID token is not sent elsewhere. Set the host of the "
            "connection to the URL of the Hub itself.",
            status=status,
        )
    if status in _REFUSED:
        raise _refusal(id_token, resource, response, source)
    if status in _WITHOUT_ROUTE:
        raise XetIdentityError(
            f"{endpoint} does not exchange ID tokens ({status} for {PATH}). Use a connection with a Hub token, or "
            "correct its host."
        )
    if not response.ok:
        raise response_error(response, about)
    content = hub_errors.parse_json(response.headers, response.content, about=about, endpoint=endpoint)
    with hub_errors.reading(about, endpoint):
        return _token(answers.mapping(content, "JSON"), id_token)


def _token(fields: Any, id_token: IdToken) -> ExchangedToken:
    token, kind, lifetime = (fields.get(name) for name in ("access_token", "token_type", "expires_in"))
    is_token = isinstance(token, str) and 0 < len(token) <= _MAX_CHARS and all("!" <= char <= "~" for char in token)
    if not is_token or token == id_token.text:
        raise answers.WrongAnswerError("a field 'access_token' that is not a token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise answers.WrongAnswerError("a field 'token_type' that is not 'bearer'")
    if lifetime is None:
        return ExchangedToken(token, _DEFAULT_LIFETIME)
    if not isinstance(lifetime, (int, float)) or isinstance(lifetime, bool) or not lifetime > 0:
        raise answers.WrongAnswerError("a field 'expires_in' that is not a number of seconds")
    return ExchangedToken(token, min(float(lifetime), _MAX_LIFETIME))


def _refusal(id_token: IdToken, resource: Resource, response: requests.Response, source: str) -> XetPublisherError:
    """Return the error for a Hub that issues no token; it does not say why."""
    code = _code(response)
    request_id = response.headers.get("x-request-id", "")
    is_plain = 0 < len(request_id) <= 100 and request_id.isprintable()
    support = f" Its support asks for x-request-id {request_id}." if is_plain else ""
    return XetPublisherError(
        f"The Hub has no trusted publisher in {resource} for this worker ({response.status_code}{code}). Add one at "
        f"{resource.settings_url(id_token.audience)} with {id_token.described}. If there is one, its claims differ; or "
        f"{resource} does not exist, or the Hub cannot reach the issuer or does not accept its signature: it does not "
        f"say which. The ID token is that of {source}.{support}"
    )


def _code(response: requests.Response) -> str:
    """Return the OAuth error code of a response, if it is one: a short name, which cannot repeat a token."""
    try:
        code = answers.parse(response.content).get("error")
    except (answers.WrongAnswerError, AttributeError):
        return ""
    is_code = isinstance(code, str) and len(code) <= 40 and code.replace("_", "").isalpha()
    return f", {code}" if is_code else ""
