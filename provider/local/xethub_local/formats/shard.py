"""A shard: which chunks are in which xorbs, and which chunk ranges make up which file.

After a header of 48 bytes come records of 48 bytes each. The file section and the xorb section each end with a bookend
record; anything after the second one (some writers add lookup tables and a footer) is ignored.

Source: the Xet protocol's shard page; flags and the missing footer as hf-xet 1.8 writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

from xethub_local.formats import FormatError
from xethub_local.formats.hashing import HASH_LENGTH, from_hex, keyed_hash, to_hex

RECORD_LENGTH = 48

_MAGIC = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_VERSION = 2
_HEADER = Struct("<32sQQ")
_BOOKEND = b"\xff" * HASH_LENGTH + bytes(16)
# All records have one layout: a hash and four numbers.
_RECORD = Struct("<32s4I")
_HAS_VERIFICATION = 1 << 31
_HAS_SHA256 = 1 << 30
_QUERY_ELIGIBLE = 1 << 31
# Version; offsets of the two sections; offset and number of entries of three lookup tables; key; two times; reserved;
# three sums of bytes; the footer's own offset.
_FOOTER = Struct("<9Q32s2Q48x4Q")
_FOOTER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of chunks of one xorb that is part of a file.

    :param first: first chunk; ``last`` is excluded.
    :param raw_bytes: raw length of these chunks.
    """

    xorb_hash: bytes
    first: int
    last: int
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of a shard.

    :param range_hashes: one verification hash per segment, or ``None`` if the writer omitted them.
    :param sha256: normal hex, or ``None`` if the writer omitted it (bucket uploads).
    """

    file_hash: bytes
    segments: tuple[Segment, ...]
    range_hashes: tuple[bytes, ...] | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ShardXorb:
    """One xorb of a shard.

    :param chunk_hashes: its chunks' hashes, 32 bytes each, one after another.
    :param raw_lengths: its chunks' raw lengths in bytes.
    """

    xorb_hash: bytes
    chunk_hashes: bytes
    raw_lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """The two sections of a shard."""

    files: tuple[ShardFile, ...]
    xorbs: tuple[ShardXorb, ...]


def parse(body: bytes | bytearray | memoryview) -> Shard:
    """Parse a shard; the caller checks whether its content is true.

    :raises FormatError: it is not a shard, or it is truncated.
    """
    records = _Records(body)
    files = []
    while (record := records.next("file section")) is not None:
        files.append(_parse_file(record, records))
    xorbs = []
    while (record := records.next("xorb section")) is not None:
        xorbs.append(_parse_xorb(record, records))
    return Shard(tuple(files), tuple(xorbs))


def build(shard: Shard) -> bytes:
    """Return the bytes of a shard without a footer, as hf-xet uploads it."""
    return b"".join(
        [
            _HEADER.pack(_MAGIC, _VERSION, 0),
            *(_build_file(file) for file in shard.files),
            _BOOKEND,
            *(_build_xorb(xorb) for xorb in shard.xorbs),
            _BOOKEND,
        ]
    )


@dataclass(frozen=True, slots=True)
class ResponseXorb:
    """One xorb of the response to a deduplication query.

    :param listed: with plain chunk hashes.
    :param serialized_bytes: length of the xorb as stored here.
    :param eligible: plain hashes of the chunks that clients may query; they get a flag.
    """

    listed: ShardXorb
    serialized_bytes: int
    eligible: frozenset[bytes]


def build_response(xorbs: Iterable[ResponseXorb], key: bytes, *, created: int, expires: int) -> bytes:
    """Return the response to a deduplication query: no files, the xorbs, and a footer.

    The hashes of xorbs are plain, because the client names them in its own shard; those of chunks are keyed. The
    lookup tables are empty; clients build their own.

    :param key: 32 bytes, not all zero: zeros would mean that the hashes are plain.
    :param created: UNIX seconds.
    :param expires: UNIX seconds; the client discards the response then.

    Source: the layout that hf-xet 1.8 and ``@huggingface/hub`` 2.17 read; the latter finds the footer by its length.
    """
    records, all_serialized, all_raw = [], 0, 0
    for answered in xorbs:
        listed, raw_bytes = answered.listed, sum(answered.listed.raw_lengths)
        all_serialized, all_raw = all_serialized + answered.serialized_bytes, all_raw + raw_bytes
        records.append(_RECORD.pack(listed.xorb_hash, 0, len(listed.raw_lengths), raw_bytes, answered.serialized_bytes))
        position = 0
        for number, raw_length in enumerate(listed.raw_lengths):
            chunk_hash = listed.chunk_hashes[number * HASH_LENGTH : (number + 1) * HASH_LENGTH]
            flags = _QUERY_ELIGIBLE if chunk_hash in answered.eligible else 0
            records.append(_RECORD.pack(keyed_hash(chunk_hash, key), position, raw_length, flags, 0))
            position += raw_length
    sections = b"".join([_HEADER.pack(_MAGIC, _VERSION, _FOOTER.size), _BOOKEND, *records, _BOOKEND])
    end = len(sections)
    file_section, xorb_section, tables = RECORD_LENGTH, 2 * RECORD_LENGTH, (end, 0) * 3
    sums = (all_serialized, 0, all_raw)
    return sections + _FOOTER.pack(
        _FOOTER_VERSION, file_section, xorb_section, *tables, key, created, expires, *sums, end
    )


def pack_segments(segments: Iterable[Segment]) -> bytes:
    """Return the segments as records of 48 bytes, as in a shard."""
    return b"".join([_RECORD.pack(s.xorb_hash, 0, s.raw_bytes, s.first, s.last) for s in segments])


def unpack_segments(packed: bytes | memoryview) -> Iterator[Segment]:
    """Yield what :func:`pack_segments` packed."""
    for xorb_hash, _, raw_bytes, first, last in _RECORD.iter_unpack(packed):
        yield Segment(xorb_hash, first, last, raw_bytes)


class _Records:
    """A cursor over the records of a shard, checked against its end."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        self._body = memoryview(body)
        if len(body) < RECORD_LENGTH:
            raise FormatError(f"The shard has {len(body)} bytes; its header alone has {RECORD_LENGTH}.")
        magic, version, _ = _HEADER.unpack_from(self._body)
        if magic != _MAGIC:
            raise FormatError("This is not a shard: it does not start with a shard's magic bytes.")
        if version != _VERSION:
            raise FormatError(f"Shard version {version} is unknown; only {_VERSION} is supported.")
        self._position = RECORD_LENGTH

    def next(self, section: str) -> memoryview | None:
        """Return the next record, or ``None`` at the section's bookend."""
        record = self.take(1, section)
        return None if record == _BOOKEND else record

    def take(self, count: int, what: str) -> memoryview:
        """Return the next ``count`` records."""
        start, end = self._position, self._position + count * RECORD_LENGTH
        if end > len(self._body):
            raise FormatError(f"The shard is truncated at byte {len(self._body)}, inside its {what} (until {end}).")
        self._position = end
        return self._body[start:end]


def _parse_file(record: memoryview, records: _Records) -> ShardFile:
    file_hash, flags, count, _, _ = _RECORD.unpack(record)
    name = f"file {to_hex(file_hash)}"
    segments = tuple(unpack_segments(records.take(count, f"segments of {name}")))
    for number, segment in enumerate(segments):
        if not segment.first < segment.last:
            raise FormatError(f"Segment {number} of {name}: chunks {segment.first} to {segment.last} are not a range.")
    range_hashes = None
    if flags & _HAS_VERIFICATION:
        range_hashes = tuple(_hashes(records.take(count, f"verification of {name}")))
    sha256 = None
    if flags & _HAS_SHA256:
        # The hex form of the stored bytes is the normal hex of the digest.
        sha256 = to_hex(bytes(records.take(1, f"metadata of {name}")[:HASH_LENGTH]))
    return ShardFile(file_hash, segments, range_hashes, sha256)


def _parse_xorb(record: memoryview, records: _Records) -> ShardXorb:
    xorb_hash, _, count, raw_bytes, _ = _RECORD.unpack(record)
    name = f"xorb {to_hex(xorb_hash)}"
    if count == 0:
        raise FormatError(f"The shard lists 0 chunks for {name}; it needs at least one.")
    hashes, lengths, position = [], [], 0
    chunks = _RECORD.iter_unpack(records.take(count, f"chunks of {name}"))
    for number, (chunk_hash, raw_start, raw_length, _, _) in enumerate(chunks):
        if raw_start != position:
            raise FormatError(f"Chunk {number} of {name} starts at {raw_start}; the previous one ends at {position}.")
        position += raw_length
        hashes.append(chunk_hash)
        lengths.append(raw_length)
    if position != raw_bytes:
        raise FormatError(f"The shard lists {raw_bytes} raw bytes for {name}; its chunks have {position}.")
    return ShardXorb(xorb_hash, b"".join(hashes), tuple(lengths))


def _hashes(records: memoryview) -> Iterator[bytes]:
    for hash_, _, _, _, _ in _RECORD.iter_unpack(records):
        yield hash_


def _build_file(file: ShardFile) -> bytes:
    flags = (_HAS_VERIFICATION if file.range_hashes is not None else 0) | (_HAS_SHA256 if file.sha256 else 0)
    return b"".join(
        [
            _RECORD.pack(file.file_hash, flags, len(file.segments), 0, 0),
            pack_segments(file.segments),
            *(_RECORD.pack(range_hash, 0, 0, 0, 0) for range_hash in file.range_hashes or ()),
            _RECORD.pack(from_hex(file.sha256), 0, 0, 0, 0) if file.sha256 else b"",
        ]
    )


def _build_xorb(xorb: ShardXorb) -> bytes:
    records, position = [], 0
    for number, raw_length in enumerate(xorb.raw_lengths):
        chunk_hash = xorb.chunk_hashes[number * HASH_LENGTH : (number + 1) * HASH_LENGTH]
        records.append(_RECORD.pack(chunk_hash, position, raw_length, 0, 0))
        position += raw_length
    return _RECORD.pack(xorb.xorb_hash, 0, len(records), position, 0) + b"".join(records)
