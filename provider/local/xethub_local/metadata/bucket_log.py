"""The log of changes to buckets, one entry per batch, for clients that follow the event stream.

A follower resumes after the last entry it has seen. Only the newest entries of a bucket are kept; a follower that was
away for longer must list the bucket again.
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

from xethub_local.store.database import Database

_KEPT = 1000
_CHANGES_PER_EVENT = 1000


@dataclass(frozen=True)
class BucketEvent:
    """Changes made in one batch. ``id`` increases from event to event; ``created`` in UNIX seconds."""

    id: int
    created: float
    changes: list[dict[str, Any]]


class ForgottenError(LookupError):
    """The requested events are no longer kept."""


class BucketEvents:
    """The events of all buckets.

    :param kept: number of events to keep per bucket.
    """

    def __init__(self, db: Database, *, kept: int = _KEPT) -> None:
        self._db = db
        self._kept = kept
        self._lock = threading.Lock()
        self._followers: dict[asyncio.Event, tuple[str, asyncio.AbstractEventLoop]] = {}

    def record(self, connection: sqlite3.Connection, bucket: str, changes: Sequence[object], created: float) -> None:
        """Record changes in the transaction that makes them, and delete events that are too old."""
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
        """Return the next events after the one with the id ``cursor``, oldest first.

        :raises ForgottenError: some of them are no longer kept.
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
            raise ForgottenError(f"Some events of {bucket} after {cursor} are no longer kept.")
        return [BucketEvent(row[0], row[1], json.loads(row[2])) for row in rows]

    def cursor_at(self, bucket: str, since: float) -> int:
        """Return the cursor for all events at ``since`` (UNIX seconds) or later.

        :raises ForgottenError: some of them are no longer kept.
        """
        with self._db.read() as connection:
            forgotten = connection.execute(
                "SELECT 1 FROM hub_bucket_forgotten WHERE repository = ? AND created >= ?", (bucket, since)
            ).fetchone()
            (first,) = connection.execute(
                "SELECT min(id) FROM hub_bucket_event WHERE repository = ? AND created >= ?", (bucket, since)
            ).fetchone()
        if forgotten:
            raise ForgottenError(f"Some events of {bucket} since {since} are no longer kept.")
        return self.newest(bucket) if first is None else int(first) - 1

    def newest(self, bucket: str) -> int:
        """Return the id of the newest event; 0 if there never was one."""
        with self._db.read() as connection:
            (newest,) = connection.execute(
                "SELECT coalesce(max(id), 0) FROM hub_bucket_event WHERE repository = ?", (bucket,)
            ).fetchone()
        return int(newest)

    # -- followers: each has an asyncio event in its own event loop

    @contextmanager
    def follow(self, bucket: str) -> Iterator[asyncio.Event]:
        """Provide an asyncio event that is set whenever the bucket changes."""
        changed = asyncio.Event()
        with self._lock:
            self._followers[changed] = (bucket, asyncio.get_running_loop())
        try:
            yield changed
        finally:
            with self._lock:
                del self._followers[changed]

    def notify(self, bucket: str) -> None:
        """Wake the followers of a bucket. Call it after the transaction, from any thread."""
        with self._lock:
            loops = [(changed, loop) for changed, (name, loop) in self._followers.items() if name == bucket]
        for changed, loop in loops:
            with suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(changed.set)

    def followers(self) -> int:
        """Return the current number of followers."""
        with self._lock:
            return len(self._followers)
