"""The content of CAS: files made of chunk ranges of xorbs, and which repository may read which file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xethub_local.content.deduplication import ChunkIndex
from xethub_local.content.shard_check import check_file, check_sha256, check_xorb
from xethub_local.content.xorbs import XorbStore
from xethub_local.formats import hashing, shard, xorb
from xethub_local.formats.byte_range import UnsatisfiableRangeError
from xethub_local.formats.chunk_windows import FileSegment
from xethub_local.formats.hashing import to_hex
from xethub_local.formats.reconstruction import Reconstruction, plan_reconstruction
from xethub_local.repo import DEFAULT_REVISION
from xethub_local.store.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cas_file (
    xet_hash TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    sha256 TEXT,
    segments BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS cas_file_sha256 ON cas_file (sha256);
CREATE TABLE IF NOT EXISTS cas_readable (
    repository TEXT NOT NULL,
    xet_hash TEXT NOT NULL,
    PRIMARY KEY (repository, xet_hash)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cas_readable_xet_hash ON cas_readable (xet_hash);
CREATE TABLE IF NOT EXISTS cas_uploaded (
    repository TEXT NOT NULL,
    revision TEXT NOT NULL,
    xet_hash TEXT NOT NULL,
    PRIMARY KEY (repository, revision, xet_hash)
) WITHOUT ROWID
"""
_PLAIN_CHUNK_BYTES = 64 * 1024
_PLAIN_XORB_CHUNKS = 256


@dataclass(frozen=True)
class StoredFile:
    """A file that CAS can reconstruct. ``size`` in bytes; ``sha256`` is ``None`` if no uploader gave it."""

    xet_hash: str
    size: int
    sha256: str | None


EMPTY_FILE = StoredFile(to_hex(hashing.ZERO_HASH), 0, hashlib.sha256().hexdigest())


@dataclass(frozen=True)
class ShardReceipt:
    """The files that a shard registered. ``is_new`` is true if any of them was not stored before."""

    files: tuple[StoredFile, ...]
    is_new: bool


class UnknownFileError(LookupError):
    """A file is not stored here. The message names its Xet hash."""


class DiscardedFileError(UnknownFileError):
    """The bytes of a file were checked and discarded. The message names its Xet hash."""


class ContentStore:
    """Xorbs, files and read permissions of one data folder. All methods may be called from any thread.

    All content is checked on upload, because clients do not check what they download. The empty file always exists,
    and anyone may read it.

    :param discards: check the xorbs that clients upload, keep their chunk tables, and discard their bytes. Shards are
        checked completely, except for the sha256 of their files, which needs the bytes. Clients are never told to
        deduplicate against a discarded chunk, and no file can be read that needs one.
    :ivar xorbs: the stored xorbs, :class:`~xethub_local.content.xorbs.XorbStore`.
    :ivar deduplication: index of the chunks that clients may query,
        :class:`~xethub_local.content.deduplication.ChunkIndex`.
    """

    def __init__(self, folder: Path, db: Database, *, discards: bool = False) -> None:
        self._db = db
        self.xorbs = XorbStore(folder, db, discards=discards)
        self.deduplication = ChunkIndex(db, self.xorbs)
        db.execute_schema(_SCHEMA)

    def add_shard(
        self,
        body: bytes | bytearray,
        *,
        repository: str,
        revision: str = DEFAULT_REVISION,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> ShardReceipt:
        """Check a shard completely, register its files, and let the uploader read them. All or nothing.

        If the shard gives a file's sha256, the file is assembled and hashed here: commits find files by sha256, so a
        wrong one would publish other bytes than those of the uploader.

        :param repository: repository of the uploader's token.
        :param revision: revision of the uploader's token.
        :param on_progress: called after each file, with the number of files checked and their total.
        :raises FormatError: the message names the file or xorb, and what is wrong.
        """
        parsed = shard.parse(body)
        for listed in parsed.xorbs:
            check_xorb(listed, self.xorbs)
        known = self._known_sha256s(parsed.files)
        with closing(self.xorbs.reader()) as reader:
            for number, file in enumerate(parsed.files, 1):
                check_file(file, self.xorbs)
                # hf-xet 1.8 sends 64 zeros as the sha256 of an empty file on disk.
                is_placeholder = not file.segments and file.sha256 == "0" * 64
                if file.sha256 is not None and not is_placeholder and not self.xorbs.discards:
                    check_sha256(file, reader, known.get(file.file_hash))
                if on_progress:
                    on_progress(number, len(parsed.files))
        with self._db.write():
            receipt = self._register(parsed.files, repository, revision)
            if not self.xorbs.discards:
                self.deduplication.add(parsed.files, parsed.xorbs, repository)
        return receipt

    def add_plain(self, source: bytes | bytearray | Path | BinaryIO, *, repository: str | None = None) -> StoredFile:
        """Chunk plain bytes, store them as xorbs, and register the file, in bounded memory.

        The Xet hash differs from the one that a client computes, because a client sets other chunk boundaries.

        :param repository: repository that may read the file; see also :meth:`grant`.
        """
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return self._add_stream(stream, repository)
        return self._add_stream(io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else source, repository)

    def file(self, xet_hash: str) -> StoredFile | None:
        """Return the file with this Xet hash, or ``None``."""
        if xet_hash == EMPTY_FILE.xet_hash:
            return EMPTY_FILE
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT xet_hash, size, sha256 FROM cas_file WHERE xet_hash = ?", (xet_hash,)
            ).fetchone()
        return StoredFile(*row) if row else None

    def file_by_sha256(self, sha256: str, *, repository: str | None = None) -> StoredFile | None:
        """Return the first file with this sha256 (normal hex), or ``None``.

        :param repository: search only files that this repository may read. Default: all files.
        """
        if sha256 == EMPTY_FILE.sha256:
            return EMPTY_FILE
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT xet_hash, size, sha256 FROM cas_file AS file WHERE sha256 = :sha256 AND"
                " (:repository IS NULL OR EXISTS (SELECT 1 FROM cas_readable"
                "  WHERE repository = :repository AND xet_hash = file.xet_hash)) ORDER BY rowid LIMIT 1",
                {"sha256": sha256, "repository": repository},
            ).fetchone()
        return StoredFile(*row) if row else None

    def grant(self, repository: str, xet_hash: str, revision: str | None = None) -> None:
        """Let ``repository`` (such as ``datasets/acme/corpus``) read a file.

        :param revision: tokens for this revision may read it at once. Default: only once a commit contains it.
        :raises UnknownFileError: the file is not stored here.
        """
        if self.file(xet_hash) is None:
            raise UnknownFileError(f"File {xet_hash} is not stored here.")
        with self._db.write() as connection:
            connection.execute("INSERT OR IGNORE INTO cas_readable VALUES (?, ?)", (repository, xet_hash))
            if revision is not None:
                row = (repository, branch_of(revision), xet_hash)
                connection.execute("INSERT OR IGNORE INTO cas_uploaded VALUES (?, ?, ?)", row)

    def is_uploaded(self, repository: str, revision: str, xet_hash: str) -> bool:
        """Return whether a file was uploaded with a token for this revision, so that its tokens may read it at once."""
        if xet_hash == EMPTY_FILE.xet_hash:
            return True
        found = self._db.first(
            "SELECT 1 FROM cas_uploaded WHERE repository = :repository AND revision = :revision AND xet_hash = :hash",
            {"repository": repository, "revision": branch_of(revision), "hash": xet_hash},
        )
        return found is not None

    def is_readable(self, repository: str, xet_hash: str) -> bool:
        """Return whether a file was uploaded or committed to any revision of ``repository``."""
        if xet_hash == EMPTY_FILE.xet_hash:
            return True
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM cas_readable WHERE repository = ? AND xet_hash = ?", (repository, xet_hash)
            ).fetchone()
        return row is not None

    def readable_bytes(self, repository: str) -> int:
        """Return the total size of all files that a repository may read, including those that only its history has."""
        with self._db.read() as connection:
            (size,) = connection.execute(
                "SELECT coalesce(sum(size), 0) FROM cas_readable JOIN cas_file USING (xet_hash) WHERE repository = ?",
                (repository,),
            ).fetchone()
        return int(size)

    def move_repository(self, repository: str, new_name: str) -> None:
        """Transfer a repository's read permissions to its new name."""
        with self._db.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO cas_readable SELECT ?, xet_hash FROM cas_readable WHERE repository = ?",
                (new_name, repository),
            )
            connection.execute("DELETE FROM cas_readable WHERE repository = ?", (repository,))
            connection.execute(
                "UPDATE OR REPLACE cas_uploaded SET repository = ? WHERE repository = ?", (new_name, repository)
            )
            self.deduplication.move_repository(repository, new_name)

    def share_repository(self, repository: str, other: str) -> None:
        """Let ``other`` read every file that ``repository`` may read."""
        with self._db.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO cas_readable SELECT ?, xet_hash FROM cas_readable WHERE repository = ?",
                (other, repository),
            )

    def forget(self, repository: str, xet_hashes: Iterable[str]) -> None:
        """Revoke a repository's permission to read files that it deleted permanently."""
        with self._db.write() as connection:
            connection.executemany(
                "DELETE FROM cas_readable WHERE repository = ? AND xet_hash = ?",
                [(repository, xet_hash) for xet_hash in xet_hashes],
            )

    def forget_repository(self, repository: str) -> None:
        """Revoke a deleted repository's read permissions, so that a new repository of that name has none."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM cas_readable WHERE repository = ?", (repository,))
            connection.execute("DELETE FROM cas_uploaded WHERE repository = ?", (repository,))
            self.deduplication.forget_repository(repository)

    def reconstruct(self, xet_hash: str, start: int = 0, end: int | None = None) -> Reconstruction:
        """Return how to assemble bytes ``start`` to ``end`` (excluded).

        :param end: ``None``, or a position after the end, means the end of the file.
        :raises UnknownFileError: the file is not stored here.
        :raises UnsatisfiableRangeError: the range starts at or after the end.
        """
        if xet_hash == EMPTY_FILE.xet_hash:
            size, segments = 0, b""
        else:
            with self._db.read() as connection:
                row = connection.execute(
                    "SELECT size, segments FROM cas_file WHERE xet_hash = ?", (xet_hash,)
                ).fetchone()
            if row is None:
                raise UnknownFileError(f"File {xet_hash} is not stored here.")
            size, segments = row
        if start >= size and (start, end) != (0, None):
            raise UnsatisfiableRangeError(f"File {xet_hash} has {size} bytes, and none at position {start}.", size)
        end = size if end is None else min(end, size)
        planned = plan_reconstruction(shard.unpack_segments(segments), self.xorbs.index, start, end)
        for xorb_hash in {term.xorb_hash for term in planned.terms}:
            if not self.xorbs.has_bytes(xorb_hash):
                raise DiscardedFileError(f"File {xet_hash} was checked and discarded: this Hub keeps no bytes.")
        return planned

    def segments_with_chunks(self, xet_hash: str) -> list[FileSegment]:
        """Return the segments of a file with their chunks.

        :raises UnknownFileError: the file is not stored here.
        """
        segments = []
        for term in self.reconstruct(xet_hash).terms:
            hashes = xorb.split_hashes(self.xorbs.chunk_hashes(term.xorb_hash))[term.first : term.last]
            sizes = self.xorbs.index(term.xorb_hash).raw_lengths(term.first, term.last)
            segments.append(FileSegment(tuple(zip(hashes, sizes, strict=True))))
        return segments

    def read_file(self, xet_hash: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return an iterator over the raw bytes ``start`` to ``end`` (excluded), about 1 MiB at a time.

        This call raises the errors of :meth:`reconstruct`; the iterator does not.
        """
        return self._read(self.reconstruct(xet_hash, start, end))

    def _read(self, reconstruction: Reconstruction) -> Iterator[bytes]:
        skip, rest = reconstruction.offset_into_first_range, reconstruction.length
        for term in reconstruction.terms:
            for piece in self.xorbs.read_chunks(term.xorb_hash, term.first, term.last):
                wanted = piece[skip : skip + rest]
                skip -= min(skip, len(piece))
                rest -= len(wanted)
                if wanted:
                    yield wanted

    def _known_sha256s(self, files: Iterable[shard.ShardFile]) -> dict[bytes, str | None]:
        """Return the stored sha256 of these files, by Xet hash."""
        query = "SELECT sha256 FROM cas_file WHERE xet_hash = ?"
        known: dict[bytes, str | None] = {hashing.ZERO_HASH: EMPTY_FILE.sha256}
        with self._db.read() as connection:
            for file in files:
                row = connection.execute(query, (to_hex(file.file_hash),)).fetchone()
                if row is not None:
                    known[file.file_hash] = row[0]
        return known

    def _register(
        self, files: Iterable[shard.ShardFile], repository: str | None, revision: str | None = None
    ) -> ShardReceipt:
        stored, rows = [], []
        for file in files:
            if file.file_hash == hashing.ZERO_HASH:
                stored.append(EMPTY_FILE)
                continue
            size = sum(segment.raw_bytes for segment in file.segments)
            stored.append(StoredFile(to_hex(file.file_hash), size, file.sha256))
            rows.append((stored[-1].xet_hash, size, file.sha256, shard.pack_segments(file.segments)))
        with self._db.write() as connection:
            inserted = connection.executemany(
                "INSERT OR IGNORE INTO cas_file (xet_hash, size, sha256, segments) VALUES (?, ?, ?, ?)", rows
            ).rowcount
            if inserted < len(rows):
                connection.executemany(
                    "UPDATE cas_file SET sha256 = ? WHERE xet_hash = ? AND sha256 IS NULL",
                    [(sha256, xet_hash) for xet_hash, _, sha256, _ in rows if sha256 is not None],
                )
            if repository is not None:
                connection.executemany(
                    "INSERT OR IGNORE INTO cas_readable VALUES (?, ?)", [(repository, row[0]) for row in rows]
                )
                if revision is not None:
                    branch = branch_of(revision)
                    connection.executemany(
                        "INSERT OR IGNORE INTO cas_uploaded VALUES (?, ?, ?)",
                        [(repository, branch, row[0]) for row in rows],
                    )
        return ShardReceipt(tuple(stored), inserted > 0)

    def _add_stream(self, stream: BinaryIO, repository: str | None) -> StoredFile:
        digest = hashlib.sha256()
        leaves: list[hashing.SizedHash] = []
        segments = []
        while chunks := _next_chunks(stream):
            for chunk in chunks:
                digest.update(chunk)
            body = xorb.serialize(chunks)
            hashed = [(hashing.chunk_hash(chunk), len(chunk)) for chunk in chunks]
            xorb_hash = hashing.tree_root(hashed)
            self.xorbs.add(to_hex(xorb_hash), body)
            segments.append(shard.Segment(xorb_hash, 0, len(chunks), sum(map(len, chunks))))
            leaves.extend(hashed)
        file = shard.ShardFile(hashing.file_hash(leaves), tuple(segments), None, digest.hexdigest())
        return self._register([file], repository).files[0]


def branch_of(revision: str) -> str:
    """Return the plain name of a branch; the Python client sends ``None`` as revision when it opens a pull request."""
    return DEFAULT_REVISION if revision in ("HEAD", "None") else revision.removeprefix("refs/heads/")


def _next_chunks(stream: BinaryIO) -> list[bytes]:
    chunks: list[bytes] = []
    while len(chunks) < _PLAIN_XORB_CHUNKS and (chunk := stream.read(_PLAIN_CHUNK_BYTES)):
        chunks.append(chunk)
    return chunks
