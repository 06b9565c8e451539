"""Deduplication across uploads: which stored xorbs contain chunks that a client is about to upload.

A client queries the first chunk of every file and about one in 1024 of the other chunks. The response lists all chunks
of the xorb that contains it and of the xorbs that were uploaded with it; the client then refers to these chunks instead
of uploading them again. With a single xorb per response, a client would upload most other xorbs of a large file again.
Chunk hashes in a response are keyed: only a client that has a chunk recognises it, and no client learns a hash that
would prove knowledge of a chunk it does not have.

Privacy: a response still reveals how many chunks a xorb has and how long they are, and allows offline guesses at their
content. So a xorb is revealed only to tokens of repositories that have proved to know all of it, by listing its chunks
in a shard, and to everyone if one of these repositories is public. This applies to each xorb of a response. The xorbs
of a private repository are never revealed to other repositories.

Source: the Xet protocol's deduplication page; the queries and responses of hf-xet 1.8 and ``@huggingface/hub`` 2.17.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator

from xethub_local.content.xorbs import XorbStore
from xethub_local.formats import hashing, shard, xorb
from xethub_local.formats.hashing import HASH_LENGTH
from xethub_local.store.database import Database
from xethub_local.store.schema import SCHEMA as HUB_SCHEMA

KEY_LIFE = 7 * 24 * 3600
"""Seconds for which a client may use a response."""

MAX_RESPONSE_CHUNKS = 64 * 1024
"""Maximum number of chunks in a response: 3 MiB, for about 4 GiB of data. The requested xorb is always included."""

_PREFIX_BYTES = 8
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
# The shards that list a xorb and may be revealed, newest first, with the position of the xorb in each.
_SHARDS_OF = """
SELECT shard, min(position) FROM cas_shard_xorb JOIN cas_shard ON cas_shard.id = shard
LEFT JOIN hub_repository AS hub ON hub.name = repository
WHERE xorb_hash = :xorb AND (repository = :repository OR hub.private = 0)
GROUP BY shard ORDER BY shard DESC LIMIT :limit
"""


class ChunkIndex:
    """The chunks of one data folder that clients may query. All methods may be called from any thread."""

    def __init__(self, db: Database, xorbs: XorbStore) -> None:
        self._db = db
        self._xorbs = xorbs
        db.execute_schema(HUB_SCHEMA)
        db.execute_schema(_SCHEMA)
        # One key per data folder, not per response: a client hashes every chunk with every key it has received.
        with db.write() as connection:
            connection.execute("INSERT OR IGNORE INTO cas_chunk_key VALUES (1, ?)", (secrets.token_bytes(32),))
            self._key: bytes = connection.execute("SELECT key FROM cas_chunk_key").fetchone()[0]
        self._cached_prefixes: set[bytes] | None = None
        self._prefixes_lock = threading.Lock()

    def add(self, files: Iterable[shard.ShardFile], xorbs: Iterable[shard.ShardXorb], repository: str) -> None:
        """Add the content of a checked shard: its xorbs, their eligible chunks, and the first chunks of its files.

        Inside :meth:`Database.write` of the same thread, it is part of that transaction.

        :param repository: repository of the uploader's token.
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
        self._prefixes().update(chunk_hash[:_PREFIX_BYTES] for chunk_hash, _ in rows)
        with self._db.write() as connection:
            connection.executemany("INSERT OR IGNORE INTO cas_chunk VALUES (?, ?)", rows)
            connection.executemany(
                "INSERT OR IGNORE INTO cas_xorb_holder VALUES (?, ?)",
                [(listed.xorb_hash, repository) for listed in xorbs],
            )
            self._add_shard(connection, files, xorbs, repository)

    def find(self, chunk_hash: bytes, repository: str) -> bytes | None:
        """Return the hash of a xorb with this chunk, or ``None``, the most frequent result by far.

        It may miss recent additions of another process on this folder; the client then uploads more than necessary.

        :param repository: repository of the client's token.
        """
        if chunk_hash[:_PREFIX_BYTES] not in self._prefixes():
            return None
        row = self._db.first(_FIND, {"chunk": chunk_hash, "repository": repository})
        return row[0] if row else None

    def build_response(self, xorb_hash: bytes, repository: str, now: float) -> bytes:
        """Return the shard that describes a xorb and those that were uploaded with it.

        :param xorb_hash: result of :meth:`find`.
        :param repository: repository of the client's token.
        :param now: UNIX seconds.
        :raises UnknownXorbError: the xorb is not stored here.
        """
        answered: list[shard.ResponseXorb] = []
        room = MAX_RESPONSE_CHUNKS
        for name in self._uploaded_with(xorb_hash, repository):
            chunk_count = len(self._xorbs.chunk_hashes(name)) // HASH_LENGTH
            if answered and chunk_count > room:
                break
            room -= chunk_count
            answered.append(self._describe(name))
        created = int(now)
        return shard.build_response(answered, self._key, created=created, expires=created + KEY_LIFE)

    def _add_shard(
        self,
        connection: sqlite3.Connection,
        files: Iterable[shard.ShardFile],
        xorbs: Iterable[shard.ShardXorb],
        repository: str,
    ) -> None:
        """Record which xorbs belong together: those a shard lists, and those of its files that the repository holds.

        The latter matter for a file that shares most chunks with an earlier one: its shard lists few xorbs.
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

    def _uploaded_with(self, xorb_hash: bytes, repository: str) -> Iterator[bytes]:
        """Yield a xorb and those that were uploaded with it, once each: first those after it in the newest shard."""
        seen = {xorb_hash}
        yield xorb_hash
        with self._db.read() as connection:
            shards = connection.execute(
                _SHARDS_OF, {"xorb": xorb_hash, "repository": repository, "limit": _NEWEST_SHARDS}
            ).fetchall()
        for number, position in shards:
            with self._db.read() as connection:
                # A response cannot list more xorbs than chunks.
                rows = connection.execute(
                    "SELECT xorb_hash FROM cas_shard_xorb WHERE shard = ? ORDER BY position < ?, position LIMIT ?",
                    (number, position, MAX_RESPONSE_CHUNKS),
                ).fetchall()
            for (name,) in rows:
                if name not in seen:
                    seen.add(name)
                    yield name

    def _describe(self, xorb_hash: bytes) -> shard.ResponseXorb:
        index = self._xorbs.index(xorb_hash)
        lengths = index.raw_lengths(0, index.chunk_count)
        listed = shard.ShardXorb(xorb_hash, self._xorbs.chunk_hashes(xorb_hash), lengths)
        with self._db.read() as connection:
            rows = connection.execute("SELECT chunk_hash FROM cas_chunk WHERE xorb_hash = ?", (xorb_hash,)).fetchall()
        return shard.ResponseXorb(listed, index.offsets[-1], frozenset(row[0] for row in rows))

    def _prefixes(self) -> set[bytes]:
        """Return the first bytes of the hashes of all indexed chunks: most queries need no database access then."""
        if self._cached_prefixes is None:
            with self._prefixes_lock, self._db.read() as connection:
                if self._cached_prefixes is None:
                    rows = connection.execute(
                        "SELECT DISTINCT substr(chunk_hash, 1, ?) FROM cas_chunk", (_PREFIX_BYTES,)
                    )
                    self._cached_prefixes = {row[0] for row in rows}
        return self._cached_prefixes

    def move_repository(self, repository: str, new_name: str) -> None:
        """Transfer the xorbs that a repository is known to hold to its new name."""
        with self._db.write() as connection:
            connection.execute(
                "UPDATE OR REPLACE cas_xorb_holder SET repository = ? WHERE repository = ?", (new_name, repository)
            )
            connection.execute(
                "UPDATE OR REPLACE cas_shard SET repository = ? WHERE repository = ?", (new_name, repository)
            )

    def forget_repository(self, repository: str) -> None:
        """Forget which xorbs a deleted repository held."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM cas_xorb_holder WHERE repository = ?", (repository,))
            connection.execute("DELETE FROM cas_shard WHERE repository = ?", (repository,))
