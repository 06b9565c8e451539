"""Who may do what: users and their Hub tokens, Xet tokens, and URLs that authorise themselves.

Nothing secret is stored but one signing key. A Hub token is ``hf_``, the id of its record, and a MAC of that id; a Xet
token is its own payload and a MAC of it. Both are recomputed from the record whenever they are needed, so neither the
database nor any file ever holds one.

A repository is named ``datasets/acme/corpus`` here, and a model ``models/acme/m``: type first, always.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from airflow_provider_xethub.local.store.database import Database
from airflow_provider_xethub.local.store.errors import REPOSITORY_NOT_FOUND, HubError
from airflow_provider_xethub.local.store.folder import write_once
from airflow_provider_xethub.local.store.schema import SCHEMA
from airflow_provider_xethub.local.store.settings import LiveSettings, Settings
from airflow_provider_xethub.xet.repo import SCOPES, Scope

Role = Literal["read", "write", "fineGrained"]
ROLES: tuple[str, ...] = get_args(Role)
EVERYTHING = "*"

_KEY_FILE = "signing.key"
_KEY_BYTES = 32
_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 10
_MAC_LENGTH = 24
_XET_PREFIX = "xet_"
_MAX_TOKEN = 8_192
_MAX_GRANTS_SEEN = 1_000


class AccessError(HubError):
    """The request may not do this: 401 nobody knows who asks, 403 it is known and not allowed, 404 not visible."""


@dataclass(frozen=True)
class Identity:
    """Who asks: the owner of a Hub token, and what that Hub token allows."""

    user: str
    role: Role
    token_name: str
    token_id: str
    created: float
    grants: dict[str, Scope] = field(default_factory=dict)

    @property
    def writes_everywhere(self) -> bool:
        """Whether this Hub token may write to every repository, and so control the server."""
        return self.role != "read" and self.grants.get(EVERYTHING) == "write"

    def allows(self, repository: str, scope: Scope) -> bool:
        """Return whether this Hub token itself grants ``scope`` for ``repository``; anyone may read public ones."""
        if scope == "write" and self.role == "read":
            return False
        namespace = repository.split("/")[1]
        if namespace == self.user and self.role != "fineGrained":
            return True
        held = {self.grants.get(name) for name in (repository, namespace, EVERYTHING)}
        return "write" in held or (scope == "read" and "read" in held)


@dataclass(frozen=True)
class XetGrant:
    """What a Xet token allows. ``expires_at`` in UNIX seconds."""

    scope: Scope
    repository: str
    revision: str
    expires_at: int
    user: str
    token_id: str


class Access(LiveSettings):
    """Users, Hub tokens, Xet tokens and signed data URLs of one local Hub.

    :param db: where users and the records of issued Xet tokens are kept.
    :param signing_key: see :func:`load_signing_key`.
    :param token_life: seconds that a new Xet token lives, at least 1.
    :param data_url_life: seconds that a new data URL lives.
    :param clock: this machine's clock, UNIX seconds. All three may be changed at run time.
    """

    def __init__(
        self,
        db: Database,
        signing_key: bytes,
        *,
        token_life: int = 900,
        data_url_life: int = 900,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(Settings(token_life, data_url_life, 0.0), clock)
        self._db = db
        self._key = signing_key
        db.execute_schema(SCHEMA)
        # Of genuine tokens: a client sends the same one with each of thousands of requests.
        self._grants_seen: dict[str, XetGrant] = {}

    # -- users and Hub tokens

    def add_user(
        self,
        name: str,
        *,
        role: Role,
        grants: dict[str, Scope] | None = None,
        token_name: str = "default",  # noqa: S107 - the name of a token
    ) -> str:
        """Record a user's Hub token and return it. The same user and token name again changes what it allows.

        A ``read`` or ``write`` Hub token reaches its user's own namespace and what is granted; a ``fineGrained`` one
        only what is granted. Public repositories can be read by everybody.

        :param grants: ``datasets/acme/corpus``, a namespace such as ``acme``, or ``*``, each to ``read`` or ``write``.
        :raises ValueError: the role or a grant is not known.
        """
        if role not in ROLES:
            raise ValueError(f"role {role!r} is not known; use one of {', '.join(ROLES)}.")
        for key, scope in (grants or {}).items():
            if scope not in SCOPES or key.count("/") not in (0, 2):
                raise ValueError(
                    f"grant {key!r}: {scope!r} is not known; use 'datasets/acme/corpus', 'acme' or '*', "
                    "each with 'read' or 'write'."
                )
        token_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO hub_token (id, user_name, token_name, role, grants, created) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (user_name, token_name) DO UPDATE SET role = excluded.role, grants = excluded.grants",
                (token_id, name, token_name, role, json.dumps(grants or {}, sort_keys=True), self.now()),
            )
        return self.hub_token(name, token_name)

    def hub_token(self, user: str, token_name: str = "default") -> str:  # noqa: S107 - the name of a token
        """Return a user's Hub token, recomputed.

        :raises KeyError: there is no such user or token.
        """
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT id FROM hub_token WHERE user_name = ? AND token_name = ?", (user, token_name)
            ).fetchone()
        if row is None:
            raise KeyError(f"user {user!r} has no Hub token named {token_name!r}; add it with add_user.")
        return self._hub_token(row[0])

    def identities(self) -> list[Identity]:
        """Every user and Hub token, without the tokens themselves."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT id, user_name, token_name, role, grants, created FROM hub_token ORDER BY user_name, token_name"
            ).fetchall()
        return [_identity(row) for row in rows]

    def revoke(self, user: str, token_name: str = "default") -> None:  # noqa: S107 - the name of a token
        """Forget a Hub token: from now on it is answered 401. Xet tokens already issued live on until they expire."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM hub_token WHERE user_name = ? AND token_name = ?", (user, token_name))

    def identify(self, authorization_header: str | None) -> Identity | None:
        """Return who asks, or ``None`` where no credential was sent.

        :raises AccessError: 401, a credential was sent that is not one of ours.
        """
        if not authorization_header:
            return None
        kind, _, token = authorization_header.partition(" ")
        token = token.strip()
        token_id = token[3 : 3 + _ID_LENGTH]
        if kind.lower() == "bearer" and token.isascii() and _same(token, self._hub_token(token_id)):
            with self._db.read() as connection:
                row = connection.execute(
                    "SELECT id, user_name, token_name, role, grants, created FROM hub_token WHERE id = ?",
                    (token_id,),
                ).fetchone()
            if row is not None:
                return _identity(row)
        # huggingface_hub tells a bad credential from an invisible repository by this very text.
        raise AccessError(401, "Invalid credentials in Authorization header")

    def check(self, identity: Identity | None, repository: str, scope: Scope) -> None:
        """Refuse what this Hub token may not do.

        Like the real Hub: what cannot be seen does not exist, and to somebody unknown it says 401.

        :raises AccessError: 401 or 404 ``RepoNotFound`` where the repository is missing or private; 401 or 403 where
            it can be seen and not written.
        """
        with self._db.read() as connection:
            row = connection.execute("SELECT private FROM hub_repository WHERE name = ?", (repository,)).fetchone()
        if row is None or (row[0] and not (identity and identity.allows(repository, "read"))):
            raise AccessError(
                404 if identity else 401,
                REPOSITORY_NOT_FOUND,
                "RepoNotFound",
            )
        if scope == "write":
            self.check_writer(identity, repository)

    def may_read(self, identity: Identity | None, repository: str) -> bool:
        """Return whether this Hub token sees the repository."""
        try:
            self.check(identity, repository, "read")
        except AccessError:
            return False
        return True

    def check_writer(self, identity: Identity | None, repository: str) -> None:
        """Refuse who may not write to ``repository``, or create it: existing or not makes no difference here.

        :raises AccessError: 401 or 403.
        """
        if identity is None:
            raise AccessError(401, f"Writing to {repository} needs a Hub token; none was sent.")
        if identity.role == "read":
            raise AccessError(
                403,
                f"The Hub token {identity.token_name!r} of {identity.user} is read-only and may not write to "
                f"{repository}. Use a write token.",
            )
        if not identity.allows(repository, "write"):
            raise AccessError(
                403,
                f"The Hub token {identity.token_name!r} of {identity.user} may not write to {repository}: "
                "it is outside the namespaces and repositories granted to it.",
            )

    def check_proposer(self, identity: Identity | None, repository: str) -> None:
        """Refuse who may not open pull requests: everybody may who reads the repository and holds no read-only token.

        :raises AccessError: 401 or 403; or as :meth:`check`.
        """
        self.check(identity, repository, "read")
        if identity is None or identity.role == "read":
            self.check_writer(identity, repository)

    # -- Xet tokens

    def issue_xet_token(
        self, identity: Identity | None, scope: Scope, repository: str, revision: str, *, proposes: bool = False
    ) -> tuple[str, int]:
        """Issue a Xet token and return it with its expiry in UNIX seconds.

        :param proposes: the token is for writing what a pull request will bring.
        :raises AccessError: the Hub token does not allow that scope, see :meth:`check` and :meth:`check_proposer`.
        """
        if proposes:
            self.check_proposer(identity, repository)
        else:
            self.check(identity, repository, scope)
        grant = XetGrant(
            scope=scope,
            repository=repository,
            revision=revision,
            expires_at=math.ceil(self.now() + self.token_life),
            user=identity.user if identity else "",
            token_id=secrets.token_hex(8),
        )
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO hub_xet_token (id, scope, repository, revision, user_name, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (grant.token_id, scope, repository, revision, grant.user, grant.expires_at),
            )
        return self._xet_token(grant), grant.expires_at

    def verify_xet_token(self, token: str) -> XetGrant:
        """Return what a Xet token allows.

        :raises AccessError: 401, it is missing, not one of ours, or expired.
        """
        if not token:
            raise AccessError(401, "This request needs a Xet token; none was sent.")
        grant = self._grants_seen.get(token) or self._open_xet_token(token)
        if grant.expires_at <= self.now():
            raise AccessError(
                401, f"The Xet token for {grant.repository} has expired; get a new one from its refresh route."
            )
        return grant

    def _open_xet_token(self, token: str) -> XetGrant:
        payload, dot, mac = token.removeprefix(_XET_PREFIX).partition(".")
        genuine = (
            dot
            and len(token) <= _MAX_TOKEN
            and token.isascii()
            and token.startswith(_XET_PREFIX)
            and _same(mac, self._mac("xet", payload))
        )
        if not genuine:
            raise AccessError(401, "The Xet token was not issued by this Hub.")
        fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if len(self._grants_seen) >= _MAX_GRANTS_SEEN:
            self._grants_seen.clear()
        grant = self._grants_seen[token] = XetGrant(*fields)
        return grant

    def issued_xet_tokens(self) -> list[str]:
        """Every Xet token ever issued, recomputed from the records: to search for leaks."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT scope, repository, revision, expires_at, user_name, id FROM hub_xet_token ORDER BY rowid"
            ).fetchall()
        return [self._xet_token(XetGrant(*row)) for row in rows]

    # -- data URLs

    def sign_data_url(self, path_and_query: str) -> str:
        """Return the URL's path and query with ``expires`` and ``sig`` added, which authorise whoever holds it."""
        joiner = "&" if "?" in path_and_query else "?"
        expires = math.ceil(self.now() + self.data_url_life)
        signed = f"{path_and_query}{joiner}expires={expires}"
        return f"{signed}&sig={self._mac('data', signed)}"

    def verify_data_url(self, path_and_query: str) -> None:
        """Refuse a data URL that was not signed here, was changed, or has expired.

        The comparison is on the raw text: pass path and query as they arrived.

        :raises AccessError: 403, upon which clients ask for a new URL.
        """
        signed, _, signature = path_and_query.rpartition("&sig=")
        expires = signed.rpartition("expires=")[2]
        if not signature.isascii() or not _same(signature, self._mac("data", signed)):
            raise AccessError(403, "This data URL was not signed by this Hub, or was changed.")
        if int(expires) <= self.now():
            raise AccessError(403, "This data URL has expired; ask for a new one.")

    # -- the signing key at work

    def _mac(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}\n{text}".encode("utf-8", "surrogateescape"), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _hub_token(self, token_id: str) -> str:
        digest = hmac.new(self._key, f"hub\n{token_id}".encode("utf-8", "surrogateescape"), hashlib.sha256)
        number = int.from_bytes(digest.digest(), "big")
        mac = ""
        for _ in range(_MAC_LENGTH):
            number, index = divmod(number, len(_ALPHABET))
            mac += _ALPHABET[index]
        return f"hf_{token_id}{mac}"

    def _xet_token(self, grant: XetGrant) -> str:
        fields = [
            grant.scope,
            grant.repository,
            grant.revision,
            grant.expires_at,
            grant.user,
            grant.token_id,
        ]
        text = json.dumps(fields, separators=(",", ":")).encode()
        payload = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
        return f"{_XET_PREFIX}{payload}.{self._mac('xet', payload)}"


def load_signing_key(folder: Path) -> bytes:
    """Return the signing key of a data folder; the first call creates it, readable by its owner only.

    :raises OSError: the folder cannot be read or written.
    :raises ValueError: the key file is damaged.
    """
    path = folder / _KEY_FILE
    key = write_once(path, lambda: secrets.token_bytes(_KEY_BYTES))
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{path} is damaged: delete it to get a new key; tokens issued so far end with it.")
    return key


def _identity(row: tuple[str, str, str, Role, str, float]) -> Identity:
    token_id, user, token_name, role, grants, created = row
    return Identity(user, role, token_name, token_id, created, json.loads(grants))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
