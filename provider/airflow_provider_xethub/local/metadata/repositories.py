"""The repositories of the local Hub.

A repository is named ``datasets/acme/corpus`` here, and a model ``models/acme/m``: type first, always.
Its history is in :mod:`airflow_provider_xethub.local.metadata.history`, writing one in
:mod:`airflow_provider_xethub.local.metadata.commits`.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.metadata import trees, upload_modes
from airflow_provider_xethub.local.metadata.gates import Gates
from airflow_provider_xethub.local.metadata.history import HEADS, History, Ref, new_commit_id
from airflow_provider_xethub.local.metadata.trees import Entry
from airflow_provider_xethub.local.store.database import Database
from airflow_provider_xethub.local.store.errors import BadRequestError, ConflictError, RepoNotFoundError
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, check_repo_id

KINDS = ("models", "datasets", "spaces", "buckets")

# First segments of the web pages and of the API: a namespace of that name could never be reached.
RESERVED_NAMESPACES = frozenset({"_local", "api", "cas", "oauth", "v1", "zero-gpu", *KINDS})


@dataclass(frozen=True)
class Repository:
    """One repository, without its content. ``created`` in UNIX seconds."""

    name: str
    id: str
    private: bool
    created: float

    @property
    def kind(self) -> str:
        """``models``, ``datasets``, ``spaces`` or ``buckets``."""
        return self.name.partition("/")[0]

    @property
    def repo_id(self) -> str:
        """``namespace/name``."""
        return self.name.partition("/")[2]

    @property
    def web_path(self) -> str:
        """Path of its page and files; models have no prefix."""
        return f"/{self.repo_id}" if self.kind == "models" else f"/{self.name}"


class Repositories(History):
    """All repositories of one local Hub.

    Deleting a repository leaves the content of its files behind: another one may share it.

    :ivar gates: which of them are gated, and who was let in.
    """

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(db, clock=clock)
        self.gates = Gates(db, clock)

    # -- repositories

    def create(self, name: str, *, private: bool = False, author: str = "local") -> Repository:
        """Create a repository with a first commit on ``main``, as the real Hub does. A bucket has no commits.

        :raises ConflictError: it exists.
        :raises BadRequestError: the name breaks a rule.
        """
        repository = Repository(name, secrets.token_hex(12), private, self.clock())
        _check_name(name)
        with self.db.write() as connection:
            if existing := self._spelling(connection, name):
                raise ConflictError(f"You already created this repository: {existing} exists.")
            connection.execute("DELETE FROM hub_moved WHERE old_name = lower(?)", (name,))
            connection.execute(
                "INSERT INTO hub_repository (name, id, private, created) VALUES (?, ?, ?, ?)",
                (name, repository.id, private, repository.created),
            )
            if repository.kind != "buckets":
                content = upload_modes.default_gitattributes(repository.kind).encode()
                oid, commit_id = trees.store_blob(connection, content), new_commit_id()
                editor = trees.TreeEditor(connection, None)
                editor.put(Entry(upload_modes.GITATTRIBUTES, "regular", oid, len(content), commit_id))
                commit = self.add_commit(
                    connection, name, None, editor, "initial commit", author=author, commit_id=commit_id
                )
                self.set_ref(connection, name, Ref(HEADS + DEFAULT_REVISION, commit.id))
        return repository

    def get(self, name: str) -> Repository:
        """Return a repository.

        :raises RepoNotFoundError: there is none of that name.
        """
        with self.db.read() as connection:
            row = self._row(connection, name)
        if row is None:
            raise RepoNotFoundError(name)
        return Repository(row["name"], row["id"], bool(row["private"]), row["created"])

    def spelling(self, name: str) -> str:
        """Return how a repository's name is spelled, in which letter case does not count; else the name as it is."""
        with self.db.read() as connection:
            return self._spelling(connection, name) or name

    def moved_to(self, name: str) -> str | None:
        """Return the name of the repository that had this one, or has it in other letter case; ``None`` for its own."""
        if self.db.first("SELECT 1 FROM hub_repository WHERE name = :name", {"name": name}):
            return None
        with self.db.read() as connection:
            row = connection.execute("SELECT repository FROM hub_moved WHERE old_name = lower(?)", (name,)).fetchone()
            return self._spelling(connection, name) or (row[0] if row else None)

    def find_all(self, kind: str | None = None) -> list[Repository]:
        """Return all repositories, private ones included, in order of name."""
        with self.db.read() as connection:
            rows = connection.execute("SELECT * FROM hub_repository ORDER BY name").fetchall()
        found = [Repository(row["name"], row["id"], bool(row["private"]), row["created"]) for row in rows]
        return [repository for repository in found if kind in (None, repository.kind)]

    def delete(self, name: str) -> None:
        """Delete a repository with its history.

        :raises RepoNotFoundError: there is none of that name.
        """
        self.get(name)
        with self.db.write() as connection:
            connection.execute("DELETE FROM hub_repository WHERE name = ?", (name,))

    def set_private(self, name: str, private: bool) -> None:
        """Make a repository private or public.

        :raises RepoNotFoundError: there is none of that name.
        """
        self.get(name)
        with self.db.write() as connection:
            connection.execute("UPDATE hub_repository SET private = ? WHERE name = ?", (private, name))

    def move(self, name: str, new_name: str) -> None:
        """Rename a repository or give it to another namespace. Its old name leads to it until another takes that.

        :raises RepoNotFoundError: there is none of that name.
        :raises ConflictError: the new name is taken.
        :raises BadRequestError: the new name breaks a rule.
        """
        moved = self.get(name)
        _check_name(new_name)
        with self.db.write() as connection:
            if self._spelling(connection, new_name) not in (None, name):
                kind, _, repo_id = new_name.partition("/")
                raise ConflictError(f"A {kind.removesuffix('s')} repository called {repo_id} already exists.")
            connection.execute("UPDATE hub_repository SET name = ? WHERE name = ?", (new_name, moved.name))
            connection.execute("DELETE FROM hub_moved WHERE old_name = lower(?)", (new_name,))
            if name.lower() != new_name.lower():
                connection.execute("INSERT OR REPLACE INTO hub_moved VALUES (lower(?), ?)", (name, new_name))

    def duplicate(self, name: str, new_name: str, *, private: bool | None = None) -> Repository:
        """Create a repository with the branches, tags and commits of another one; pull requests stay behind.

        :param private: as the other one where it is ``None``.
        :raises RepoNotFoundError: there is none of that name.
        :raises ConflictError: the new name is taken.
        :raises BadRequestError: the new name breaks a rule.
        """
        with self.db.write() as connection:
            original = self.get(name)
            created = self.create(new_name, private=original.private if private is None else private)
            for table in ("hub_ref", "hub_commit"):
                connection.execute(f"DELETE FROM {table} WHERE repository = ?", (new_name,))  # noqa: S608
            connection.execute(
                "INSERT INTO hub_commit (repository, id, parent, tree, title, message, author, created)"
                " SELECT ?, id, parent, tree, title, message, author, created FROM hub_commit WHERE repository = ?",
                (new_name, name),
            )
            connection.execute(
                "INSERT INTO hub_ref (repository, ref, commit_id, message) SELECT ?, ref, commit_id, message"
                " FROM hub_ref WHERE repository = ? AND ref NOT LIKE 'refs/pr/%'",
                (new_name, name),
            )
        return created

    def _spelling(self, connection: sqlite3.Connection, name: str) -> str | None:
        rows = connection.execute("SELECT name FROM hub_repository WHERE lower(name) = lower(?)", (name,)).fetchall()
        found = [str(row[0]) for row in rows]  # a folder of an earlier release may hold both spellings
        return name if name in found else next(iter(found), None)

    def _row(self, connection: sqlite3.Connection, name: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = connection.execute("SELECT * FROM hub_repository WHERE name = ?", (name,)).fetchone()
        return row


def _check_name(name: str) -> None:
    kind, _, repo_id = name.partition("/")
    if kind not in KINDS:
        raise BadRequestError(f"Repository type {kind!r} is not known; use one of {', '.join(KINDS)}.")
    try:
        check_repo_id(repo_id)
    except XetInputError as error:
        raise BadRequestError(str(error)) from error
    namespace = repo_id.partition("/")[0]
    if namespace in RESERVED_NAMESPACES:
        raise BadRequestError(f"repo_id {repo_id!r} is not valid: the namespace {namespace!r} is reserved.")
