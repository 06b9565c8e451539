"""Xorbs on disk: one immutable file each, with their chunk tables in the database."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from struct import pack, unpack

from xethub_local.content.incoming_xorb import IncomingXorb
from xethub_local.formats import FormatError, xorb
from xethub_local.formats.hashing import from_hex, to_hex
from xethub_local.store.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cas_xorb (
    hash TEXT PRIMARY KEY,
    offsets BLOB NOT NULL,
    raw_offsets BLOB NOT NULL,
    chunk_hashes BLOB NOT NULL
)
"""
_CACHED_XORBS = 64
_READ_BYTES = 1024 * 1024
_LEFTOVER_SECONDS = 3600


class UnknownXorbError(LookupError):
    """A xorb is not stored here. The message names its hash."""


class XorbStore:
    """The xorbs of one data folder. All methods may be called from any thread.

    A xorb is stored once it is in the database, and its bytes never change: the hash covers only the raw chunks, so
    another client may send the same xorb with other bytes, which would invalidate the offsets given to clients.

    :param folder: data folder; xorbs are in its folder ``xorbs``.
    :param discards: check uploads, keep their chunk tables, and discard their bytes. Those of :meth:`add` are kept.
    :ivar discards: as given.
    """

    def __init__(self, folder: Path, db: Database, *, discards: bool = False) -> None:
        self.discards = discards
        self._folder = folder / "xorbs"
        self._incoming = self._folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._db = db
        db.execute_schema(_SCHEMA)
        self._cached_index = lru_cache(_CACHED_XORBS)(self._load_index)
        self._cached_chunk_hashes = lru_cache(_CACHED_XORBS)(self._load_chunk_hashes)
        self._delete_leftovers()

    def add(self, expected_hash: str, body: bytes | bytearray) -> bool:
        """Check a complete serialized xorb, store it durably without its footer, and return whether it was new.

        :raises FormatError: it is malformed, or does not have the hash ``expected_hash``.
        """
        with IncomingXorb(self._incoming, expected_hash) as incoming:
            incoming.write([body])
            return self.store(incoming, incoming.finish())

    def begin_upload(self, expected_hash: str) -> IncomingXorb:
        """Begin an upload: write the bytes as they arrive, finish it, and pass it to :meth:`store`.

        :raises FormatError: ``expected_hash`` is not a hash.
        """
        return IncomingXorb(self._incoming, expected_hash, discards=self.discards)

    def store(self, incoming: IncomingXorb, found: xorb.Xorb) -> bool:
        """Store a finished upload durably, and return whether it was new.

        :param found: result of :meth:`IncomingXorb.finish`.
        """
        expected_hash, index = incoming.xorb_hash, found.index
        if self.has(expected_hash):
            return False
        with self._db.write() as connection:
            # Rename inside the transaction: of two uploads of one xorb, the recorded one is then the one on disk.
            if connection.execute("SELECT 1 FROM cas_xorb WHERE hash = ?", (expected_hash,)).fetchone():
                return False
            if not incoming.discards:
                self._publish(incoming.path, self.path(expected_hash))
            connection.execute(
                "INSERT INTO cas_xorb (hash, offsets, raw_offsets, chunk_hashes) VALUES (?, ?, ?, ?)",
                (
                    expected_hash,
                    _pack_offsets(index.offsets),
                    _pack_offsets(index.raw_offsets),
                    found.chunk_hashes,
                ),
            )
        return True

    def has(self, xorb_hash: str) -> bool:
        """Return whether this xorb is stored."""
        with self._db.read() as connection:
            row = connection.execute("SELECT 1 FROM cas_xorb WHERE hash = ?", (xorb_hash,)).fetchone()
        return row is not None

    def has_bytes(self, xorb_hash: bytes) -> bool:
        """Return whether the bytes of a stored xorb were kept."""
        return self.path(to_hex(xorb_hash)).exists()

    def size(self, xorb_hash: str) -> int:
        """Return the size of a stored xorb in bytes.

        :raises FormatError: it is not the hex form of a hash.
        :raises UnknownXorbError: the xorb is not stored here.
        """
        return self.index(from_hex(xorb_hash)).offsets[-1]

    def path(self, xorb_hash: str) -> Path:
        """Return the path of a xorb's file, which contains only its chunk records.

        :raises FormatError: it is not the hex form of a hash, and so not a safe file name.
        """
        from_hex(xorb_hash)
        return self._folder / xorb_hash[:2] / xorb_hash

    def index(self, xorb_hash: bytes) -> xorb.XorbIndex:
        """Return the positions of a xorb's chunks.

        :raises UnknownXorbError: the xorb is not stored here.
        """
        return self._cached_index(xorb_hash)

    def chunk_hashes(self, xorb_hash: bytes) -> bytes:
        """Return the concatenated hashes of a xorb's chunks, 32 bytes each.

        :raises UnknownXorbError: the xorb is not stored here.
        """
        return self._cached_chunk_hashes(xorb_hash)

    def reader(self) -> XorbReader:
        """Return a reader for consecutive reads. The caller closes it."""
        return XorbReader(self)

    def read_chunks(self, xorb_hash: bytes, first: int, last: int) -> Iterator[bytes]:
        """Yield the raw bytes of chunks ``first`` to ``last`` (excluded), about 1 MiB at a time.

        :raises UnknownXorbError: the xorb is not stored here.
        :raises FormatError: the file was damaged on disk.
        """
        with closing(self.reader()) as reader:
            yield from reader.read_chunks(xorb_hash, first, last)

    def _load_index(self, xorb_hash: bytes) -> xorb.XorbIndex:
        offsets, raw_offsets = self._row(xorb_hash, "offsets, raw_offsets")
        return xorb.XorbIndex(unpack_offsets(offsets), unpack_offsets(raw_offsets))

    def _load_chunk_hashes(self, xorb_hash: bytes) -> bytes:
        return self._row(xorb_hash, "chunk_hashes")[0]

    def _row(self, xorb_hash: bytes, columns: str) -> tuple[bytes, ...]:
        name = to_hex(xorb_hash)
        with self._db.read() as connection:
            row = connection.execute(
                f"SELECT {columns} FROM cas_xorb WHERE hash = ?",  # noqa: S608 - columns come from this class
                (name,),
            ).fetchone()
        if row is None:
            raise UnknownXorbError(f"Xorb {name} is not stored here.")
        return tuple(row)

    def _publish(self, temporary: Path, final: Path) -> None:
        final.parent.mkdir(exist_ok=True)
        temporary.replace(final)
        for folder in (final.parent, self._folder):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _delete_leftovers(self) -> None:
        """Delete files that a killed process left behind, but no recent ones: another process may be writing them."""
        for path in self._incoming.iterdir():
            if path.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                path.unlink(missing_ok=True)


class XorbReader:
    """Reads chunks and keeps the last xorb's file open, because small files are mostly in the same xorb."""

    def __init__(self, xorbs: XorbStore) -> None:
        self._xorbs = xorbs
        self._opened = b""
        self._descriptor = -1

    def read_chunks(self, xorb_hash: bytes, first: int, last: int) -> Iterator[bytes]:
        """Yield chunks as :meth:`XorbStore.read_chunks` does. Finish one iteration before starting the next."""
        index = self._xorbs.index(xorb_hash)
        if xorb_hash != self._opened:
            self.close()
            path = self._xorbs.path(to_hex(xorb_hash))
            try:
                self._descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise UnknownXorbError(f"Xorb {to_hex(xorb_hash)} was discarded; use another data folder.") from None
            self._opened = xorb_hash
        while first < last:
            budget = index.raw_offsets[first] + _READ_BYTES
            until = max(first + 1, bisect_right(index.raw_offsets, budget, first, last + 1) - 1)
            length = index.offsets[until] - index.offsets[first]
            raw = b"".join(xorb.decode(os.pread(self._descriptor, length, index.offsets[first])))
            if len(raw) != index.raw_length(first, until):
                raise FormatError(f"Xorb {to_hex(xorb_hash)} was damaged on disk: its file is too short.")
            yield raw
            first = until

    def close(self) -> None:
        """Close the file."""
        if self._opened:
            os.close(self._descriptor)
            self._opened = b""


def unpack_offsets(packed: bytes) -> tuple[int, ...]:
    """Unpack the offsets in a column of ``cas_xorb``."""
    return unpack(f"<{len(packed) // 4}I", packed)


def _pack_offsets(offsets: tuple[int, ...]) -> bytes:
    return pack(f"<{len(offsets)}I", *offsets)
