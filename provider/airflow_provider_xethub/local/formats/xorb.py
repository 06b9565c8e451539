"""A serialized xorb: chunk records back to back, each a header of 8 bytes and a payload.

Header: version 0, payload length (24 bits), compression scheme, raw length (24 bits), little-endian. Older writers
append a footer, which is tolerated, never trusted and never kept.

Source: the Xet protocol's xorb page; limits and schemes as hf-xet 1.8 writes them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import lz4.frame

from airflow_provider_xethub.local.formats import FormatError
from airflow_provider_xethub.local.formats.hashing import HASH_LENGTH, chunk_hash, tree_root

MAX_CHUNK_BYTES = 128 * 1024
MAX_XORB_CHUNKS = 8192
MAX_XORB_RAW_BYTES = 64 * 1024 * 1024

Scheme = Literal[0, 1, 2]
STORED: Scheme = 0
LZ4: Scheme = 1
GROUPED_LZ4: Scheme = 2

_HEADER_LENGTH = 8
_MAX_PAYLOAD_BYTES = 2 * MAX_CHUNK_BYTES
_FOOTER_MAGIC = b"XETBLOB"
_24_BITS = 0xFFFFFF


@dataclass(frozen=True)
class XorbIndex:
    """Where each chunk of a xorb lies. For n chunks both tuples have n + 1 entries, the last being the end.

    :param offsets: byte offsets in the serialized xorb, chunk headers included.
    :param raw_offsets: byte offsets in the raw bytes.
    """

    offsets: tuple[int, ...]
    raw_offsets: tuple[int, ...]

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return len(self.offsets) - 1

    def raw_length(self, first: int, last: int) -> int:
        """Return the raw bytes in chunks ``first`` to ``last``, the latter excluded."""
        return self.raw_offsets[last] - self.raw_offsets[first]

    def chunks_of(self, first: int, last: int, start: int, end: int) -> tuple[int, int]:
        """Return the smallest part of chunks ``first`` to ``last`` that holds the raw bytes ``start`` to ``end``.

        ``start`` and ``end`` count from the beginning of chunk ``first``; every end is excluded.
        """
        base = self.raw_offsets[first]
        from_chunk = bisect_right(self.raw_offsets, base + start, first, last) - 1
        to_chunk = bisect_left(self.raw_offsets, base + end, first, last)
        return from_chunk, to_chunk


@dataclass(frozen=True)
class Xorb:
    """What a complete check of a serialized xorb found.

    :param xorb_hash: root over its chunks.
    :param chunk_hashes: the chunks' hashes, 32 bytes each, one after another.
    :param index: where each chunk lies; ``index.offsets[-1]`` is the length without a footer.
    """

    xorb_hash: bytes
    chunk_hashes: bytes
    index: XorbIndex


def parse(body: bytes | bytearray | memoryview) -> Xorb:
    """Check a serialized xorb completely: framing, limits, decompression, and hash every chunk.

    :raises FormatError: it is not a valid xorb; the message names the chunk by number.
    """
    hashes: list[bytes] = []
    offsets, raw_offsets = [0], [0]
    for raw, end in _records(memoryview(body)):
        if len(hashes) == MAX_XORB_CHUNKS:
            raise FormatError(f"The xorb has more than {MAX_XORB_CHUNKS} chunks.")
        hashes.append(chunk_hash(raw))
        offsets.append(end)
        raw_offsets.append(raw_offsets[-1] + len(raw))
        if raw_offsets[-1] > MAX_XORB_RAW_BYTES:
            raise FormatError(f"The xorb has more than {MAX_XORB_RAW_BYTES} raw bytes.")
    if not hashes:
        raise FormatError("The xorb has no chunks.")
    sizes = (end - start for start, end in pairwise(raw_offsets))
    return Xorb(
        xorb_hash=tree_root(zip(hashes, sizes, strict=True)),
        chunk_hashes=b"".join(hashes),
        index=XorbIndex(tuple(offsets), tuple(raw_offsets)),
    )


def decode(records: bytes | bytearray | memoryview) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the raw bytes of each chunk record, such as of the bytes of a chunk range.

    :raises FormatError: a record is broken.
    """
    for raw, _ in _records(memoryview(records)):
        yield raw


def serialize(chunks: Iterable[bytes | memoryview], scheme: Scheme = LZ4) -> bytes:
    """Return the chunk records of these raw chunks; a chunk that does not get smaller is stored as it is.

    :raises FormatError: a chunk is empty or too long.
    """
    return b"".join([_record(chunk, scheme) for chunk in chunks])


def split_hashes(chunk_hashes: bytes) -> list[bytes]:
    """Return the 32-byte hashes that ``chunk_hashes`` holds one after another."""
    return [chunk_hashes[i : i + HASH_LENGTH] for i in range(0, len(chunk_hashes), HASH_LENGTH)]


def _records(buffer: memoryview) -> Iterator[tuple[bytes | bytearray | memoryview, int]]:
    """Yield each chunk's raw bytes and the offset where its record ends."""
    length = len(buffer)
    position = 0
    number = 0
    while position < length:
        if buffer[position : position + len(_FOOTER_MAGIC)] == _FOOTER_MAGIC:
            return
        payload_start = position + _HEADER_LENGTH
        if payload_start > length:
            raise FormatError(f"Chunk {number}: its header is cut off at byte {length}.")
        header = int.from_bytes(buffer[position:payload_start], "little")
        version, payload_length = header & 0xFF, header >> 8 & _24_BITS
        scheme, raw_length = header >> 32 & 0xFF, header >> 40 & _24_BITS
        if version != 0:
            raise FormatError(f"Chunk {number} at byte {position}: version {version} is not known, only 0 is.")
        if not 0 < raw_length <= MAX_CHUNK_BYTES:
            raise FormatError(f"Chunk {number}: raw length {raw_length} is not within 1 to {MAX_CHUNK_BYTES}.")
        if payload_length > _MAX_PAYLOAD_BYTES:
            raise FormatError(f"Chunk {number}: a payload of {payload_length} bytes is too long.")
        position = payload_start + payload_length
        if position > length:
            raise FormatError(f"Chunk {number}: its payload is cut off at byte {length}, it ends at {position}.")
        yield _decompress(buffer[payload_start:position], scheme, raw_length, number), position
        number += 1


def _decompress(payload: memoryview, scheme: int, raw_length: int, number: int) -> bytes | bytearray | memoryview:
    if scheme == STORED:
        raw: bytes | bytearray | memoryview = payload
    elif scheme == LZ4:
        raw = _unframe(payload, raw_length, number)
    elif scheme == GROUPED_LZ4:
        raw = _ungroup(_unframe(payload, raw_length, number))
    else:
        raise FormatError(f"Chunk {number}: compression scheme {scheme} is not known, only 0, 1 and 2 are.")
    if len(raw) != raw_length:
        raise FormatError(f"Chunk {number}: its raw bytes are not {raw_length} as its header says.")
    return raw


def _unframe(payload: memoryview, raw_length: int, number: int) -> bytes:
    frame = lz4.frame.LZ4FrameDecompressor()
    try:
        # One byte more than allowed is enough to notice a frame that unpacks to more than it declares.
        raw: bytes = frame.decompress(payload, max_length=raw_length + 1)
    except RuntimeError as error:
        raise FormatError(f"Chunk {number}: its LZ4 frame is broken ({error}).") from error
    if len(raw) <= raw_length and not frame.eof:
        raise FormatError(f"Chunk {number}: its LZ4 frame is cut off.")
    if frame.unused_data:
        raise FormatError(f"Chunk {number}: {len(frame.unused_data)} bytes follow its LZ4 frame.")
    return raw


def _group(raw: bytes | memoryview) -> bytes:
    return b"".join([raw[lane::4] for lane in range(4)])


def _ungroup(grouped: bytes) -> bytearray:
    raw = bytearray(len(grouped))
    quarter, rest = divmod(len(grouped), 4)
    start = 0
    for lane in range(4):
        end = start + quarter + (lane < rest)
        raw[lane::4] = grouped[start:end]
        start = end
    return raw


def _record(chunk: bytes | memoryview, scheme: Scheme) -> bytes:
    if not 0 < len(chunk) <= MAX_CHUNK_BYTES:
        raise FormatError(f"A chunk of {len(chunk)} bytes is not within 1 to {MAX_CHUNK_BYTES}.")
    payload = bytes(chunk)
    if scheme != STORED:
        packed = lz4.frame.compress(_group(payload) if scheme == GROUPED_LZ4 else payload, store_size=False)
        if len(packed) < len(payload):
            payload = packed
        else:
            scheme = STORED
    header = len(payload) << 8 | scheme << 32 | len(chunk) << 40
    return header.to_bytes(_HEADER_LENGTH, "little") + payload
