"""Trusted publishers: whose ID tokens the Hub exchanges for a Hub token of one repository, or of one user.

Source: the Hub's documentation of Trusted Publishers. A publisher names an issuer and claims; all claims must be in the
ID token, and equal: there are no patterns.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from xethub_local.repo import Repo
from xethub_local.store.database import Database
from xethub_local.store.schema import SCHEMA

OWN_ISSUER = ""
"""The issuer of this local Hub, whatever its URL is at the moment."""

_PREFIXES = ("datasets", "spaces", "kernels")
_REGISTERED = ("iss", "aud", "exp", "nbf", "iat", "jti")
_MAX_CLAIMS = 50
_COLUMNS = "id, repository, user_name, issuer, claims, read_only, created, last_used"


@dataclass(frozen=True)
class Resource:
    """What an exchanged token is for: a repository, or the gated repositories of a user. The other one is empty.

    :param repository: such as ``datasets/acme/corpus``, and for a model ``models/acme/m``.
    """

    repository: str = ""
    user: str = ""

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Parse ``namespace/name``, ``datasets/…``, ``spaces/…``, ``kernels/…``, or the name of a user.

        :raises ValueError: it is none of these.
        """
        parts = text.split("/")
        if len(parts) == 1:
            Repo(f"user/{text}")  # a user's name follows the rule for other names
            return cls(user=text)
        kind = parts.pop(0) if parts[0] in _PREFIXES and len(parts) == 3 else "models"
        if len(parts) == 2:
            return cls(repository=f"{kind}/{Repo('/'.join(parts)).repo_id}")
        raise ValueError(
            f"{text[:200]!r} is no resource: use 'namespace/name', 'datasets/namespace/name', "
            "'spaces/namespace/name', or the name of a user. Buckets have no publishers."
        )

    def __str__(self) -> str:
        return self.user or self.repository.removeprefix("models/")


@dataclass(frozen=True)
class Publisher:
    """A publisher of a repository or a user.

    :param issuer: the URL of an issuer; :data:`OWN_ISSUER` for the local Hub's own.
    :param claims: these claims must be in the ID token, and equal.
    :param read_only: the exchanged token may only read; always so for users.
    :param created, last_used: UNIX seconds; ``None`` if it was never used.
    """

    id: str
    resource: Resource
    issuer: str
    claims: dict[str, Any]
    read_only: bool
    created: float
    last_used: float | None

    def matches(self, claims: Mapping[str, Any]) -> bool:
        """Return whether an ID token of the issuer has all the claims."""
        return all(
            name in claims and type(claims[name]) is type(value) and claims[name] == value
            for name, value in self.claims.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return the publisher as the control API describes it."""
        return {
            "id": self.id,
            "resource": str(self.resource),
            "issuer": self.issuer or None,
            "claims": self.claims,
            "read_only": self.read_only,
            "created": self.created,
            "last_used": self.last_used,
        }


class Publishers:
    """The publishers of one local Hub.

    :param clock: UNIX seconds.
    """

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        db.execute_schema(SCHEMA)

    def add(
        self, resource: Resource, claims: Mapping[str, Any], *, issuer: str = OWN_ISSUER, read_only: bool = False
    ) -> Publisher:
        """Add a publisher.

        :param issuer: the exact ``iss`` of its ID tokens.
        :raises ValueError: the repository or user does not exist, the issuer is not a URL that this server may ask for
            keys, or the claims cannot be compared.
        """
        _check_issuer(issuer)
        _check_claims(claims)
        new = Publisher(
            secrets.token_hex(6),
            resource,
            issuer,
            dict(claims),
            read_only or bool(resource.user),
            self._clock(),
            None,
        )
        if not self.exists(resource):
            raise ValueError(f"{resource} does not exist on this Hub; create it before its publisher.")
        try:
            with self._db.write() as connection:
                connection.execute(
                    f"INSERT INTO hub_publisher ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (
                        new.id,
                        resource.repository or None,
                        resource.user or None,
                        issuer,
                        json.dumps(new.claims, sort_keys=True),
                        new.read_only,
                        new.created,
                        None,
                    ),
                )
        except sqlite3.IntegrityError as error:  # deleted in this moment
            raise ValueError(f"{resource} does not exist on this Hub; create it before its publisher.") from error
        return new

    def exists(self, resource: Resource) -> bool:
        """Return whether the repository or the user exists."""
        table, column = ("hub_token", "user_name") if resource.user else ("hub_repository", "name")
        found = self._db.first(
            f"SELECT 1 FROM {table} WHERE {column} = :name",  # noqa: S608
            {"name": resource.user or resource.repository},
        )
        return found is not None

    def find(self, resource: Resource | None = None) -> list[Publisher]:
        """Return the publishers of a resource, or all of them, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM hub_publisher ORDER BY rowid").fetchall()  # noqa: S608
        found = [_publisher(row) for row in rows]
        return [publisher for publisher in found if resource in (None, publisher.resource)]

    def remove(self, publisher_id: str) -> bool:
        """Remove a publisher; tokens that were exchanged already stay valid until they expire.

        :return: whether there was one with this id.
        """
        with self._db.write() as connection:
            return connection.execute("DELETE FROM hub_publisher WHERE id = ?", (publisher_id,)).rowcount > 0

    def mark_used(self, publisher_id: str) -> None:
        """Note that an ID token was exchanged through a publisher just now."""
        with self._db.write() as connection:
            connection.execute("UPDATE hub_publisher SET last_used = ? WHERE id = ?", (self._clock(), publisher_id))


def _publisher(row: sqlite3.Row) -> Publisher:
    publisher_id, repository, user, issuer, claims, read_only, created, last_used = row
    resource = Resource(repository or "", user or "")
    return Publisher(publisher_id, resource, issuer, json.loads(claims), bool(read_only), created, last_used)


def _check_issuer(issuer: str) -> None:
    if issuer == OWN_ISSUER:
        return
    parts = urlsplit(issuer) if isinstance(issuer, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"The issuer must be an URL such as https://gitlab.com, not {str(issuer)[:200]!r}.")


def _check_claims(claims: Mapping[str, Any]) -> None:
    if not claims or len(claims) > _MAX_CLAIMS:
        raise ValueError("A publisher needs at least one claim, such as sub='…'; without one, all tokens would match.")
    for name, value in claims.items():
        if name in _REGISTERED:
            raise ValueError(f"The claim {name!r} cannot be chosen: the Hub checks it for every ID token.")
        if not name or not isinstance(value, (str, int, bool)):
            raise ValueError(f"The claim {name!r} must be a string, a whole number, true or false, not {value!r:.100}.")
