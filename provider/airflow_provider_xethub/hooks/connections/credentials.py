"""What the Hub says about a Hub token: its kind and what it allows, and what of that no task needs. No I/O.

The shape is that of ``GET /api/whoami-v2`` in the Hub's OpenAPI document: ``auth.accessToken`` has a ``role``, which is
``read``, ``write``, ``fineGrained`` or ``god``, and a fine-grained one lists its permissions, each scope for one
repository, user or organization. Other credentials, such as OAuth tokens, have no ``accessToken``. What the Hub says
about a token that it exchanged for an ID token is not documented: such a token is recognised by its prefix, which is a
guess as far as whoami is concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.xet.message_text import shortened

FINE_GRAINED = "fineGrained"
OAUTH = "oauth"
EXCHANGED_PREFIX = "hf_jwt_"
"""How tokens begin that the Hub exchanged for an ID token: each is for one repository, and lives for an hour."""

READ, WRITE, PULL_REQUEST = "repo.content.read", "repo.write", "discussion.write"
"""Permissions that tasks need: to download, list and wait; to upload and commit; to open pull requests."""

_NEEDED = {READ, WRITE, PULL_REQUEST}
_OWNERS = ("user", "org")
_MAX_NAMED = 3
_NAMES = {
    "read": "a classic read token",
    "write": "a classic write token",
    FINE_GRAINED: "a fine-grained token",
    OAUTH: "an OAuth token",
}


@dataclass(frozen=True)
class Grant:
    """What a fine-grained token allows for one repository, or for all of a user or organization.

    :param entity: ``user``, ``org``, ``model``, ``dataset``, ``space``, ``bucket`` and others.
    """

    entity: str
    name: str
    permissions: tuple[str, ...]

    @property
    def is_for_all(self) -> bool:
        """Whether it covers all repositories of an owner."""
        return self.entity in _OWNERS and bool(_NEEDED & {*self.permissions})


@dataclass(frozen=True)
class Credential:
    """What the Hub says about a Hub token.

    :param kind: the role of an access token, or the way that another credential was obtained.
    :param name: what its owner calls it; empty if it has no name.
    :param grants: what a fine-grained token allows.
    :param everywhere: permissions of a fine-grained token that are not for single repositories or owners.
    :param is_access_token: whether its owner made it in the settings of an account.
    """

    kind: str
    name: str = ""
    grants: tuple[Grant, ...] = ()
    everywhere: tuple[str, ...] = ()
    is_access_token: bool = False

    @classmethod
    def of(cls, who: Mapping[str, Any]) -> Credential:
        """Read the response to a whoami request; parts with an unexpected shape are left out."""
        auth = _mapping(who.get("auth"))
        token = _mapping(auth.get("accessToken"))
        if not token:
            return cls(str(auth.get("type") or "unknown"))
        fine = _mapping(token.get("fineGrained"))
        grants = (_grant(_mapping(each)) for each in _list(fine.get("scoped")))
        return cls(
            str(token.get("role") or "unknown"),
            str(token.get("displayName") or ""),
            tuple(grant for grant in grants if grant),
            tuple(map(str, _list(fine.get("global")))),
            is_access_token=True,
        )

    @property
    def is_fine_grained(self) -> bool:
        """Whether it allows only what somebody chose."""
        return self.is_access_token and self.kind == FINE_GRAINED

    @property
    def shown_kind(self) -> str:
        """Its kind with an article, for a sentence."""
        return _NAMES.get(self.kind, f"a credential of the kind {self.kind}")

    @property
    def unneeded(self) -> list[str]:
        """The permissions that no task of this provider needs."""
        held = {*self.everywhere, *(each for grant in self.grants for each in grant.permissions)}
        return sorted(held - _NEEDED)


def advice(credential: Credential, repo_id: str | None, shown: Callable[[object], str]) -> str:
    """Return sentences about what is wider than needed; empty if nothing is.

    :param repo_id: the connection's default repository, if it has one.
    :param shown: makes a text of the Hub fit for a message.
    """
    for_what = f"for {repo_id}" if repo_id else "for the repositories of your DAGs"
    narrow = (
        f"A fine-grained token {for_what} needs {READ}, and for uploads {WRITE}, for pull requests {PULL_REQUEST}; a "
        "connection with an identity needs no token."
    )
    if credential.kind == "write":
        return f"Warning: it may change and delete every repository that its user may. {narrow}"
    if credential.kind == "read":
        return f"It may read every private repository that its user may. {narrow}"
    if not credential.is_fine_grained:
        return f"The Hub does not say what it may do. {narrow}"
    said = []
    if wide := sorted({shown(grant.name) for grant in credential.grants if grant.is_for_all}):
        said.append(
            f"It covers all repositories of {shortened(wide, _MAX_NAMED)}: name single ones instead, unless tasks "
            "create repositories."
        )
    if unneeded := credential.unneeded:
        names = shortened([shown(each) for each in unneeded], _MAX_NAMED)
        said.append(f"No task needs its {'permission' if len(unneeded) == 1 else 'permissions'} {names}.")
    return " ".join(said)


def grants(credential: Credential, shown: Callable[[object], str]) -> str:
    """Return what a fine-grained token may read and write, in parentheses; empty for any other."""
    said = []
    for grant in credential.grants:
        may_write = any(permission.endswith("write") for permission in grant.permissions)
        said.append(f"{shown(grant.name)}: {'write' if may_write else 'read'}")
    return f" ({shortened(said, _MAX_NAMED)})" if said else ""


def _grant(scope: Mapping[str, Any]) -> Grant | None:
    entity = _mapping(scope.get("entity"))
    name, permissions = entity.get("name"), scope.get("permissions")
    if not isinstance(name, str) or not isinstance(permissions, list):
        return None
    return Grant(str(entity.get("type") or ""), name, tuple(map(str, permissions)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
