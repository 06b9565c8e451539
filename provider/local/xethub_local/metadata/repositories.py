"""The repositories of the local Hub: their names, references, commits and files.

Repository names start with the type: ``datasets/acme/corpus``, and for a model ``models/acme/m``. Commits with changes
are made in :mod:`xethub_local.metadata.commits`.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from xethub_local.metadata import trees, upload_modes
from xethub_local.metadata.gates import Gates
from xethub_local.metadata.history import HEADS, PULLS, TAGS, Commit, Ref, matching_refs, new_commit_id
from xethub_local.metadata.trees import Entry
from xethub_local.repo import DEFAULT_REVISION, InvalidNameError, check_repo_id, check_revision
from xethub_local.store.database import Database
from xethub_local.store.errors import (
    BadRequestError,
    ConflictError,
    EntryNotFoundError,
    HubError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from xethub_local.store.schema import SCHEMA

_COMMIT_PREFIX = re.compile(r"[0-9a-f]{7,40}")
_COMMIT_COLUMNS = "id, parent, tree, title, message, author, created"

KINDS = ("models", "datasets", "spaces", "buckets")

# First path segments of pages and of the API: a namespace of that name would be unreachable.
RESERVED_NAMESPACES = frozenset({"_issuer", "_local", "api", "cas", "oauth", "v1", "zero-gpu", *KINDS})


@dataclass(frozen=True)
class Repository:
    """A repository, without its content. ``created`` in UNIX seconds."""

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
        """Path of its page and of its files; models have no prefix."""
        return f"/{self.repo_id}" if self.kind == "models" else f"/{self.name}"


class Repositories:
    """All repositories of one local Hub.

    Deleting a repository keeps the content of its files, because other repositories may share it.

    :param clock: returns the time, UNIX seconds.
    :ivar gates: gated repositories and their access requests.
    """

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.db = db
        self.clock = clock
        db.execute_schema(SCHEMA)
        self.gates = Gates(db, clock)

    # -- repositories

    def create(self, name: str, *, private: bool = False, author: str = "local") -> Repository:
        """Create a repository with a first commit on ``main``, as the real Hub does. A bucket has no commits.

        :raises ConflictError: it already exists.
        :raises BadRequestError: the name is invalid.
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

        :raises RepoNotFoundError: there is no repository of that name.
        """
        with self.db.read() as connection:
            row = self._row(connection, name)
        if row is None:
            raise RepoNotFoundError(name)
        return Repository(row["name"], row["id"], bool(row["private"]), row["created"])

    def spelling(self, name: str) -> str:
        """Return a repository's name in its own letter case; names that do not exist are returned unchanged."""
        with self.db.read() as connection:
            return self._spelling(connection, name) or name

    def moved_to(self, name: str) -> str | None:
        """Return the current name of a repository that was moved or has other letter case; ``None`` if current."""
        if self.db.first("SELECT 1 FROM hub_repository WHERE name = :name", {"name": name}):
            return None
        with self.db.read() as connection:
            row = connection.execute("SELECT repository FROM hub_moved WHERE old_name = lower(?)", (name,)).fetchone()
            return self._spelling(connection, name) or (row[0] if row else None)

    def find_all(self, kind: str | None = None) -> list[Repository]:
        """Return all repositories, including private ones, sorted by name."""
        with self.db.read() as connection:
            rows = connection.execute("SELECT * FROM hub_repository ORDER BY name").fetchall()
        found = [Repository(row["name"], row["id"], bool(row["private"]), row["created"]) for row in rows]
        return [repository for repository in found if kind in (None, repository.kind)]

    def delete(self, name: str) -> None:
        """Delete a repository with its history.

        :raises RepoNotFoundError: there is no repository of that name.
        """
        self.get(name)
        with self.db.write() as connection:
            connection.execute("DELETE FROM hub_repository WHERE name = ?", (name,))

    def set_private(self, name: str, private: bool) -> None:
        """Make a repository private or public.

        :raises RepoNotFoundError: there is no repository of that name.
        """
        self.get(name)
        with self.db.write() as connection:
            connection.execute("UPDATE hub_repository SET private = ? WHERE name = ?", (private, name))

    def move(self, name: str, new_name: str) -> None:
        """Rename a repository or move it to another namespace. Its old name redirects until another takes it.

        :raises RepoNotFoundError: there is no repository of that name.
        :raises ConflictError: the new name is taken.
        :raises BadRequestError: the new name is invalid.
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
        """Create a repository with the branches, tags and commits of another one, but not its pull requests.

        :param private: Default: same as the original.
        :raises RepoNotFoundError: there is no repository of that name.
        :raises ConflictError: the new name is taken.
        :raises BadRequestError: the new name is invalid.
        """
        with self.db.write() as connection:
            original = self.get(name)
            created = self.create(new_name, private=original.private if private is None else private)
            for table in ("hub_ref", "hub_commit"):
                connection.execute(f"DELETE FROM {table} WHERE repository = ?", (new_name,))  # noqa: S608
            connection.execute(
                f"INSERT INTO hub_commit (repository, {_COMMIT_COLUMNS})"  # noqa: S608
                f" SELECT ?, {_COMMIT_COLUMNS} FROM hub_commit WHERE repository = ?",
                (new_name, name),
            )
            connection.execute(
                "INSERT INTO hub_ref (repository, ref, commit_id, message) SELECT ?, ref, commit_id, message"
                " FROM hub_ref WHERE repository = ? AND ref NOT LIKE 'refs/pr/%'",
                (new_name, name),
            )
        return created

    # -- references

    def refs(self, name: str) -> list[Ref]:
        """Return branches, tags and pull requests."""
        with self.db.read() as connection:
            rows = connection.execute(
                "SELECT ref, commit_id, message FROM hub_ref WHERE repository = ? ORDER BY ref", (name,)
            ).fetchall()
        return [Ref(*row) for row in rows]

    def refs_of_all(self) -> dict[str, dict[str, str]]:
        """Return the commit id of each reference, by repository name."""
        found: dict[str, dict[str, str]] = {}
        with self.db.read() as connection:
            for row in connection.execute("SELECT repository, ref, commit_id FROM hub_ref ORDER BY repository, ref"):
                found.setdefault(row["repository"], {})[row["ref"]] = row["commit_id"]
        return found

    def resolve(self, name: str, revision: str) -> Commit:
        """Return the commit of a branch, tag, ``refs/pr/N``, commit id (7 to 40 digits) or ``HEAD``.

        :raises RevisionNotFoundError: the revision does not exist.
        """
        with self.db.read() as connection:
            for candidate in matching_refs(revision):
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

        :param proposes: the revision is the base of a new pull request.
        :raises RevisionNotFoundError: it does not exist, or cannot be the base of a pull request.
        :raises BadRequestError: it is a tag or a commit.
        """
        movable = [ref for ref in matching_refs(revision) if ref.startswith((HEADS, PULLS))]
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
        """Create a branch at ``starting_point``. Default: ``main``.

        :raises ConflictError: it already exists.
        :raises RevisionNotFoundError: the starting point does not exist.
        :raises BadRequestError: git does not allow the name.
        """
        self._create_ref(name, Ref(HEADS + branch, ""), starting_point or DEFAULT_REVISION, overwrite=overwrite)

    def create_empty_branch(self, name: str, branch: str, *, author: str, overwrite: bool = False) -> None:
        """Create a branch without files and without history. Raises the errors of :meth:`create_branch`."""
        with self.db.write() as connection:
            commit = self.add_commit(
                connection, name, None, trees.TreeEditor(connection, None), "initial commit", author=author
            )
            self.create_branch(name, branch, commit.id, overwrite=overwrite)

    def create_tag(self, name: str, tag: str, revision: str = DEFAULT_REVISION, message: str = "") -> None:
        """Create a tag. Raises the errors of :meth:`create_branch`."""
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
        """Replace a branch's history with one commit of the same files.

        :raises RevisionNotFoundError: the branch does not exist.
        :raises BadRequestError: it is not a branch.
        """
        with self.db.write() as connection:
            ref = self.writable_ref(name, branch)
            head = self.commit_of(connection, name, ref.commit)
            editor = trees.TreeEditor(connection, head.tree)
            commit = self.add_commit(connection, name, None, editor, title, author=author)
            self.set_ref(connection, name, Ref(ref.ref, commit.id))

    # -- commits and files

    def commits(self, name: str, revision: str) -> list[Commit]:
        """Return the history that ends at ``revision``, newest first.

        :raises RevisionNotFoundError: the revision does not exist.
        """
        with self.db.read() as connection:
            newest = self.resolve(name, revision)
            rows = connection.execute(
                "WITH RECURSIVE ancestor (number, id) AS (SELECT 0, :newest UNION ALL"  # noqa: S608
                " SELECT number + 1, parent FROM ancestor JOIN hub_commit AS one"
                " ON one.repository = :name AND one.id = ancestor.id WHERE parent IS NOT NULL)"
                f" SELECT {_COMMIT_COLUMNS} FROM ancestor JOIN hub_commit USING (id)"
                " WHERE repository = :name ORDER BY number",
                {"name": name, "newest": newest.id},
            ).fetchall()
        return [Commit(*row) for row in rows]

    def all_commits(self, name: str) -> list[Commit]:
        """Return all commits, oldest first, also those that no reference can reach any more."""
        with self.db.read() as connection:
            rows = connection.execute(
                f"SELECT {_COMMIT_COLUMNS} FROM hub_commit WHERE repository = ? ORDER BY created",  # noqa: S608
                (name,),
            ).fetchall()
        return [Commit(*row) for row in rows]

    def entry(self, name: str, commit: Commit, path: str) -> Entry:
        """Return the file or folder at ``path``.

        :raises EntryNotFoundError: there is no file or folder at that path.
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
        """Return the files and folders at the given paths, by path; missing ones are omitted."""
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
        """Return the entries of a folder, including folders; for the path of a file, return that file.

        :param after: start after the entry with this path.
        :param limit: maximum number of entries.
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

    # -- inside the caller's transaction

    def commit_of(self, connection: sqlite3.Connection, name: str, commit_id: str) -> Commit:
        """Return a commit that exists."""
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
        """Store a commit of the edited tree, without moving a reference."""
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
            except InvalidNameError as error:
                raise BadRequestError(str(error)) from error
            if not overwrite and any(held.ref == ref.ref for held in self.refs(name)):
                raise ConflictError(f"Reference {ref.ref} already exists in {name}.")
            self.set_ref(connection, name, Ref(ref.ref, target.id, ref.message))

    def _delete_ref(self, name: str, ref: str, revision: str) -> None:
        with self.db.write() as connection:
            deleted = connection.execute("DELETE FROM hub_ref WHERE repository = ? AND ref = ?", (name, ref)).rowcount
        if not deleted:
            raise RevisionNotFoundError(name, revision)

    def _spelling(self, connection: sqlite3.Connection, name: str) -> str | None:
        rows = connection.execute("SELECT name FROM hub_repository WHERE lower(name) = lower(?)", (name,)).fetchall()
        found = [str(row[0]) for row in rows]  # data of an earlier release may have both spellings
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
    except InvalidNameError as error:
        raise BadRequestError(str(error)) from error
    namespace = repo_id.partition("/")[0]
    if namespace in RESERVED_NAMESPACES:
        raise BadRequestError(f"repo_id {repo_id!r} is not valid: the namespace {namespace!r} is reserved.")
