"""How much storage deduplication saves: bytes that are stored once and used several times.

A file is a list of chunk ranges of xorbs. A chunk that two ranges cover, of one file or of two, is stored once. The
calculation works on ranges, not on chunks, so that ten thousand files take milliseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct

from xethub_local.content.xorbs import unpack_offsets
from xethub_local.formats.hashing import to_hex
from xethub_local.formats.shard import Segment, unpack_segments
from xethub_local.store.database import Database

_ROWS_PER_QUERY = 500

# A stored segment without its flags and raw length; creating Segment objects would take most of the time.
_RANGE = Struct("<32s8x2I")

Range = tuple[bytes, int, int]
"""The hash of a xorb, and a range of its chunks: first, and last (excluded)."""

Offsets = Sequence[int]
"""The byte position of each chunk of a xorb, and of its end."""


@dataclass(frozen=True)
class StorageUse:
    """The storage that some files of a repository use.

    :param size: total bytes of the files in CAS; a file that occurs twice counts twice.
    :param distinct: raw bytes of their chunks, each chunk once.
    :param packed: bytes of these chunks as stored, compressed.
    :param shared: by Xet hash, how many of a file's bytes are also used elsewhere: in another file of the repository,
        in an earlier version of one, or in another place of the same file.
    """

    size: int
    distinct: int
    packed: int
    shared: Mapping[str, int]

    @property
    def saved(self) -> int:
        """Bytes that are not stored again because they already are."""
        return self.size - self.distinct


@dataclass(frozen=True)
class _XorbOffsets:
    raw: Offsets
    packed: Offsets


def storage_use(db: Database, repository: str, xet_hashes: Sequence[str]) -> StorageUse:
    """Return the storage that the given files use; a Xet hash counts as often as it is given.

    :param repository: its other files, including earlier versions, count as other uses of a byte.
    """
    ranges = _ranges(db, repository)
    here = [ranges.get(xet_hash, ()) for xet_hash in xet_hashes]
    given = set(xet_hashes)
    elsewhere = [found for xet_hash, found in ranges.items() if xet_hash not in given]
    offsets = _offsets(db, {xorb_hash for found in (*here, *elsewhere) for xorb_hash, _, _ in found})
    size = distinct = packed = 0
    for xorb_hash, spans in _by_xorb(here).items():
        raw, stored = offsets[xorb_hash].raw, offsets[xorb_hash].packed
        size += sum([raw[last] - raw[first] for first, last in spans])
        for first, last, _ in _covered(spans):
            distinct += raw[last] - raw[first]
            packed += stored[last] - stored[first]
    before = _shared_before([*here, *elsewhere], {name: each.raw for name, each in offsets.items()})
    shared = {
        xet_hash: sum([before[xorb][last] - before[xorb][first] for xorb, first, last in ranges.get(xet_hash, ())])
        for xet_hash in given
    }
    return StorageUse(size, distinct, packed, shared)


def segments_of(db: Database, xet_hash: str) -> list[Segment]:
    """Return the chunk ranges of a file; none for the empty file and for one that is not stored."""
    with db.read() as connection:
        row = connection.execute("SELECT segments FROM cas_file WHERE xet_hash = ?", (xet_hash,)).fetchone()
    return [*unpack_segments(row[0])] if row else []


def sharing(db: Database, repository: str, xet_hash: str) -> dict[str, int]:
    """Return how many bytes other files of a repository, including earlier versions, share with a file, by Xet hash."""
    ranges = _ranges(db, repository)
    own = _by_xorb([ranges.get(xet_hash, ())])
    offsets = _offsets(db, own)
    shared: dict[str, int] = {}
    for other, found in ranges.items():
        theirs = _by_xorb([[each for each in found if each[0] in own]])
        size = sum(
            offsets[xorb_hash].raw[min(last, end)] - offsets[xorb_hash].raw[max(first, start)]
            for xorb_hash, spans in theirs.items()
            for first, last, _ in _covered(spans)
            for start, end, _ in _covered(own[xorb_hash])
            if first < end and start < last
        )
        if size and other != xet_hash:
            shared[other] = size
    return shared


def _shared_before(files: Iterable[Iterable[Range]], offsets: Mapping[bytes, Offsets]) -> dict[bytes, dict[int, int]]:
    """Return, for each xorb and each chunk at the start or end of a range, how many shared raw bytes precede it."""
    before: dict[bytes, dict[int, int]] = {}
    for xorb_hash, spans in _by_xorb(files).items():
        raw, total = offsets[xorb_hash], 0
        sums: dict[int, int] = {}
        before[xorb_hash] = sums
        for first, last, uses in _pieces(spans):
            sums[first] = total
            if uses > 1:
                total += raw[last] - raw[first]
            sums[last] = total
    return before


def _by_xorb(files: Iterable[Iterable[Range]]) -> dict[bytes, list[tuple[int, int]]]:
    spans: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for ranges in files:
        for xorb_hash, first, last in ranges:
            spans[xorb_hash].append((first, last))
    return spans


def _covered(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    return (piece for piece in _pieces(spans) if piece[2])


def _pieces(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Split the spans of one xorb at each other's ends; yield first and last (excluded) chunk, and number of spans."""
    changes: dict[int, int] = defaultdict(int)
    for first, last in spans:
        changes[first] += 1
        changes[last] -= 1
    borders = sorted(changes)
    uses = 0
    for first, last in pairwise(borders):
        uses += changes[first]
        yield first, last, uses


def _ranges(db: Database, repository: str) -> dict[str, list[Range]]:
    """Return the chunk ranges of all files that a repository may read: every file ever uploaded to it."""
    with db.read() as connection:
        rows = connection.execute(
            "SELECT file.xet_hash, file.segments FROM cas_readable JOIN cas_file AS file USING (xet_hash)"
            " WHERE repository = ?",
            (repository,),
        ).fetchall()
    return {row[0]: [*_RANGE.iter_unpack(row[1])] for row in rows}


def _offsets(db: Database, xorb_hashes: Iterable[bytes]) -> dict[bytes, _XorbOffsets]:
    names = {to_hex(xorb_hash): xorb_hash for xorb_hash in xorb_hashes}
    found: dict[bytes, _XorbOffsets] = {}
    wanted = [*names]
    with db.read() as connection:
        for start in range(0, len(wanted), _ROWS_PER_QUERY):
            part = wanted[start : start + _ROWS_PER_QUERY]
            rows = connection.execute(
                f"SELECT hash, raw_offsets, offsets FROM cas_xorb WHERE hash IN ({','.join('?' * len(part))})",  # noqa: S608
                part,
            ).fetchall()
            for name, raw, packed in rows:
                found[names[name]] = _XorbOffsets(unpack_offsets(raw), unpack_offsets(packed))
    return found
