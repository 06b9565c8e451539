"""Trees of files: one stored object per folder, shared between the commits in which the folder is the same.

So a commit stores the folders along the paths it changes, and nothing else, however large the repository is.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from airflow_provider_xethub.local.hub_errors import BadRequestError

Kind = Literal["regular", "xet", "directory"]
_DIRECTORY = "directory"


@dataclass(frozen=True)
class Entry:
    """A file or folder at a commit.

    ``oid`` is what git would call it: the blob of the content, or of the pointer text where the content lies in CAS.
    ``commit`` is the last one that changed it. ``sha256`` and ``xet_hash`` are those of a Xet file.
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
    """Return the text that git stores in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


def blob_oid(content: bytes) -> str:
    """Return git's id of a blob: the sha1 of its header and content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def store_blob(connection: sqlite3.Connection, content: bytes) -> str:
    """Store the content of a regular file and return its git id."""
    oid = blob_oid(content)
    connection.execute("INSERT OR IGNORE INTO hub_blob (id, content) VALUES (?, ?)", (oid, content))
    return oid


def find(connection: sqlite3.Connection, tree: str, path: str) -> Entry | None:
    """Return the entry at ``path``, or ``None``."""
    *folders, name = path.split("/")
    at: str | None = tree
    for folder in folders:
        entry = _load(connection, at, "").get(folder)
        if entry is None or entry.kind != _DIRECTORY:
            return None
        at = entry.oid
    parent = path.rpartition("/")[0]
    return _load(connection, at, parent).get(name)


def walk(connection: sqlite3.Connection, tree: str, folder: str = "", *, recursive: bool) -> Iterator[Entry]:
    """Yield the entries of a tree in order of name, folders included; ``folder`` is the tree's own path."""
    for _, entry in sorted(_load(connection, tree, folder).items()):
        yield entry
        if recursive and entry.kind == _DIRECTORY:
            yield from walk(connection, entry.oid, entry.path, recursive=True)


class TreeEditor:
    """A tree being changed, in memory until :meth:`save`.

    :param connection: inside a write transaction.
    :param tree: the tree to begin with; ``None`` for an empty one.
    """

    def __init__(self, connection: sqlite3.Connection, tree: str | None, path: str = "") -> None:
        self._connection = connection
        self._tree = tree
        self._path = path
        self._entries = _load(connection, tree, path)
        self._opened: dict[str, TreeEditor] = {}

    def put(self, entry: Entry) -> None:
        """Add or replace a file.

        :raises BadRequestError: a folder on its way is a file, or it is a folder itself.
        """
        folder, name = self._descend(entry.path, create=True)
        if folder is None or not folder._may_be_file(name):
            raise BadRequestError(
                f"{entry.path!r} cannot be committed: a file and a folder would have the same path. "
                "Delete the one that is there first."
            )
        folder._opened.pop(name, None)
        folder._entries[name] = entry

    def delete_file(self, path: str) -> bool:
        """Delete a file and say whether it was there."""
        folder, name = self._descend(path, create=False)
        if folder is None or name in folder._opened:
            return False
        entry = folder._entries.get(name)
        if entry is None or entry.kind == _DIRECTORY:
            return False
        del folder._entries[name]
        return True

    def delete_folder(self, path: str) -> bool:
        """Delete a folder with everything in it and say whether it was there."""
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
        """Store what was changed and return the id of the tree; folders left empty vanish, as in git."""
        for name, child in self._opened.items():
            tree = child.save(commit)
            self._entries.pop(name, None)
            if child._entries:
                self._entries[name] = Entry(child._path, "directory", tree, 0, commit)
        self._opened.clear()
        rows = [
            [name, entry.kind, entry.oid, entry.size, entry.commit, entry.sha256, entry.xet_hash]
            for name, entry in sorted(self._entries.items())
        ]
        text = json.dumps(rows, separators=(",", ":"))
        tree_id = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._connection.execute("INSERT OR IGNORE INTO hub_tree (id, entries) VALUES (?, ?)", (tree_id, text))
        return tree_id

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


def _load(connection: sqlite3.Connection, tree: str | None, folder: str) -> dict[str, Entry]:
    if tree is None:
        return {}
    (text,) = connection.execute("SELECT entries FROM hub_tree WHERE id = ?", (tree,)).fetchone()
    prefix = f"{folder}/" if folder else ""
    return {name: Entry(prefix + name, *rest) for name, *rest in json.loads(text)}
