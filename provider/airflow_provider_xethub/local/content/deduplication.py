"""Deduplication across uploads: which stored xorbs hold chunks that a client is about to upload.

A client asks for the first chunk of every file and for about one chunk in 1024 of the others. The answer lists all
chunks of the xorb that has it and of those that were uploaded with it, and the client then refers to these instead of
uploading them again: with one xorb only, a client would send most of a large file's other xorbs again. Chunk hashes
in an answer are keyed: only who has a chunk recognises it, and nobody learns a hash that would prove knowledge of a
chunk he has not.

Who may learn what: an answer still tells how many chunks a xorb has and how long they are, and lets guesses at their
content be tried in peace. So a xorb is only named to tokens of a repository which showed that it knows all of it, by
listing the xorb's chunks in a shard, and to everybody if one such repository is public. Each xorb of an answer passes
this test. A private repository's xorbs are never named to other repositories.

Source: the Xet protocol's deduplication page; what hf-xet 1.8 and ``@huggingface/hub`` 2.17 ask and accept.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator

from airflow_provider_xethub.local.content.xorbs import XorbStore
from airflow_provider_xethub.local.formats import hashing, shard, xorb
from airflow_provider_xethub.local.formats.hashing import HASH_LENGTH
from airflow_provider_xethub.local.store.database import Database
from airflow_provider_xethub.local.store.schema import SCHEMA as HUB_SCHEMA

KEY_LIFE = 7 * 24 * 3600
"""Seconds that a client may go by an answer."""

MAX_ANSWER_CHUNKS = 64 * 1024
"""Chunks that an answer lists at most, 3 MiB, for about 4 GiB of data; the xorb that was asked for is always listed."""

_BEGINNING = 8
_NEWEST_SHARDS = 16
_DIGEST_BYTES = 16

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
CREATE TABLE IF NOT EXISTS cas_shard (
    id INTEGER PRIMARY KEY,
    repository TEXT NOT NULL,
    digest BLOB NOT NULL,
    UNIQUE (repository, digest)
);
CREATE TABLE IF NOT EXISTS cas_shard_xorb (
    shard INTEGER NOT NULL REFERENCES cas_shard (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    xorb_hash BLOB NOT NULL,
    PRIMARY KEY (shard, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cas_shard_xorb_hash ON cas_shard_xorb (xorb_hash, shard);
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
# The shards of these repositories that have a xorb, the newest first, and where it stands in each.
_SHARDS_OF = """
SELECT shard, min(position) FROM cas_shard_xorb JOIN cas_shard ON cas_shard.id = shard
LEFT JOIN hub_repository AS hub ON hub.name = repository
WHERE xorb_hash = :xorb AND (repository = :repository OR hub.private = 0)
GROUP BY shard ORDER BY shard DESC LIMIT :limit
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
        """Enter what a shard showed, after it was checked: its xorbs, their eligible chunks, its files' first chunks.

        Inside :meth:`Database.write` of the same thread it is part of that transaction.

        :param repository: where the shard came with a token for.
        """
        xorbs, files = list(xorbs), list(files)
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
            self._add_together(connection, files, xorbs, repository)

    def find(self, chunk_hash: bytes, repository: str) -> bytes | None:
        """Return the hash of a xorb with this chunk, or ``None``, which nearly every answer is.

        What another process on this folder has entered since may be missing: then a client sends what it need not.

        :param repository: which the asking token is for.
        """
        if chunk_hash[:_BEGINNING] not in self._beginnings():
            return None
        row = self._db.first(_FIND, {"chunk": chunk_hash, "repository": repository})
        return row[0] if row else None

    def answer(self, xorb_hash: bytes, repository: str, now: float) -> bytes:
        """Return the shard that tells a client about one xorb and those that came with it.

        :param xorb_hash: what :meth:`find` returned.
        :param repository: which the asking token is for.
        :param now: UNIX seconds.
        :raises UnknownXorbError: the xorb is not stored here.
        """
        answered: list[shard.AnswerXorb] = []
        room = MAX_ANSWER_CHUNKS
        for name in self._together(xorb_hash, repository):
            chunk_count = len(self._xorbs.chunk_hashes(name)) // HASH_LENGTH
            if answered and chunk_count > room:
                break
            room -= chunk_count
            answered.append(self._describe(name))
        created = int(now)
        return shard.build_answer(answered, self._key, created=created, expires=created + KEY_LIFE)

    def _add_together(
        self,
        connection: sqlite3.Connection,
        files: Iterable[shard.ShardFile],
        xorbs: Iterable[shard.ShardXorb],
        repository: str,
    ) -> None:
        """Enter which xorbs a shard names: those it lists, and those of its files that the repository listed before.

        A file that shares most of its chunks with an earlier one comes in a shard that lists few xorbs.
        """
        referred = dict.fromkeys(segment.xorb_hash for file in files for segment in file.segments)
        listed = dict.fromkeys(xorb.xorb_hash for xorb in xorbs)
        is_held = "SELECT 1 FROM cas_xorb_holder WHERE xorb_hash = ? AND repository = ?"
        names = [
            name
            for name in {**referred, **listed}
            if name in listed or connection.execute(is_held, (name, repository)).fetchone()
        ]
        digest = hashlib.sha256(b"".join(names)).digest()[:_DIGEST_BYTES]
        if (
            not names
            or not connection.execute(
                "INSERT OR IGNORE INTO cas_shard (repository, digest) VALUES (?, ?)", (repository, digest)
            ).rowcount
        ):
            return
        (number,) = connection.execute(
            "SELECT id FROM cas_shard WHERE repository = ? AND digest = ?", (repository, digest)
        ).fetchone()
        connection.executemany(
            "INSERT INTO cas_shard_xorb VALUES (?, ?, ?)",
            [(number, position, name) for position, name in enumerate(names)],
        )

    def _together(self, xorb_hash: bytes, repository: str) -> Iterator[bytes]:
        """Yield a xorb and those that came with it, once each: first those that follow it in the newest shard."""
        seen = {xorb_hash}
        yield xorb_hash
        with self._db.read() as connection:
            shards = connection.execute(
                _SHARDS_OF, {"xorb": xorb_hash, "repository": repository, "limit": _NEWEST_SHARDS}
            ).fetchall()
        for number, position in shards:
            with self._db.read() as connection:
                # An answer cannot list more xorbs than chunks.
                rows = connection.execute(
                    "SELECT xorb_hash FROM cas_shard_xorb WHERE shard = ? ORDER BY position < ?, position LIMIT ?",
                    (number, position, MAX_ANSWER_CHUNKS),
                ).fetchall()
            for (name,) in rows:
                if name not in seen:
                    seen.add(name)
                    yield name

    def _describe(self, xorb_hash: bytes) -> shard.AnswerXorb:
        index = self._xorbs.index(xorb_hash)
        lengths = index.raw_lengths(0, index.chunk_count)
        listed = shard.ShardXorb(xorb_hash, self._xorbs.chunk_hashes(xorb_hash), lengths)
        with self._db.read() as connection:
            rows = connection.execute("SELECT chunk_hash FROM cas_chunk WHERE xorb_hash = ?", (xorb_hash,)).fetchall()
        return shard.AnswerXorb(listed, index.offsets[-1], frozenset(row[0] for row in rows))

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
            connection.execute(
                "UPDATE OR REPLACE cas_shard SET repository = ? WHERE repository = ?", (new_name, repository)
            )

    def forget_repository(self, repository: str) -> None:
        """Forget what a deleted repository showed to know."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM cas_xorb_holder WHERE repository = ?", (repository,))
            connection.execute("DELETE FROM cas_shard WHERE repository = ?", (repository,))
