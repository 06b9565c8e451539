"""Values by path on this worker's disk, for more files than memory should hold: in a database without a name.

SQLite removes the file when it opens it, so that nothing is left when the process ends, however it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from airflow_provider_xethub.exceptions import XetDestinationError

_CACHE = -16_000
"""Memory for pages, in KiB: beyond it, they go to disk."""

_ROWS = 2_000
"""Rows that are read at a time."""

_COLUMNS = "path, value, size, marked"


class Row(NamedTuple):
    """One entry.

    :param path: its key.
    :param value: any string.
    :param size: a number that can be read without the value; ``None`` for none.
    :param marked: a flag that can be read, counted and changed without the value.
    """

    path: str
    value: str
    size: int | None = None
    marked: bool = False


class PathTable:
    """Rows with different paths, which are read in the order of their paths, as Python orders strings.

    The memory that the table takes does not depend on the number of rows.
    The file is in the folder for temporary files (``SQLITE_TMPDIR`` or ``TMPDIR``). One thread at a time may use it.

    :raises XetDestinationError: in any method: there is no such folder, or it is full.
    """

    def __init__(self) -> None:
        self._count = 0
        self._may_be_marked = False
        with _errors():
            # An empty name: a database of its own on disk, which is removed at once.
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for setting in (f"cache_size = {_CACHE}", "journal_mode = OFF", "synchronous = OFF"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute(
                "CREATE TABLE rows (path TEXT PRIMARY KEY, value TEXT NOT NULL, size INTEGER, marked INTEGER NOT NULL) "
                "WITHOUT ROWID"
            )
            # One transaction that never ends: nobody else reads this, and one for each row takes ten times as long.
            self._database.execute("BEGIN")

    def __len__(self) -> int:
        return self._count

    def add(self, row: Row) -> bool:
        """Add a row, and return whether its path is new; if not, nothing is changed."""
        with _errors():
            # Without a journal, a failed insertion could not be undone.
            done = self._database.execute(f"INSERT OR IGNORE INTO rows ({_COLUMNS}) VALUES (?, ?, ?, ?)", row)  # noqa: S608
        if not done.rowcount:
            return False
        self._count += 1
        self._may_be_marked |= row.marked
        return True

    def get(self, path: str) -> str | None:
        """Return the value of a path; ``None`` if there is none."""
        with _errors():
            found = self._database.execute("SELECT value FROM rows WHERE path = ?", (path,)).fetchone()
        return None if found is None else str(found[0])

    def replace(self, path: str, value: str) -> None:
        """Replace the value of a path."""
        with _errors():
            self._database.execute("UPDATE rows SET value = ? WHERE path = ?", (value, path))

    def is_marked(self, path: str) -> bool:
        """Return whether there is a row for this path, and it is marked."""
        if not self._may_be_marked:
            return False
        with _errors():
            return (
                self._database.execute("SELECT 1 FROM rows WHERE path = ? AND marked", (path,)).fetchone() is not None
            )

    def has_below(self, folder: str) -> bool:
        """Return whether there is a path in this folder."""
        # "0" follows "/".
        with _errors():
            query = "SELECT 1 FROM rows WHERE path > ? AND path < ? LIMIT 1"
            return self._database.execute(query, (f"{folder}/", f"{folder}0")).fetchone() is not None

    def count_marked(self) -> int:
        """Return the number of marked rows."""
        with _errors():
            return int(self._database.execute("SELECT count(*) FROM rows WHERE marked").fetchone()[0])

    def mark_all(self, marked: bool) -> None:
        """Mark all rows, or none."""
        with _errors():
            self._database.execute("UPDATE rows SET marked = ?", (marked,))
        self._may_be_marked = marked

    def mark(self, paths: Iterable[str]) -> None:
        """Mark the rows of these paths."""
        with _errors():
            self._database.executemany("UPDATE rows SET marked = 1 WHERE path = ?", ((path,) for path in paths))
        self._may_be_marked = True

    def by_path(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Yield the rows in the order of their paths, from a position to another one."""
        left = max((self._count if stop is None else min(stop, self._count)) - start, 0)
        # By the path of the last row: a cursor that stays open would hide later changes.
        last = None
        while left:
            count = min(left, _ROWS)
            if last is None:
                where, values = "ORDER BY path LIMIT ? OFFSET ?", (count, start)
            else:
                where, values = "WHERE path > ? ORDER BY path LIMIT ?", (last, count)
            with _errors():
                rows = self._database.execute(f"SELECT {_COLUMNS} FROM rows {where}", values).fetchall()  # noqa: S608
            yield from (Row(path, value, size, bool(marked)) for path, value, size, marked in rows)
            last = rows[-1][0]
            left -= count

    def sizes_by_path(self) -> Iterator[tuple[int | None, bool]]:
        """Yield size and mark of each row, in the order of their paths."""
        last = ""
        while True:
            with _errors():
                rows = self._database.execute(
                    "SELECT path, size, marked FROM rows WHERE path > ? ORDER BY path LIMIT ?", (last, _ROWS)
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from ((size, bool(marked)) for _, size, marked in rows)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise XetDestinationError(
            f"The facts about many files cannot be kept on this worker: {error}. Point TMPDIR to a folder with 1 GB "
            "for each million files. Nothing was published."
        ) from error
