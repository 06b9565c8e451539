"""Values by path on this worker's disk, for more files than memory should hold: in a database without a name.

SQLite removes the file when it opens it, so that nothing is left when the process ends, however it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from airflow_provider_xethub.exceptions import XetDestinationError

_CACHE = -16_000
"""Memory for pages, in KiB: beyond it, they go to disk."""

_ROWS = 2_000
"""Rows that are read at a time."""

_COLUMNS = "path, value, size, marked"


@dataclass(frozen=True)
class Row:
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
    """Rows with different paths, which are read in the order of their paths, or in the order in which they were added.

    Paths are ordered as Python orders strings. The memory that the table takes does not depend on the number of rows.
    The file is in the folder for temporary files (``SQLITE_TMPDIR`` or ``TMPDIR``). One thread at a time may use it.

    :raises XetDestinationError: in any method: there is no such folder, or it is full.
    """

    def __init__(self) -> None:
        self._count = 0
        with _errors():
            # An empty name: a database of its own on disk, which is removed at once.
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for setting in (f"cache_size = {_CACHE}", "journal_mode = OFF", "synchronous = OFF"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute(
                "CREATE TABLE rows (number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, value TEXT NOT NULL, "
                "size INTEGER, marked INTEGER NOT NULL)"
            )

    def __len__(self) -> int:
        return self._count

    def add(self, row: Row) -> bool:
        """Add a row, and return whether its path is new; if not, nothing is changed."""
        with _errors():
            try:
                self._database.execute(
                    "INSERT INTO rows (path, value, size, marked) VALUES (?, ?, ?, ?)",
                    (row.path, row.value, row.size, row.marked),
                )
            except sqlite3.IntegrityError:
                return False
        self._count += 1
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

    def total_size(self) -> int:
        """Return the sum of the sizes."""
        with _errors():
            return int(self._database.execute("SELECT coalesce(sum(size), 0) FROM rows").fetchone()[0])

    def count_marked(self) -> int:
        """Return the number of marked rows."""
        with _errors():
            return int(self._database.execute("SELECT count(*) FROM rows WHERE marked").fetchone()[0])

    def mark_all(self, marked: bool) -> None:
        """Mark all rows, or none."""
        with _errors():
            self._database.execute("UPDATE rows SET marked = ?", (marked,))

    def mark(self, paths: Iterable[str]) -> None:
        """Mark the rows of these paths."""
        with _errors():
            self._database.executemany("UPDATE rows SET marked = 1 WHERE path = ?", ((path,) for path in paths))

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

    def as_added(self) -> Iterator[Row]:
        """Yield the rows in the order in which they were added."""
        number = 0
        while True:
            with _errors():
                rows = self._database.execute(
                    f"SELECT number, {_COLUMNS} FROM rows WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608
                    (number, _ROWS),
                ).fetchall()
            if not rows:
                return
            number = rows[-1][0]
            yield from (Row(path, value, size, bool(marked)) for _, path, value, size, marked in rows)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise XetDestinationError(
            f"The facts about many files cannot be kept on this worker: {error}. Point TMPDIR to a folder with 1 GB "
            "for each million files. Nothing was published."
        ) from error
