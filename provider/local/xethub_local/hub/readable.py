"""Which stored files a request may add to its repository: those that it can read anyway.

Knowing the hash of a file is not enough. The file must have been uploaded to that repository, or be in another one
whose files the Hub token can read.
"""

from __future__ import annotations

from collections.abc import Iterator

from xethub_local.content.store import EMPTY_FILE, StoredFile
from xethub_local.hub.request import HubRequest

_HOLDERS = (
    "SELECT file.xet_hash, file.size, file.sha256, repository.name, repository.private"
    " FROM cas_file AS file JOIN cas_readable AS readable ON readable.xet_hash = file.xet_hash"
    " JOIN hub_repository AS repository ON repository.name = readable.repository"
    " WHERE file.{column} = ? ORDER BY repository.name <> ?, repository.private, file.rowid"
)


def readable_file(request: HubRequest, sha256: str) -> StoredFile | None:
    """Return a stored file with this sha256 that the request may add to its repository, or ``None``."""
    return EMPTY_FILE if sha256 == EMPTY_FILE.sha256 else _first(request, "sha256", sha256)


def readable_xet_file(request: HubRequest, xet_hash: str) -> StoredFile | None:
    """Return the stored file with this Xet hash if the request may add it to its repository, or ``None``."""
    return EMPTY_FILE if xet_hash == EMPTY_FILE.xet_hash else _first(request, "xet_hash", xet_hash)


def _first(request: HubRequest, column: str, value: str) -> StoredFile | None:
    for file, repository, is_private in _holders(request, column, value):
        is_own = repository == request.repository
        if is_own or request.can_read_files(repository, is_private=is_private):
            return file
    return None


def _holders(request: HubRequest, column: str, value: str) -> Iterator[tuple[StoredFile, str, bool]]:
    with request.hub.repositories.db.read() as connection:
        rows = connection.execute(_HOLDERS.format(column=column), (value, request.repository)).fetchall()
    for xet_hash, size, sha256, repository, is_private in rows:
        yield StoredFile(xet_hash, size, sha256), repository, bool(is_private)
