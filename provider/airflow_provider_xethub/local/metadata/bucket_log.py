"""What happened to the files of buckets, one entry per batch: kept for a while, and told to whoever follows.

A follower that was away resumes behind the entry it saw last. Only the newest entries of a bucket are kept; whoever
was away longer has to look at the bucket again.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.local.store.database import Database

_KEPT = 1000
_CHANGES_PER_EVENT = 1000


@dataclass(frozen=True)
class BucketEvent:
    """Changes that happened together. ``id`` grows from event to event; ``created`` in UNIX seconds."""

    id: int
    created: float
    changes: list[dict[str, Any]]


class ForgottenError(LookupError):
    """What happened since then is not kept any more."""


class BucketEvents:
    """The events of all buckets.

    :param kept: how many of the newest events of each bucket are kept.
    """

    def __init__(self, db: Database, *, kept: int = _KEPT) -> None:
        self._db = db
        self._kept = kept
        self._lock = threading.Lock()
        self._followers: dict[asyncio.Event, tuple[str, asyncio.AbstractEventLoop]] = {}

    def record(self, connection: sqlite3.Connection, bucket: str, changes: Sequence[object], created: float) -> None:
        """Keep what happened, inside the transaction in which it happens, and forget what is too old."""
        for start in range(0, len(changes), _CHANGES_PER_EVENT):
            connection.execute(
                "INSERT INTO hub_bucket_event (repository, created, changes) VALUES (?, ?, ?)",
                (bucket, created, json.dumps(changes[start : start + _CHANGES_PER_EVENT], separators=(",", ":"))),
            )
        oldest = connection.execute(
            "SELECT id, created FROM hub_bucket_event WHERE repository = ? ORDER BY id DESC LIMIT 1 OFFSET ?",
            (bucket, self._kept),
        ).fetchone()
        if oldest is not None:
            connection.execute(
                "INSERT OR REPLACE INTO hub_bucket_forgotten (repository, last_id, created) VALUES (?, ?, ?)",
                (bucket, *oldest),
            )
            connection.execute("DELETE FROM hub_bucket_event WHERE repository = ? AND id <= ?", (bucket, oldest[0]))

    def after(self, bucket: str, cursor: int, limit: int = 100) -> list[BucketEvent]:
        """Return the next events behind the one with the id ``cursor``, oldest first.

        :raises ForgottenError: some of them are not kept any more.
        """
        with self._db.read() as connection:
            forgotten = connection.execute(
                "SELECT 1 FROM hub_bucket_forgotten WHERE repository = ? AND last_id > ?", (bucket, cursor)
            ).fetchone()
            rows = connection.execute(
                "SELECT id, created, changes FROM hub_bucket_event WHERE repository = ? AND id > ? ORDER BY id LIMIT ?",
                (bucket, cursor, limit),
            ).fetchall()
        if forgotten:
            raise ForgottenError(f"Events of {bucket} behind {cursor} were forgotten.")
        return [BucketEvent(row[0], row[1], json.loads(row[2])) for row in rows]

    def cursor_at(self, bucket: str, since: float) -> int:
        """Return the cursor behind which everything lies that happened at ``since`` (UNIX seconds) or later.

        :raises ForgottenError: not all of it is kept any more.
        """
        with self._db.read() as connection:
            forgotten = connection.execute(
                "SELECT 1 FROM hub_bucket_forgotten WHERE repository = ? AND created >= ?", (bucket, since)
            ).fetchone()
            (first,) = connection.execute(
                "SELECT min(id) FROM hub_bucket_event WHERE repository = ? AND created >= ?", (bucket, since)
            ).fetchone()
        if forgotten:
            raise ForgottenError(f"Events of {bucket} since {since} were forgotten.")
        return self.newest(bucket) if first is None else int(first) - 1

    def newest(self, bucket: str) -> int:
        """Return the cursor behind which nothing lies yet; 0 where nothing ever happened."""
        with self._db.read() as connection:
            (newest,) = connection.execute(
                "SELECT coalesce(max(id), 0) FROM hub_bucket_event WHERE repository = ?", (bucket,)
            ).fetchone()
        return int(newest)

    # -- followers, each with an asyncio event of its own loop

    @contextmanager
    def follow(self, bucket: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever something happened to the bucket."""
        happened = asyncio.Event()
        with self._lock:
            self._followers[happened] = (bucket, asyncio.get_running_loop())
        try:
            yield happened
        finally:
            with self._lock:
                del self._followers[happened]

    def tell(self, bucket: str) -> None:
        """Wake who follows the bucket; from any thread, after the transaction."""
        with self._lock:
            loops = [(happened, loop) for happened, (name, loop) in self._followers.items() if name == bucket]
        for happened, loop in loops:
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(happened.set)

    def followers(self) -> int:
        """Return how many follow at the moment."""
        with self._lock:
            return len(self._followers)
