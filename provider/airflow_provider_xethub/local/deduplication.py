"""Deduplication across uploads: which stored xorb holds a chunk that a client is about to upload.

A client asks for the first chunk of every file and for about one chunk in 1024 of the others. The answer lists all
chunks of one xorb, and the client then refers to those instead of uploading them again. Chunk hashes in an answer are
keyed: only who has a chunk recognises it, and nobody learns a hash that would prove knowledge of a chunk he has not.

Who may learn what: an answer still tells how many chunks a xorb has and how long they are, and lets guesses at their
content be tried in peace. So a xorb is only named to tokens of a repository which showed that it knows all of it, by
listing the xorb's chunks in a shard, and to everybody if one such repository is public. A private repository's
xorbs are never named to other repositories, whoever asks.

Source: the Xet protocol's deduplication page; what hf-xet 1.8 and ``@huggingface/hub`` 2.17 ask and accept.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from itertools import pairwise

from airflow_provider_xethub.local.database import Database
from airflow_provider_xethub.local.formats import hashing, shard, xorb
from airflow_provider_xethub.local.formats.hashing import HASH_LENGTH
from airflow_provider_xethub.local.hub_schema import SCHEMA as HUB_SCHEMA
from airflow_provider_xethub.local.xorb_store import XorbStore

KEY_LIFE = 7 * 24 * 3600
"""Seconds that a client may go by an answer."""

_BEGINNING = 8

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cas_chunk (
    chunk_hash BLOB NOT NULL,
    xorb_hash BLOB NOT NULL,
    PRIMARY KEY (chunk_hash, xorb_hash)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cas_chunk_xorb ON cas_chunk (xorb_hash);
CREATE TABLE IF NOT EXISTS cas_xorb_holder (
    xorb_hash BLOB NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (xorb_hash, repository)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cas_xorb_holder_repository ON cas_xorb_holder (repository);
CREATE TABLE IF NOT EXISTS cas_chunk_key (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    key BLOB NOT NULL
)
"""
_FIND = """
SELECT xorb_hash FROM cas_chunk AS chunk WHERE chunk_hash = :chunk AND EXISTS (
    SELECT 1 FROM cas_xorb_holder AS holder LEFT JOIN hub_repository AS hub ON hub.name = holder.repository
    WHERE holder.xorb_hash = chunk.xorb_hash AND (holder.repository = :repository OR hub.private = 0)
) LIMIT 1
"""


class ChunkIndex:
    """The chunks of one data folder that clients may ask for. All methods may be called from any thread."""

    def __init__(self, db: Database, xorbs: XorbStore) -> None:
        self._db = db
        self._xorbs = xorbs
        db.execute_schema(HUB_SCHEMA)
        db.execute_schema(_SCHEMA)
        # One key for the data folder, not one per answer: a client hashes every chunk with every key it has met.
        with db.write() as connection:
            connection.execute("INSERT OR IGNORE INTO cas_chunk_key VALUES (1, ?)", (secrets.token_bytes(32),))
            self._key: bytes = connection.execute("SELECT key FROM cas_chunk_key").fetchone()[0]
        self._seen: set[bytes] | None = None
        self._seen_lock = threading.Lock()

    def add(self, files: Iterable[shard.ShardFile], xorbs: Iterable[shard.ShardXorb], repository: str) -> None:
        """Enter what a shard showed, after it was checked: its xorbs' eligible chunks, its files' first chunks.

        Inside :meth:`Database.write` of the same thread it is part of that transaction.

        :param repository: where the shard came with a token for.
        """
        xorbs = list(xorbs)
        rows = [
            (chunk_hash, listed.xorb_hash)
            for listed in xorbs
            for chunk_hash in xorb.split_hashes(listed.chunk_hashes)
            if hashing.is_query_eligible(chunk_hash)
        ]
        for segment in (file.segments[0] for file in files if file.segments):
            hashes = self._xorbs.chunk_hashes(segment.xorb_hash)
            rows.append((hashes[segment.first * HASH_LENGTH : (segment.first + 1) * HASH_LENGTH], segment.xorb_hash))
        self._beginnings().update(chunk_hash[:_BEGINNING] for chunk_hash, _ in rows)
        with self._db.write() as connection:
            connection.executemany("INSERT OR IGNORE INTO cas_chunk VALUES (?, ?)", rows)
            connection.executemany(
                "INSERT OR IGNORE INTO cas_xorb_holder VALUES (?, ?)",
                [(listed.xorb_hash, repository) for listed in xorbs],
            )

    def find(self, chunk_hash: bytes, repository: str) -> bytes | None:
        """Return the hash of a xorb with this chunk, or ``None``, which nearly every answer is.

        What another process on this folder has entered since may be missing: then a client sends what it need not.

        :param repository: which the asking token is for.
        """
        if chunk_hash[:_BEGINNING] not in self._beginnings():
            return None
        row = self._db.first(_FIND, {"chunk": chunk_hash, "repository": repository})
        return row[0] if row else None

    def answer(self, xorb_hash: bytes, now: float) -> bytes:
        """Return the shard that tells a client about one xorb.

        :param now: UNIX seconds.
        :raises UnknownXorbError: the xorb is not stored here.
        """
        index = self._xorbs.index(xorb_hash)
        lengths = tuple(end - start for start, end in pairwise(index.raw_offsets))
        listed = shard.ShardXorb(xorb_hash, self._xorbs.chunk_hashes(xorb_hash), lengths)
        with self._db.read() as connection:
            rows = connection.execute("SELECT chunk_hash FROM cas_chunk WHERE xorb_hash = ?", (xorb_hash,)).fetchall()
        eligible = frozenset(row[0] for row in rows)
        created = int(now)
        return shard.build_answer(
            listed, index.offsets[-1], eligible, self._key, created=created, expires=created + KEY_LIFE
        )

    def _beginnings(self) -> set[bytes]:
        """Return how the hashes of all entered chunks begin: it spares a look into the database for most queries."""
        if self._seen is None:
            with self._seen_lock, self._db.read() as connection:
                if self._seen is None:
                    rows = connection.execute("SELECT DISTINCT substr(chunk_hash, 1, ?) FROM cas_chunk", (_BEGINNING,))
                    self._seen = {row[0] for row in rows}
        return self._seen

    def move_repository(self, repository: str, new_name: str) -> None:
        """Carry over what a repository showed to know when it gets a new name."""
        with self._db.write() as connection:
            connection.execute(
                "UPDATE OR REPLACE cas_xorb_holder SET repository = ? WHERE repository = ?", (new_name, repository)
            )

    def forget_repository(self, repository: str) -> None:
        """Forget what a deleted repository showed to know."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM cas_xorb_holder WHERE repository = ?", (repository,))
