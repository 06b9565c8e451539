"""The SQLite database of the local Hub."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from xethub_local.store.folder import make_private

FILE_NAME = "hub.sqlite3"
VERSION = 1
"""Version of the data, in SQLite's ``user_version``. Raise it when an older release would misread the tables."""

_BUSY_TIMEOUT_SECONDS = 30


class NewerFolderError(ValueError):
    """The folder was written by a newer release of this package, and this release cannot read it."""


class Database:
    """One SQLite file in ``folder``; a connection belongs to one thread at a time.

    Writers of this process take turns, so none of them gets "database is locked"; writers of different processes wait
    up to 30 seconds for each other. Committed data survives a crash of the machine.

    :param folder: folder of ``hub.sqlite3``; created if missing.
    :raises NewerFolderError: a newer release wrote it.
    """

    def __init__(self, folder: Path) -> None:
        make_private(folder)
        self._path = folder / FILE_NAME
        self._make_private()
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._local = threading.local()
        self._is_closed = False
        self._check_version()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection inside a transaction: committed at the end, rolled back on an exception.

        Inside another ``write`` of the same thread, it joins that transaction as a savepoint, so that changes of
        several stores take effect together or not at all.
        """
        outer = self._writing()
        if outer is not None:
            with _transaction(outer, "SAVEPOINT nested", "RELEASE nested", "ROLLBACK TO nested; RELEASE nested"):
                yield outer
            return
        with (
            self._write_lock,
            self._lend() as connection,
            _transaction(connection, "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"),
        ):
            self._local.writing = connection
            try:
                yield connection
            finally:
                self._local.writing = None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection with a consistent view; inside ``write``, it sees that transaction's own changes.

        Do not keep it open across the ``yield`` of a generator: fetch all rows first.
        """
        outer = self._writing()
        if outer is not None:
            yield outer
            return
        with self._lend() as connection, _transaction(connection, "BEGIN", "COMMIT", "ROLLBACK"):
            yield connection

    def first(self, sql: str, parameters: dict[str, object]) -> sqlite3.Row | None:
        """Return the first row of a query; cheaper than :meth:`read`, because it needs no transaction."""
        outer = self._writing()
        with nullcontext(outer) if outer is not None else self._lend() as connection:
            row: sqlite3.Row | None = connection.execute(sql, parameters).fetchone()
        return row

    def execute_schema(self, sql: str) -> None:
        """Run ``CREATE TABLE IF NOT EXISTS`` statements, separated by semicolons, in one transaction."""
        with self._write_lock, self._lend() as connection:
            try:
                connection.executescript(f"BEGIN IMMEDIATE; {sql}; COMMIT;")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close all connections; one that is in use is closed when it is returned."""
        with self._idle_lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _make_private(self) -> None:
        """Make the database readable by its owner only, because it holds the content of private repositories.

        SQLite creates its other files with the same mode.
        """
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        for path in (self._path, *(self._path.with_name(f"{FILE_NAME}-{each}") for each in ("wal", "shm"))):
            with suppress(FileNotFoundError, PermissionError):  # owned by another user: not ours to change
                if path.stat().st_mode & 0o077:  # created by an earlier release
                    path.chmod(0o600)

    def _check_version(self) -> None:
        with self._lend() as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found < VERSION:
                connection.execute(f"PRAGMA user_version = {VERSION}")
        if found > VERSION:
            self.close()
            raise NewerFolderError(
                f"{self._path} has version {found}, but this release of airflow-provider-xethub reads version "
                f"{VERSION}: a newer release wrote it. Use that release."
            )

    def _writing(self) -> sqlite3.Connection | None:
        return getattr(self._local, "writing", None)

    @contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        with self._idle_lock:
            if self._is_closed:
                raise RuntimeError(f"The database {self._path} is closed.")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        finally:
            with self._idle_lock:
                keep = not self._is_closed
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=_BUSY_TIMEOUT_SECONDS,  # sqlite3's busy timeout
            isolation_level=None,  # explicit transactions only: BEGIN IMMEDIATE, never an implicit BEGIN
            check_same_thread=False,  # used by one thread at a time
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str, commit: str, rollback: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute(commit)
    except BaseException:
        # On some errors, such as a full disk, SQLite itself has ended the transaction.
        if connection.in_transaction:
            for statement in rollback.split(";"):
                connection.execute(statement)
        raise
