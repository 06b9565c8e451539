"""File trees: one stored object per folder, shared by all commits in which the folder is the same.

So a commit stores only the folders along the paths it changes, however large the repository is. A large folder is
stored in parts, and only changed parts are stored again. The boundaries of parts depend on names only, so that a folder
with the same content always has the same parts and the same id.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from xethub_local.store.errors import BadRequestError

Kind = Literal["regular", "xet", "directory"]
_DIRECTORY = "directory"
_UNDIVIDED_ROWS = 256
_ROWS_PER_PART = 128  # on average

# [name, kind, oid, size, commit, sha256, xet_hash], as stored
Row = list[Any]


@dataclass(frozen=True)
class Entry:
    """A file or folder in a commit.

    ``oid`` is its git id; for a file in CAS, that of its LFS pointer. ``commit`` is the last commit that changed it.
    Only Xet files have ``sha256`` and ``xet_hash``.
    """

    path: str
    kind: Kind
    oid: str
    size: int
    commit: str
    sha256: str | None = None
    xet_hash: str | None = None

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


def pointer_text(sha256: str, size: int) -> str:
    """Return the LFS pointer that git stores in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


def blob_oid(content: bytes) -> str:
    """Return the git id of a blob: the sha1 of its header and content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def store_blob(connection: sqlite3.Connection, content: bytes) -> str:
    """Store the content of a regular file, and return its git id."""
    oid = blob_oid(content)
    connection.execute("INSERT OR IGNORE INTO hub_blob (id, content) VALUES (?, ?)", (oid, content))
    return oid


def find(connection: sqlite3.Connection, tree: str, path: str) -> Entry | None:
    """Return the entry at ``path``, or ``None``."""
    return find_each(connection, tree, [path]).get(path)


def find_each(connection: sqlite3.Connection, tree: str, paths: Iterable[str]) -> dict[str, Entry]:
    """Return the entries at the given paths, by path; each part of a folder is read at most once."""
    folders: dict[str, _Folder] = {}
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    found = {}
    for path in paths:
        at: str = tree
        row: Row | None = None
        for name in path.split("/"):
            if row is not None:
                if row[1] != _DIRECTORY:
                    row = None
                    break
                at = row[2]
            folder = folders.get(at) or folders.setdefault(at, _Folder(connection, at))
            part = folder.part_of(name)
            if (at, part) not in rows:
                rows[at, part] = {one[0]: one for one in folder.rows(part)}
            row = rows[at, part].get(name)
            if row is None:
                break
        if row is not None:
            found[path] = _entry(row, path)
    return found


def walk(
    connection: sqlite3.Connection, tree: str, folder: str = "", *, recursive: bool, after: str = ""
) -> Iterator[Entry]:
    """Yield the entries of a tree, sorted by name, a folder before its content.

    :param folder: path of the tree.
    :param after: start after this path, without reading what comes before it.
    """
    prefix = f"{folder}/" if folder else ""
    first, _, deeper = after.removeprefix(prefix).partition("/")
    stored = _Folder(connection, tree)
    for part in stored.parts_from(first):
        for row in stored.rows(part):
            if row[0] < first:
                continue
            path = prefix + row[0]
            is_passed = bool(after) and row[0] == first
            if not is_passed:
                yield _entry(row, path)
            if recursive and row[1] == _DIRECTORY:
                rest = f"{path}/{deeper}" if is_passed and deeper else ""
                yield from walk(connection, row[2], path, recursive=True, after=rest)


def xet_hashes(connection: sqlite3.Connection, tree: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the Xet hashes of the files directly in a stored folder or part, and the ids of its folders and parts."""
    stored = _fetch(connection, tree)
    if isinstance(stored, dict):
        return frozenset(), tuple(part for _, part in stored["parts"])
    hashes = frozenset(row[6] for row in stored if row[6] is not None)
    return hashes, tuple(row[2] for row in stored if row[1] == _DIRECTORY)


class TreeEditor:
    """Edits a tree in memory until :meth:`save`.

    :param connection: in a write transaction.
    :param tree: id of the tree to edit; ``None`` for an empty one.
    """

    def __init__(self, connection: sqlite3.Connection, tree: str | None, path: str = "") -> None:
        self._connection = connection
        self._tree = tree
        self._path = path
        self._entries = _load(connection, tree, path)
        self._opened: dict[str, TreeEditor] = {}

    def put(self, entry: Entry) -> None:
        """Add or replace a file.

        :raises BadRequestError: one of its parent folders is a file, or its path is a folder.
        """
        folder, name = self._descend(entry.path, create=True)
        if folder is None or not folder._may_be_file(name):
            raise BadRequestError(
                f"{entry.path!r} cannot be committed: a file and a folder would have the same path. "
                "Delete the existing one first."
            )
        folder._opened.pop(name, None)
        folder._entries[name] = entry

    def delete_file(self, path: str) -> bool:
        """Delete a file, and return whether it existed."""
        folder, name = self._descend(path, create=False)
        if folder is None or name in folder._opened:
            return False
        entry = folder._entries.get(name)
        if entry is None or entry.kind == _DIRECTORY:
            return False
        del folder._entries[name]
        return True

    def delete_folder(self, path: str) -> bool:
        """Delete a folder with everything in it, and return whether it existed."""
        folder, name = self._descend(path, create=False)
        if folder is None:
            return False
        opened = folder._opened.pop(name, None)
        entry = folder._entries.get(name)
        if entry is not None and entry.kind == _DIRECTORY:
            del folder._entries[name]
            return True
        return opened is not None

    def save(self, commit: str) -> str:
        """Store the changed folders and return the id of the tree. As in git, empty folders disappear."""
        for name, child in self._opened.items():
            tree = child.save(commit)
            self._entries.pop(name, None)
            if child._entries:
                self._entries[name] = Entry(child._path, "directory", tree, 0, commit)
        self._opened.clear()
        rows: list[Row] = [
            [name, entry.kind, entry.oid, entry.size, entry.commit, entry.sha256, entry.xet_hash]
            for name, entry in sorted(self._entries.items())
        ]
        if len(rows) <= _UNDIVIDED_ROWS:
            return _store(self._connection, rows)
        return _store(
            self._connection, {"parts": [[part[0][0], _store(self._connection, part)] for part in _cut(rows)]}
        )

    def _may_be_file(self, name: str) -> bool:
        opened = self._opened.get(name)
        if opened is not None:
            return opened._is_empty()
        entry = self._entries.get(name)
        return entry is None or entry.kind != _DIRECTORY

    def _is_empty(self) -> bool:
        names = {*self._entries, *self._opened}
        return all(name in self._opened and self._opened[name]._is_empty() for name in names)

    def _descend(self, path: str, *, create: bool) -> tuple[TreeEditor | None, str]:
        *folders, name = path.split("/")
        at = self
        for folder in folders:
            child = at._opened.get(folder)
            if child is None:
                entry = at._entries.get(folder)
                if (entry is None and not create) or (entry is not None and entry.kind != _DIRECTORY):
                    return None, name
                child_path = f"{at._path}/{folder}" if at._path else folder
                child = TreeEditor(self._connection, entry.oid if entry else None, child_path)
                at._opened[folder] = child
            at = child
        return at, name


class _Folder:
    """A stored folder: the first name of each part, and the rows of the parts."""

    def __init__(self, connection: sqlite3.Connection, tree: str) -> None:
        self._connection = connection
        stored = _fetch(connection, tree)
        self._whole: list[Row] | None = stored if isinstance(stored, list) else None
        parts: list[tuple[str, str]] = stored["parts"] if isinstance(stored, dict) else [("", tree)]
        self._first_names = [name for name, _ in parts]
        self._parts = [part for _, part in parts]

    def part_of(self, name: str) -> str:
        """Return the id of the part for ``name``."""
        return self._parts[max(0, bisect_right(self._first_names, name) - 1)]

    def parts_from(self, name: str) -> list[str]:
        """Return the ids of the parts from ``name`` on."""
        return self._parts[max(0, bisect_right(self._first_names, name) - 1) :]

    def rows(self, part: str) -> list[Row]:
        """Return the rows of a part, sorted by name."""
        if self._whole is not None:
            return self._whole
        rows: list[Row] = _fetch(self._connection, part)
        return rows


def _cut(rows: list[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        if part and zlib.crc32(row[0].encode()) % _ROWS_PER_PART == 0:
            yield part
            part = []
        part.append(row)
    yield part


def _store(connection: sqlite3.Connection, stored: object) -> str:
    text = json.dumps(stored, separators=(",", ":"))
    tree_id = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    connection.execute("INSERT OR IGNORE INTO hub_tree (id, entries) VALUES (?, ?)", (tree_id, text))
    return tree_id


def _fetch(connection: sqlite3.Connection, tree: str) -> Any:
    (text,) = connection.execute("SELECT entries FROM hub_tree WHERE id = ?", (tree,)).fetchone()
    return json.loads(text)


def _entry(row: Row, path: str) -> Entry:
    return Entry(path, *row[1:])


def _load(connection: sqlite3.Connection, tree: str | None, folder: str) -> dict[str, Entry]:
    if tree is None:
        return {}
    return {entry.name: entry for entry in walk(connection, tree, folder, recursive=False)}
