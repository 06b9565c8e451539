"""The files of buckets: by path, each with its Xet hash, without history."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xethub_local.metadata.bucket_log import BucketEvents
from xethub_local.store.database import Database
from xethub_local.store.schema import SCHEMA
from xethub_local.store.timestamps import iso_time


@dataclass(frozen=True)
class BucketFile:
    """A file of a bucket. ``mtime`` in UNIX milliseconds, as given by the uploader; ``uploaded`` in UNIX seconds."""

    path: str
    size: int
    xet_hash: str
    mtime: int
    uploaded: float

    def to_json(self) -> dict[str, Any]:
        """Return the file as listings and events describe it."""
        return {
            "path": self.path,
            "size": self.size,
            "xetHash": self.xet_hash,
            "mtime": iso_time(self.mtime / 1000),
            "uploadedAt": iso_time(self.uploaded),
        }


@dataclass(frozen=True)
class BucketTotals:
    """Number and total size of a bucket's files. ``size`` in bytes; ``updated`` in UNIX seconds, 0 if never changed."""

    files: int
    size: int
    updated: float


_COLUMNS = "path, size, xet_hash, mtime, uploaded"


class BucketBatch:
    """Changes to one bucket in a single transaction; see :meth:`BucketFiles.batch`."""

    def __init__(self, connection: sqlite3.Connection, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket
        self.changes: list[dict[str, Any]] = []

    def put(self, file: BucketFile) -> None:
        """Add or replace a file."""
        known = self._connection.execute(
            "SELECT 1 FROM hub_bucket_file WHERE repository = ? AND path = ?", (self._bucket, file.path)
        ).fetchone()
        self._connection.execute(
            f"INSERT OR REPLACE INTO hub_bucket_file (repository, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
            (self._bucket, file.path, file.size, file.xet_hash, file.mtime, file.uploaded),
        )
        self.changes.append({"op": "update" if known else "add", **file.to_json()})

    def delete(self, path: str) -> bool:
        """Delete a file, and return whether it existed."""
        deleted = self._connection.execute(
            "DELETE FROM hub_bucket_file WHERE repository = ? AND path = ?", (self._bucket, path)
        ).rowcount
        if deleted:
            self.changes.append({"op": "delete", "path": path})
        return deleted > 0


class BucketFiles:
    """The files of all buckets; a bucket itself is a repository such as ``buckets/acme/raw``.

    :ivar events: log of their changes.
    """

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        db.execute_schema(SCHEMA)
        self.events = BucketEvents(db)

    @contextmanager
    def batch(self, bucket: str) -> Iterator[BucketBatch]:
        """Change files in one transaction, and notify followers once it is committed."""
        with self._db.write() as connection:
            batch = BucketBatch(connection, bucket)
            yield batch
            self.events.record(connection, bucket, batch.changes, self._clock())
        self.events.notify(bucket)

    def put(self, bucket: str, file: BucketFile) -> None:
        """Add or replace a file."""
        with self.batch(bucket) as batch:
            batch.put(file)

    def delete(self, bucket: str, path: str) -> bool:
        """Delete a file, and return whether it existed."""
        with self.batch(bucket) as batch:
            return batch.delete(path)

    def get(self, bucket: str, path: str) -> BucketFile | None:
        """Return a file, or ``None``."""
        return self.get_each(bucket, [path]).get(path)

    def get_each(self, bucket: str, paths: Iterable[str]) -> dict[str, BucketFile]:
        """Return the files at the given paths, by path; missing ones are omitted."""
        found = {}
        with self._db.read() as connection:
            for path in paths:
                row = connection.execute(
                    f"SELECT {_COLUMNS} FROM hub_bucket_file WHERE repository = ? AND path = ?",  # noqa: S608
                    (bucket, path),
                ).fetchone()
                if row:
                    found[path] = BucketFile(*row)
        return found

    def beneath(self, bucket: str, folder: str = "") -> list[BucketFile]:
        """Return the files in a folder and below, or the file at that path, sorted by path."""
        inside = self.starting_with(bucket, f"{folder}/" if folder else "")
        file = self.get(bucket, folder) if folder else None
        return [file, *inside] if file else inside

    def starting_with(self, bucket: str, prefix: str) -> list[BucketFile]:
        """Return the files whose path starts with ``prefix``, sorted by path."""
        with self._db.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM hub_bucket_file WHERE repository = ?"  # noqa: S608
                # SQLite compares text bytewise, and the byte ff, which never occurs in UTF-8, sorts after all others.
                " AND path >= ? AND path < ? || CAST(x'ff' AS TEXT) ORDER BY path",
                (bucket, prefix, prefix),
            ).fetchall()
        return [BucketFile(*row) for row in rows]

    def totals(self, bucket: str) -> BucketTotals:
        """Return the number and size of a bucket's files, and the time of its last change."""
        with self._db.read() as connection:
            files, size, uploaded = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0), coalesce(max(uploaded), 0) FROM hub_bucket_file"
                " WHERE repository = ?",
                (bucket,),
            ).fetchone()
            (changed,) = connection.execute(
                "SELECT coalesce(max(created), 0) FROM hub_bucket_event WHERE repository = ?", (bucket,)
            ).fetchone()
        return BucketTotals(files, size, max(uploaded, changed))


def fold(files: Iterable[BucketFile], prefix: str) -> list[BucketFile | str]:
    """Return files whose path starts with ``prefix``, with folders in place of deeper files, sorted by path.

    A folder ends at the first slash after the prefix, except a slash directly after it. So the prefix ``logs`` gives
    the content of the folder ``logs`` (``logs/a.txt``, ``logs/sub``), and also ``logs.json`` and ``logs_old``. It is a
    guess, based on how clients use the response, that the real Hub splits paths at the same place.
    """
    found: dict[str, BucketFile | str] = {}
    for file in files:
        end = file.path.find("/", len(prefix) + 1 if prefix else 0)
        if end < 0:
            found[file.path] = file
        else:
            found.setdefault(f"{file.path[:end]}/", file.path[:end])
    return [found[key] for key in sorted(found)]
