"""The result of the Test button: the owner of the Hub token, or the reason why it is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetProtocolError, XetResponseError
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

_STATUSES_WITHOUT_ROUTE = (400, 404, 405, 410, 501)
"""Statuses of a server that lacks the route, which every Hub has."""

_NOT_TESTED = "Not tested: which repositories it may read and write, and whether the workers reach the Hub and CAS."

_MAX_NAMED = 3
_KINDS = {"fineGrained": "fine-grained"}


def describe_credential(hub: Hub) -> str:
    """Ask a Hub once for the owner of the Hub token, and return sentences without any secret.

    :raises XetHubError: it does not respond, rejects the Hub token, or is not a Hub.
    """
    # A user waits for the result: a quick response matters more than a retry.
    hub.retries_enabled = False
    if not hub.has_token:
        if not isinstance(_ask(hub, "/api/models?limit=1", "the connection test"), list):
            raise _not_a_hub(hub, "did not return a list of models")
        return f"{hub.endpoint} responds. Without a Hub token (password), only public repositories work. {_NOT_TESTED}"
    who = _ask(hub, "/api/whoami-v2", "the whoami request")
    if not isinstance(who, dict) or not isinstance(who.get("name"), str):
        raise _not_a_hub(hub, "did not return the owner of the Hub token")
    kind = "the organization " if who.get("type") == "org" else ""
    owner = f"{kind}{hub.shown(who['name'])}"
    return f"Connected to {hub.endpoint} as {owner}, with {_credential(hub, who)}. {_NOT_TESTED}"


def _ask(hub: Hub, path: str, about: str) -> Any:
    try:
        return hub.json("GET", path, about=about)
    except XetResponseError as error:
        if error.status in _STATUSES_WITHOUT_ROUTE:
            raise _not_a_hub(hub, f"answered {error.status} to {about}") from None
        raise


def _not_a_hub(hub: Hub, what: str) -> XetProtocolError:
    return XetProtocolError(
        f"{hub.endpoint} {what}: it is not a Hub. The host of the connection must be the URL of the Hub alone, such as "
        f"{DEFAULT_ENDPOINT}, without a repository."
    )


def _credential(hub: Hub, who: Mapping[str, Any]) -> str:
    """Describe the credential: its kind, its name, and the scopes of a fine-grained one."""
    auth = _mapping(who.get("auth"))
    token = _mapping(auth.get("accessToken"))
    if not token:
        return f"a credential of the kind {hub.shown(auth.get('type') or 'unknown')}"
    role = str(token.get("role") or "unknown")
    name = hub.shown(token.get("displayName") or "without a name")
    return f"the {hub.shown(_KINDS.get(role, role))} token {name!r}{_grants(hub, token)}"


def _grants(hub: Hub, token: Mapping[str, Any]) -> str:
    """List the repositories and namespaces that a fine-grained token grants access to."""
    scoped = _mapping(token.get("fineGrained")).get("scoped")
    said = []
    for each in scoped if isinstance(scoped, list) else []:
        name = _mapping(_mapping(each).get("entity")).get("name")
        permissions = _mapping(each).get("permissions")
        if isinstance(name, str) and isinstance(permissions, list):
            may_write = any(str(permission).endswith("write") for permission in permissions)
            said.append(f"{hub.shown(name)}: {'write' if may_write else 'read'}")
    return f" ({shortened(said, _MAX_NAMED)})" if said else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
