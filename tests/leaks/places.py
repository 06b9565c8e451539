"""What an Airflow leaves behind, as pieces to search: rows and pages of its database, and files."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from leaks.search import COMPRESSED, Piece

_TABLES = {
    "asset_event": "asset events",
    "asset_state_store": "asset state",
    "connection": "connections",
    "connection_test_request": "connections",
    "dag_code": "DAGs",
    "import_error": "import errors",
    "log": "event log",
    "rendered_task_instance_fields": "rendered fields",
    "serialized_dag": "DAGs",
    "task_state_store": "task state",
    "trigger": "triggers",
    "xcom": "XComs",
}
"""In which place of the closing table the rows of a table of the database are; all others are *other tables*."""

_ENCRYPTED = re.compile(rb"gAAAA[A-Za-z0-9_\-]+=*")
OTHER_TABLES = "other tables"
PAGES = "database pages"
REQUEST_IDS = "request IDs in them"
"""Of the client logs: what a server sent as ``X-Request-Id``, which may be anything that it was sent."""
_REQUEST_ID = re.compile(rb'"request_id":"(?:[^"\\]|\\.)*"|\(request id .*?\): ')

PLACES = (
    *sorted(set(_TABLES.values())),
    OTHER_TABLES,
    PAGES,
    "task logs",
    "component logs",
    "client logs",
    REQUEST_IDS,
    "API, admin",
    "API, viewer",
    "API, user",
    "API, op",
    "webhooks",
    "OpenLineage",
    "metrics",
    "temporary files",
    "caches",
    "manifests",
    "downloads",
    "environments",
    "command lines",
    "configuration",
    "identity files",
)
"""All that must be searched, in the order of the closing table."""


def rows(database: Path) -> Iterator[Piece]:
    """Return each row of each table: a long value is spread over several pages, where a search would miss it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        names = [name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in names:
            place = _TABLES.get(table, OTHER_TABLES)
            for number, row in enumerate(connection.execute(f'SELECT * FROM "{table}"'), 1):
                values = [value if isinstance(value, bytes) else str(value).encode() for value in row]
                yield Piece(place, f"{table}, row {number}", b"\n".join(values))
                for value in values:
                    if value.startswith(COMPRESSED):
                        yield Piece(place, f"{table}, row {number}", value)


def pages(database: Path) -> Iterator[Piece]:
    """Return the database byte by byte, with its journal: deleted rows may still lie in free pages."""
    for path in sorted(database.parent.glob(f"{database.name}*")):
        yield Piece(PAGES, path.name, path.read_bytes())


def opened(pieces: Iterable[Piece], key: str) -> Iterator[Piece]:
    """Return what pieces contain encrypted with this Fernet key: nobody who has the key finds a credential there.

    Only for what must not contain one even so, such as the arguments of triggers.
    """
    from cryptography.fernet import Fernet, InvalidToken

    fernet = Fernet(key)
    for piece in pieces:
        for encrypted in _ENCRYPTED.findall(piece.content):
            try:
                yield Piece(piece.place, f"{piece.name}, decrypted", fernet.decrypt(encrypted))
            except InvalidToken:
                continue


def files(place: str, *folders: Path) -> Iterator[Piece]:
    """Return all files below the folders, and files that are given by themselves."""
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                yield Piece(place, str(path), path.read_bytes())


def client_logs(folder: Path) -> Iterator[Piece]:
    """Return the logs of ``hf_xet``, without what servers repeated as request IDs, which is a place of its own."""
    for piece in files("client logs", folder):
        yield Piece(piece.place, piece.name, _REQUEST_ID.sub(b"", piece.content))
        yield Piece(REQUEST_IDS, piece.name, b"\n".join(_REQUEST_ID.findall(piece.content)))
