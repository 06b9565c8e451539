"""Hub tokens that were exchanged for an ID token: ``hf_jwt_…`` of a repository, ``hf_oauth_…`` of a user.

Behind the prefix is a JWT of this Hub, as on the real one. Only its record is stored: the token is computed from it
and the signing key when it is needed.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from xethub_local.repo import Scope
from xethub_local.store.database import Database
from xethub_local.store.publishers import Publisher, Resource
from xethub_local.store.schema import SCHEMA

REPOSITORY_PREFIX, USER_PREFIX = "hf_jwt_", "hf_oauth_"
_ALGORITHM = "HS256"
_MAX_LENGTH = 4_096
_COLUMNS = "id, repository, user_name, scope, issuer, subject, created, expires_at"


@dataclass(frozen=True)
class ExchangedToken:
    """The record of an exchanged token.

    :param resource: neither repository nor user if the repository was deleted: then it grants nothing.
    :param issuer, subject: of the ID token.
    :param created, expires_at: UNIX seconds.
    """

    id: str
    resource: Resource
    scope: Scope
    issuer: str
    subject: str
    created: float
    expires_at: int

    @property
    def prefix(self) -> str:
        """The first characters of the token."""
        return USER_PREFIX if self.resource.user else REPOSITORY_PREFIX

    @property
    def author(self) -> str:
        """The name of the system user to whom the Hub attributes commits: it names issuer and subject.

        The documentation says that much; how exactly the real Hub spells it is a guess.
        """
        return f"[OIDC] {self.issuer} {self.subject}"


class ExchangedTokens:
    """Issues and reads exchanged tokens.

    :param signing_key: see :func:`~xethub_local.store.access.load_signing_key`.
    :param clock: UNIX seconds.
    """

    def __init__(self, db: Database, signing_key: bytes, clock: Callable[[], float]) -> None:
        self._db = db
        self._key = hashlib.sha256(b"exchanged\n" + signing_key).digest()
        self._clock = clock
        db.execute_schema(SCHEMA)

    def issue(self, publisher: Publisher, *, issuer: str, subject: str, lifetime: int) -> tuple[str, int]:
        """Issue the token that a publisher allows, and return it with the seconds that it is valid."""
        now = self._clock()
        record = ExchangedToken(
            secrets.token_hex(12),
            publisher.resource,
            "read" if publisher.read_only else "write",
            issuer,
            subject,
            now,
            math.ceil(now + lifetime),
        )
        with self._db.write() as connection:
            connection.execute(
                f"INSERT INTO hub_exchanged_token ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    record.id,
                    record.resource.repository or None,
                    record.resource.user or None,
                    record.scope,
                    issuer,
                    subject,
                    record.created,
                    record.expires_at,
                ),
            )
        return self._token(record), lifetime

    def find(self, token: str) -> ExchangedToken | None:
        """Return the record of a token; ``None`` if it is not one, was not issued here, or has expired."""
        for prefix in (REPOSITORY_PREFIX, USER_PREFIX):
            if token.startswith(prefix) and len(token) <= _MAX_LENGTH:
                record = self._open(token.removeprefix(prefix))
                if record is not None and record.prefix == prefix and self._clock() < record.expires_at:
                    return record
        return None

    def issued(self) -> list[str]:
        """Compute and return every token ever issued: tests search logs and files for them."""
        with self._db.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM hub_exchanged_token ORDER BY rowid").fetchall()  # noqa: S608
        return [self._token(_record(row)) for row in rows]

    def _token(self, record: ExchangedToken) -> str:
        import jwt  # takes a tenth of a second, and most commands of xethub-local need none

        claims = {"iat": int(record.created), "exp": record.expires_at, "jti": record.id}
        return record.prefix + jwt.encode(claims, self._key, _ALGORITHM)

    def _open(self, text: str) -> ExchangedToken | None:
        import jwt

        # Whether it has expired is a question for the server's own clock.
        options = {"verify_exp": False, "verify_iat": False}
        try:
            token_id = jwt.decode(text, self._key, [_ALGORITHM], options=options)["jti"]  # type: ignore[arg-type]
        except (jwt.PyJWTError, ValueError, RecursionError):  # JSON that nests too deeply, before PyJWT 2.15
            return None
        row: sqlite3.Row | None = self._db.first(
            f"SELECT {_COLUMNS} FROM hub_exchanged_token WHERE id = :id",  # noqa: S608
            {"id": token_id},
        )
        return None if row is None else _record(row)


def _record(row: sqlite3.Row) -> ExchangedToken:
    token_id, repository, user, scope, issuer, subject, created, expires_at = row
    return ExchangedToken(token_id, Resource(repository or "", user or ""), scope, issuer, subject, created, expires_at)
