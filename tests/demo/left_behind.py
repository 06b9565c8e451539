"""Search for secrets in everything that a run left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path


def find(secrets: Mapping[str, str], database: Path, folders: Iterable[Path]) -> list[str]:
    """Return where a secret occurs, as ``name of the secret: place``; the secrets themselves are not repeated.

    The database is searched twice: as text, row by row (a long value is spread over several pages of the file), and
    byte by byte with its journal (what was deleted may still lie in free pages).
    """
    found = []
    wanted = {name: secret.encode() for name, secret in secrets.items()}
    with sqlite3.connect(database) as connection:
        for line in connection.iterdump():
            row = line.encode()
            found += [f"{name}: {line[:60]}…" for name, secret in wanted.items() if secret in row]
    for path in [*database.parent.glob(database.name + "*"), *(p for f in folders for p in files(f))]:
        content = path.read_bytes()
        found += [f"{name}: {path}" for name, secret in wanted.items() if secret in content]
    return found


def files(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
