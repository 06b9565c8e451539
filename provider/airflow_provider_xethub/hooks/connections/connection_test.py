"""The result of the Test button: the owner of the Hub token or the identity, or the reason why it is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetProtocolError, XetResponseError
from airflow_provider_xethub.hooks.connections import credentials, plain_http
from airflow_provider_xethub.hooks.connections.credentials import Credential
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub
    from airflow_provider_xethub.xet.hub.exchanged_tokens import ExchangedTokens
    from airflow_provider_xethub.xet.repo import Repo

_STATUSES_WITHOUT_ROUTE = (400, 404, 405, 410, 501)
"""Statuses of a server that lacks the route, which every Hub has."""

_NOT_TESTED = "Not tested: which repositories it may read and write, and whether the workers reach the Hub and CAS."

_KINDS = {"fineGrained": "fine-grained"}


def describe_credential(hub: Hub, repo_id: str | None = None) -> str:
    """Ask a Hub once for the owner of the Hub token, and return sentences without any secret.

    :param repo_id: the default repository of the connection, for advice about a narrower token.
    :raises XetHubError: it does not respond, rejects the Hub token, or is not a Hub.
    """
    # A user waits for the result: a quick response matters more than a retry.
    hub.retries_enabled = False
    if not hub.has_token:
        if not isinstance(_ask(hub, "/api/models?limit=1", "the connection test"), list):
            raise _not_a_hub(hub, "did not return a list of models")
        found = f"{hub.endpoint} responds. Without a Hub token (password), only public repositories work."
        return " ".join(filter(None, [found, plain_http.advice(hub.endpoint), _NOT_TESTED]))
    who = _ask(hub, "/api/whoami-v2", "the whoami request")
    if not isinstance(who, dict) or not isinstance(who.get("name"), str):
        raise _not_a_hub(hub, "did not return the owner of the Hub token")
    kind = "the organization " if who.get("type") == "org" else ""
    owner = f"{kind}{hub.shown(who['name'])}"
    credential = Credential.of(who)
    sentences = [
        f"Connected to {hub.endpoint} as {owner}, with {_credential(hub, credential)}.",
        credentials.advice(credential, repo_id, hub.shown),
        plain_http.advice(hub.endpoint),
        _NOT_TESTED,
    ]
    return " ".join(filter(None, sentences))


def describe_identity(hub: Hub, exchanged: ExchangedTokens, repo: Repo | None) -> str:
    """Exchange the identity of a keyless connection once, and return sentences without any secret.

    :param hub: the Hub of the connection, and ``exchanged`` its tokens.
    :param repo: the connection's default repository, on which it is tried; ``None`` if it has none.
    :raises XetHubError: there is no ID token for this Hub, or the Hub does not exchange it.
    """
    hub.retries_enabled = False
    id_token = exchanged.id_token()
    who = f"the identity {exchanged.identity.name}: {id_token.described}"
    resource = exchanged.user or (exchanged.of_repo(repo) if repo else None)
    if resource is None:
        if not isinstance(_ask(hub, "/api/models?limit=1", "the connection test", anonymous=True), list):
            raise _not_a_hub(hub, "did not return a list of models")
        return (
            f"Found {who}. Its ID token is for {hub.endpoint}, which responds, and valid now. Not tried: its exchange, "
            f"because the connection has neither a default repository nor a user. {_NOT_TESTED}"
        )
    hub.exchanged_token(resource)
    if repo is not None and exchanged.user is None:
        hub.json("GET", repo.api_path, about=f"the connection test with {repo}")
    return (
        f"Connected to {hub.endpoint} with {who}. Exchanged for a token of {resource}. Not tested: other repositories, "
        "whether it may write, and whether the workers have this identity and reach the Hub and CAS."
    )


def _ask(hub: Hub, path: str, about: str, *, anonymous: bool = False) -> Any:
    try:
        return hub.json("GET", path, about=about, anonymous=anonymous)
    except XetResponseError as error:
        if error.status in _STATUSES_WITHOUT_ROUTE:
            raise _not_a_hub(hub, f"answered {error.status} to {about}") from None
        raise


def _not_a_hub(hub: Hub, what: str) -> XetProtocolError:
    return XetProtocolError(
        f"{hub.endpoint} {what}: it is not a Hub. The host of the connection must be the URL of the Hub alone, such as "
        f"{DEFAULT_ENDPOINT}, without a repository."
    )


def _credential(hub: Hub, credential: Credential) -> str:
    """Describe the credential: its kind, its name, and the scopes of a fine-grained one."""
    if not credential.is_access_token:
        return f"a credential of the kind {hub.shown(credential.kind)}"
    kind = _KINDS.get(credential.kind, credential.kind)
    name = hub.shown(credential.name or "without a name")
    return f"the {hub.shown(kind)} token {name!r}{credentials.grants(credential, hub.shown)}"
