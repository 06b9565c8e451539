"""The history of repositories: commits, branches, tags and pull requests, and what they contain at a commit."""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.metadata import trees
from airflow_provider_xethub.local.metadata.trees import Entry
from airflow_provider_xethub.local.store.database import Database
from airflow_provider_xethub.local.store.errors import (
    BadRequestError,
    ConflictError,
    EntryNotFoundError,
    HubError,
    RevisionNotFoundError,
)
from airflow_provider_xethub.local.store.schema import SCHEMA
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, check_revision

HEADS, TAGS, PULLS = "refs/heads/", "refs/tags/", "refs/pr/"
_COMMIT_PREFIX = re.compile(r"[0-9a-f]{7,40}")
_COMMIT_COLUMNS = "id, parent, tree, title, message, author, created"


@dataclass(frozen=True)
class Ref:
    """A branch, tag or pull request: full name such as ``refs/heads/main``, and where it points."""

    ref: str
    commit: str
    message: str = ""


@dataclass(frozen=True)
class Commit:
    """One commit. ``created`` in UNIX seconds."""

    id: str
    parent: str | None
    tree: str
    title: str
    message: str
    author: str
    created: float


class History:
    """References and commits of all repositories of one local Hub; each is asked for by the repository's name."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.db = db
        self.clock = clock
        db.execute_schema(SCHEMA)

    # -- references

    def refs(self, name: str) -> list[Ref]:
        """Return branches, tags and pull requests."""
        with self.db.read() as connection:
            rows = connection.execute(
                "SELECT ref, commit_id, message FROM hub_ref WHERE repository = ? ORDER BY ref", (name,)
            ).fetchall()
        return [Ref(*row) for row in rows]

    def resolve(self, name: str, revision: str) -> Commit:
        """Return the commit that a branch, tag, ``refs/pr/N``, commit id (7 to 40 digits) or ``HEAD`` means.

        :raises RevisionNotFoundError: it means nothing here.
        """
        with self.db.read() as connection:
            for candidate in _refs_meant(revision):
                row = connection.execute(
                    "SELECT commit_id FROM hub_ref WHERE repository = ? AND ref = ?", (name, candidate)
                ).fetchone()
                if row:
                    return self.commit_of(connection, name, row[0])
            if _COMMIT_PREFIX.fullmatch(revision):
                row = connection.execute(
                    f"SELECT {_COMMIT_COLUMNS} FROM hub_commit WHERE repository = ? AND id >= ? AND id < ? LIMIT 1",  # noqa: S608
                    (name, revision, revision + "g"),
                ).fetchone()
                if row:
                    return Commit(*row)
        raise RevisionNotFoundError(name, revision)

    def writable_ref(self, name: str, revision: str, *, proposes: bool = False) -> Ref:
        """Return the branch or pull request that a commit to ``revision`` would move.

        :param proposes: it is to be the base of a pull request.
        :raises RevisionNotFoundError: it means nothing here, or what it means is no base of a pull request.
        :raises BadRequestError: it is a tag or a commit, which do not move.
        """
        movable = [ref for ref in _refs_meant(revision) if ref.startswith((HEADS, PULLS))]
        held = {ref.ref: ref for ref in self.refs(name)}
        for candidate in movable:
            if candidate in held:
                return held[candidate]
        self.resolve(name, revision)
        if proposes:
            raise RevisionNotFoundError(name, revision)
        raise BadRequestError(
            f"Revision {revision!r} of {name} is a tag or a commit, which cannot be committed to. Use a branch."
        )

    def create_branch(
        self, name: str, branch: str, starting_point: str | None = None, *, overwrite: bool = False
    ) -> None:
        """Create a branch at ``starting_point``, by default at ``main``.

        :raises ConflictError: it exists.
        :raises RevisionNotFoundError: the starting point does not exist.
        :raises BadRequestError: git would refuse the name.
        """
        self._create_ref(name, Ref(HEADS + branch, ""), starting_point or DEFAULT_REVISION, overwrite=overwrite)

    def create_empty_branch(self, name: str, branch: str, *, author: str, overwrite: bool = False) -> None:
        """Create a branch that has nothing in it and no history; errors as in :meth:`create_branch`."""
        with self.db.write() as connection:
            commit = self.add_commit(
                connection, name, None, trees.TreeEditor(connection, None), "initial commit", author=author
            )
            self.create_branch(name, branch, commit.id, overwrite=overwrite)

    def create_tag(self, name: str, tag: str, revision: str = DEFAULT_REVISION, message: str = "") -> None:
        """Create a tag; errors as in :meth:`create_branch`."""
        self._create_ref(name, Ref(TAGS + tag, "", message), revision)

    def delete_branch(self, name: str, branch: str) -> None:
        """Delete a branch.

        :raises RevisionNotFoundError: it does not exist.
        :raises HubError: 403, ``main`` cannot be deleted.
        """
        if branch == DEFAULT_REVISION:
            raise HubError(403, f"Cannot delete {HEADS}{branch} of {name}: it is the default branch.")
        self._delete_ref(name, HEADS + branch, branch)

    def delete_tag(self, name: str, tag: str) -> None:
        """Delete a tag.

        :raises RevisionNotFoundError: it does not exist.
        """
        self._delete_ref(name, TAGS + tag, tag)

    def squash(self, name: str, branch: str, title: str, author: str) -> None:
        """Replace a branch's history by one commit with the same files.

        :raises RevisionNotFoundError: the branch does not exist.
        :raises BadRequestError: it is no branch.
        """
        with self.db.write() as connection:
            ref = self.writable_ref(name, branch)
            head = self.commit_of(connection, name, ref.commit)
            editor = trees.TreeEditor(connection, head.tree)
            commit = self.add_commit(connection, name, None, editor, title, author=author)
            self.set_ref(connection, name, Ref(ref.ref, commit.id))

    # -- content

    def commits(self, name: str, revision: str) -> list[Commit]:
        """Return the history that ends at ``revision``, newest first.

        :raises RevisionNotFoundError: the revision does not exist.
        """
        with self.db.read() as connection:
            newest = self.resolve(name, revision)
            rows = connection.execute(
                "WITH RECURSIVE ancestor (number, id) AS (SELECT 0, :newest UNION ALL"
                " SELECT number + 1, parent FROM ancestor JOIN hub_commit AS one"
                " ON one.repository = :name AND one.id = ancestor.id WHERE parent IS NOT NULL)"
                " SELECT id, parent, tree, title, message, author, created FROM ancestor JOIN hub_commit USING (id)"
                " WHERE repository = :name ORDER BY number",
                {"name": name, "newest": newest.id},
            ).fetchall()
        return [Commit(*row) for row in rows]

    def entry(self, name: str, commit: Commit, path: str) -> Entry:
        """Return the file or folder at ``path``.

        :raises EntryNotFoundError: there is none.
        """
        found = self.find(commit, path)
        if found is None:
            raise EntryNotFoundError(name, path, commit.id)
        return found

    def find(self, commit: Commit, path: str) -> Entry | None:
        """Return the file or folder at ``path``, or ``None``."""
        with self.db.read() as connection:
            return trees.find(connection, commit.tree, path)

    def find_each(self, commit: Commit, paths: Iterable[str]) -> dict[str, Entry]:
        """Return the files and folders at those of the paths where there is one."""
        with self.db.read() as connection:
            return trees.find_each(connection, commit.tree, paths)

    def entries(
        self,
        name: str,
        commit: Commit,
        path: str = "",
        *,
        recursive: bool = True,
        after: str = "",
        limit: int | None = None,
    ) -> list[Entry]:
        """Return what a folder holds, folders included; the path of a file gives that file.

        :param after: begin behind the entry of this path.
        :param limit: return at most so many.
        :raises EntryNotFoundError: there is nothing at ``path``.
        """
        with self.db.read() as connection:
            tree = commit.tree
            if path:
                entry = trees.find(connection, tree, path)
                if entry is None:
                    raise EntryNotFoundError(name, path, commit.id)
                if entry.kind != "directory":
                    return [entry]
                tree = entry.oid
            return [*islice(trees.walk(connection, tree, path, recursive=recursive, after=after), limit)]

    def blob(self, oid: str) -> bytes:
        """Return the content of a regular file."""
        with self.db.read() as connection:
            (content,) = connection.execute("SELECT content FROM hub_blob WHERE id = ?", (oid,)).fetchone()
        return bytes(content)

    # -- inside a transaction of the caller

    def commit_of(self, connection: sqlite3.Connection, name: str, commit_id: str) -> Commit:
        """Return a commit that is known to exist."""
        row = connection.execute(
            f"SELECT {_COMMIT_COLUMNS} FROM hub_commit WHERE repository = ? AND id = ?",  # noqa: S608
            (name, commit_id),
        ).fetchone()
        return Commit(*row)

    def add_commit(
        self,
        connection: sqlite3.Connection,
        name: str,
        parent: str | None,
        editor: trees.TreeEditor,
        title: str,
        message: str = "",
        author: str = "local",
        commit_id: str | None = None,
    ) -> Commit:
        """Store a commit of the edited tree; no reference is moved."""
        commit_id = commit_id or new_commit_id()
        commit = Commit(commit_id, parent, editor.save(commit_id), title, message, author, self.clock())
        connection.execute(
            f"INSERT INTO hub_commit (repository, {_COMMIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (name, commit.id, parent, commit.tree, title, message, author, commit.created),
        )
        return commit

    def set_ref(self, connection: sqlite3.Connection, name: str, ref: Ref) -> None:
        """Create or move a reference."""
        connection.execute(
            "INSERT INTO hub_ref (repository, ref, commit_id, message) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (repository, ref) DO UPDATE SET commit_id = excluded.commit_id",
            (name, ref.ref, ref.commit, ref.message),
        )

    def _create_ref(self, name: str, ref: Ref, starting_point: str, *, overwrite: bool = False) -> None:
        with self.db.write() as connection:
            target = self.resolve(name, starting_point)
            try:
                check_revision(ref.ref)
            except XetInputError as error:
                raise BadRequestError(str(error)) from error
            if not overwrite and any(held.ref == ref.ref for held in self.refs(name)):
                raise ConflictError(f"Reference {ref.ref} already exists in {name}.")
            self.set_ref(connection, name, Ref(ref.ref, target.id, ref.message))

    def _delete_ref(self, name: str, ref: str, revision: str) -> None:
        with self.db.write() as connection:
            deleted = connection.execute("DELETE FROM hub_ref WHERE repository = ? AND ref = ?", (name, ref)).rowcount
        if not deleted:
            raise RevisionNotFoundError(name, revision)


def new_commit_id() -> str:
    """Return a new commit id: 40 hex digits, and not a hash, so that files can name it before it is stored."""
    return secrets.token_hex(20)


def _refs_meant(revision: str) -> tuple[str, ...]:
    if revision == "HEAD":
        return (HEADS + DEFAULT_REVISION,)
    if revision.startswith("refs/"):
        return (revision,)
    return (HEADS + revision, TAGS + revision)
