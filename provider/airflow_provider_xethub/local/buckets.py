"""What buckets hold: files by path, each with its Xet hash, and no history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_xethub.local.database import Database
from airflow_provider_xethub.local.hub_schema import SCHEMA


@dataclass(frozen=True)
class BucketFile:
    """A file of a bucket. ``mtime`` in milliseconds as the uploader said, ``uploaded`` in UNIX seconds."""

    path: str
    size: int
    xet_hash: str
    mtime: int
    uploaded: float


_COLUMNS = "path, size, xet_hash, mtime, uploaded"


class BucketFiles:
    """The files of all buckets; a bucket itself is a repository such as ``buckets/acme/raw``."""

    def __init__(self, db: Database) -> None:
        self._db = db
        db.execute_schema(SCHEMA)

    def put(self, bucket: str, file: BucketFile) -> None:
        """Add or replace a file."""
        with self._db.write() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO hub_bucket_file (repository, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                (bucket, file.path, file.size, file.xet_hash, file.mtime, file.uploaded),
            )

    def delete(self, bucket: str, path: str) -> bool:
        """Delete a file and say whether it was there."""
        with self._db.write() as connection:
            return (
                connection.execute(
                    "DELETE FROM hub_bucket_file WHERE repository = ? AND path = ?", (bucket, path)
                ).rowcount
                > 0
            )

    def get(self, bucket: str, path: str) -> BucketFile | None:
        """Return a file, or ``None``."""
        with self._db.read() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM hub_bucket_file WHERE repository = ? AND path = ?",  # noqa: S608
                (bucket, path),
            ).fetchone()
        return BucketFile(*row) if row else None

    def beneath(self, bucket: str, folder: str = "") -> list[BucketFile]:
        """Return the files beneath a folder, or with that very path, in order of path."""
        with self._db.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM hub_bucket_file WHERE repository = ?"  # noqa: S608
                " AND (? = '' OR path = ? OR substr(path, 1, length(?) + 1) = ? || '/') ORDER BY path",
                (bucket, folder, folder, folder, folder),
            ).fetchall()
        return [BucketFile(*row) for row in rows]


def fold(files: Iterable[BucketFile], folder: str, *, recursive: bool) -> list[BucketFile | str]:
    """Return files and the paths of folders beneath ``folder``, in order of path.

    Not recursive: only what lies directly in it.
    """
    prefix = f"{folder}/" if folder else ""
    found: dict[str, BucketFile | str] = {}
    for file in files:
        parts = file.path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            if recursive or depth == 1:
                path = prefix + "/".join(parts[:depth])
                found[path] = path
        if recursive or len(parts) == 1 or file.path == folder:
            found[file.path] = file
    return [found[path] for path in sorted(found)]
