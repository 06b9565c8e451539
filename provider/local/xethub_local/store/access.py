"""Access control: users and their Hub tokens, Xet tokens, and signed data URLs.

The signing key is the only secret that is stored. A Hub token is ``hf_``, the id of its record, and a MAC of that id; a
Xet token is its payload and a MAC of it. Both are recomputed from their records when needed, so neither the database
nor any file ever holds a token.

Repository names start with the type: ``datasets/acme/corpus``, and for a model ``models/acme/m``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from xethub_local.repo import SCOPES, Scope
from xethub_local.store.database import Database
from xethub_local.store.errors import REPOSITORY_NOT_FOUND, HubError
from xethub_local.store.exchanged_tokens import ExchangedToken, ExchangedTokens
from xethub_local.store.folder import write_once
from xethub_local.store.schema import SCHEMA
from xethub_local.store.settings import LiveSettings, Settings

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
_MAX_CACHED_GRANTS = 1_000
_CHOSEN = re.compile("hf_[A-Za-z0-9_]{8,200}")
EXCHANGED_TOKEN_LIFETIME = 3_600
"""Seconds that an exchanged token is valid on the real Hub."""


class AccessError(HubError):
    """The request is refused: 401 without valid credentials, 403 without permission, 404 if it may not be seen."""


@dataclass(frozen=True)
class Identity:
    """The owner of a Hub token, and what the token allows.

    :param exchanged: the record of the token if it was exchanged for an ID token. It grants what its publisher says
        and nothing that its user may do otherwise; without such a user, ``user`` names issuer and subject.
    """

    user: str
    role: Role
    token_name: str
    token_id: str
    created: float
    grants: dict[str, Scope] = field(default_factory=dict)
    exchanged: ExchangedToken | None = None

    @property
    def writes_everywhere(self) -> bool:
        """Whether this Hub token may write to every repository, and therefore control the server."""
        return self.role != "read" and self.grants.get(EVERYTHING) == "write"

    def allows(self, repository: str, scope: Scope) -> bool:
        """Return whether this Hub token itself grants ``scope`` for ``repository``; anyone may read public ones."""
        if scope == "write" and self.role == "read":
            return False
        namespace = repository.split("/")[1]
        if namespace == self.user and self.role != "fineGrained" and self.exchanged is None:
            return True
        held = {self.grants.get(name) for name in (repository, namespace, EVERYTHING)}
        return "write" in held or (scope == "read" and "read" in held)

    def owns_gate(self, repository: str) -> bool:
        """Return whether this Hub token reads a gated repository without having requested access."""
        if self.exchanged is None:
            return self.allows(repository, "write")
        return self.allows(repository, "read") or repository.split("/")[1] == self.exchanged.resource.user


@dataclass(frozen=True)
class XetGrant:
    """The permissions of a Xet token. ``expires_at`` in UNIX seconds."""

    scope: Scope
    repository: str
    revision: str
    expires_at: int
    user: str
    token_id: str


class Access(LiveSettings):
    """Users, Hub tokens, Xet tokens and signed data URLs of one local Hub.

    :param db: stores users and the records of issued Xet tokens.
    :param signing_key: see :func:`load_signing_key`.
    :param token_life: seconds that a new Xet token is valid, at least 1.
    :param data_url_life: seconds that a new data URL is valid.
    :param exchanged_token_lifetime: seconds that a new exchanged token is valid.
    :param clock: this machine's clock, UNIX seconds. All of them can be changed at run time.
    :ivar exchanged_tokens: the Hub tokens that were exchanged for ID tokens.
    """

    def __init__(
        self,
        db: Database,
        signing_key: bytes,
        *,
        token_life: int = 900,
        data_url_life: int = 900,
        exchanged_token_lifetime: int = EXCHANGED_TOKEN_LIFETIME,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(Settings(token_life, data_url_life, 0.0, exchanged_token_lifetime), clock)
        self._db = db
        self._key = signing_key
        db.execute_schema(SCHEMA)
        self.exchanged_tokens = ExchangedTokens(db, signing_key, self.now)
        # Cache of verified tokens: a client sends the same one with thousands of requests.
        self._verified_grants: dict[str, XetGrant] = {}
        self._chosen: tuple[str, str, str] | None = None

    # -- users and Hub tokens

    def add_user(
        self,
        name: str,
        *,
        role: Role,
        grants: dict[str, Scope] | None = None,
        token_name: str = "default",  # noqa: S107 - the name of a token
    ) -> str:
        """Add a user's Hub token and return it. For an existing user and token name, change what the token allows.

        A ``read`` or ``write`` token covers its user's own namespace and whatever is granted; a ``fineGrained`` token
        covers only what is granted. Anyone may read public repositories.

        :param grants: maps ``datasets/acme/corpus``, a namespace such as ``acme``, or ``*`` to ``read`` or ``write``.
        :raises ValueError: the role or a grant is invalid.
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
        """Recompute and return a user's Hub token.

        :raises KeyError: there is no such user or token.
        """
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT id FROM hub_token WHERE user_name = ? AND token_name = ?", (user, token_name)
            ).fetchone()
        if row is None:
            raise KeyError(f"user {user!r} has no Hub token named {token_name!r}; add it with add_user.")
        return self._hub_token(row[0])

    def choose_token(self, token: str, user: str, token_name: str) -> None:
        """Let a token that somebody chose stand for a user's Hub token, as long as this process runs.

        It is not stored, and the Hub token itself stays valid.

        :param token: such as ``hf_only_for_tests``; clients refuse one that does not begin with ``hf_``.
        :raises ValueError: it has another form.
        """
        check_chosen_token(token)
        self._chosen = token, user, token_name

    def identities(self) -> list[Identity]:
        """Return all users with what their Hub tokens allow, without the tokens themselves."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT id, user_name, token_name, role, grants, created FROM hub_token ORDER BY user_name, token_name"
            ).fetchall()
        return [_identity(row) for row in rows]

    def revoke(self, user: str, token_name: str = "default") -> None:  # noqa: S107 - the name of a token
        """Delete a Hub token: further requests get 401. Xet tokens already issued stay valid until they expire."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM hub_token WHERE user_name = ? AND token_name = ?", (user, token_name))

    def identify(self, authorization_header: str | None) -> Identity | None:
        """Return the identity of a request, or ``None`` if it has no credential.

        :raises AccessError: 401, the credential was not issued by this Hub.
        """
        if not authorization_header:
            return None
        kind, _, token = authorization_header.partition(" ")
        token = token.strip()
        if kind.lower() == "bearer" and (record := self.exchanged_tokens.find(token)) is not None:
            return _exchanged_identity(record)
        if kind.lower() == "bearer" and token.isascii() and (row := self._token_row(token)) is not None:
            return _identity(row)
        # huggingface_hub recognises a bad credential, as opposed to an invisible repository, by exactly this text.
        raise AccessError(401, "Invalid credentials in Authorization header")

    def _token_row(self, token: str) -> tuple[str, str, str, Role, str, float] | None:
        token_id = token[3 : 3 + _ID_LENGTH]
        values: tuple[str, ...]
        if self._chosen is not None and _same(token, self._chosen[0]):
            which, values = "user_name = ? AND token_name = ?", self._chosen[1:]
        elif _same(token, self._hub_token(token_id)):
            which, values = "id = ?", (token_id,)
        else:
            return None
        columns = "id, user_name, token_name, role, grants, created"
        query = f"SELECT {columns} FROM hub_token WHERE {which}"  # noqa: S608 - constants
        with self._db.read() as connection:
            row: tuple[str, str, str, Role, str, float] | None = connection.execute(query, values).fetchone()
        return row

    def check(self, identity: Identity | None, repository: str, scope: Scope) -> None:
        """Check that a Hub token grants ``scope`` for a repository.

        As on the real Hub, an invisible repository counts as missing; without a credential that is 401.

        :raises AccessError: 401 or 404 ``RepoNotFound`` if the repository is missing or private; 401 or 403 if it is
            visible but not writable.
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
        """Return whether the repository is visible with this Hub token."""
        try:
            self.check(identity, repository, "read")
        except AccessError:
            return False
        return True

    def check_writer(self, identity: Identity | None, repository: str) -> None:
        """Check write access to ``repository``, whether it exists or is to be created.

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
        """Check that the user may open a pull request: it takes read access, and a token that is not read-only.

        :raises AccessError: 401 or 403; or as for :meth:`check`.
        """
        self.check(identity, repository, "read")
        if identity is None or identity.role == "read" or identity.exchanged is not None:
            self.check_writer(identity, repository)

    # -- Xet tokens

    def issue_xet_token(
        self, identity: Identity | None, scope: Scope, repository: str, revision: str, *, proposes: bool = False
    ) -> tuple[str, int]:
        """Issue a Xet token and return it with its expiry in UNIX seconds.

        :param proposes: the token is for uploading the files of a pull request.
        :raises AccessError: the Hub token does not grant that scope; see :meth:`check` and :meth:`check_proposer`.
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
        """Verify a Xet token and return what it allows.

        :raises AccessError: 401, it is missing, expired, or was not issued by this Hub.
        """
        if not token:
            raise AccessError(401, "This request needs a Xet token; none was sent.")
        grant = self._verified_grants.get(token) or self._open_xet_token(token)
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
        if len(self._verified_grants) >= _MAX_CACHED_GRANTS:
            self._verified_grants.clear()
        grant = self._verified_grants[token] = XetGrant(*fields)
        return grant

    def issued_xet_tokens(self) -> list[str]:
        """Recompute and return every Xet token ever issued: tests search logs and files for them."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT scope, repository, revision, expires_at, user_name, id FROM hub_xet_token ORDER BY rowid"
            ).fetchall()
        return [self._xet_token(XetGrant(*row)) for row in rows]

    # -- data URLs

    def sign_data_url(self, path_and_query: str) -> str:
        """Add ``expires`` and ``sig`` to a URL's path and query; whoever has the result is authorised."""
        joiner = "&" if "?" in path_and_query else "?"
        expires = math.ceil(self.now() + self.data_url_life)
        signed = f"{path_and_query}{joiner}expires={expires}"
        return f"{signed}&sig={self._mac('data', signed)}"

    def verify_data_url(self, path_and_query: str) -> None:
        """Check the signature and the expiry of a data URL.

        The comparison is textual: pass path and query as they arrived.

        :raises AccessError: 403; clients then request a new URL.
        """
        signed, _, signature = path_and_query.rpartition("&sig=")
        expires = signed.rpartition("expires=")[2]
        if not signature.isascii() or not _same(signature, self._mac("data", signed)):
            raise AccessError(403, "This data URL was not signed by this Hub, or was changed.")
        if int(expires) <= self.now():
            raise AccessError(403, "This data URL has expired; ask for a new one.")

    # -- signing

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


def check_chosen_token(token: str) -> None:
    """Check that a text has the form of a Hub token that somebody may choose.

    :raises ValueError: it has another form.
    """
    if not _CHOSEN.fullmatch(token):
        raise ValueError(
            "a chosen Hub token must be hf_ and 8 to 200 letters, digits or underscores, such as hf_only_for_tests."
        )


def load_signing_key(folder: Path) -> bytes:
    """Return the signing key of a data folder. The first call creates it, readable by its owner only.

    :raises OSError: the folder cannot be read or written.
    :raises ValueError: the key file is damaged.
    """
    path = folder / _KEY_FILE
    key = write_once(path, lambda: secrets.token_bytes(_KEY_BYTES))
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{path} is damaged. Delete it to get a new key; tokens issued so far become invalid.")
    return key


def _identity(row: tuple[str, str, str, Role, str, float]) -> Identity:
    token_id, user, token_name, role, grants, created = row
    return Identity(user, role, token_name, token_id, created, json.loads(grants))


def _exchanged_identity(record: ExchangedToken) -> Identity:
    repository, user = record.resource.repository, record.resource.user
    return Identity(
        user or record.author,
        record.scope,
        "OIDC",
        record.id,
        record.created,
        {repository: record.scope} if repository else {},
        record,
    )


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
