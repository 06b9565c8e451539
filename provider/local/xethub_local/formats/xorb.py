"""A serialized xorb: consecutive chunk records, each with a header of 8 bytes and a payload.

Header: version 0, payload length (24 bits), compression scheme, raw length (24 bits), little-endian. Older writers
append a footer; it is accepted, but neither trusted nor stored.

Source: the Xet protocol's xorb page; limits and schemes as hf-xet 1.8 writes them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import lz4.frame

from xethub_local.formats import FormatError
from xethub_local.formats.hashing import HASH_LENGTH, chunk_hash, tree_root

MAX_CHUNK_BYTES = 128 * 1024
MAX_XORB_RAW_BYTES = 64 * 1024 * 1024
HEADER_LENGTH = 8
"""Bytes before the payload of each chunk."""

Scheme = Literal[0, 1, 2]
STORED: Scheme = 0
LZ4: Scheme = 1
GROUPED_LZ4: Scheme = 2

_MAX_PAYLOAD_BYTES = 2 * MAX_CHUNK_BYTES
_FOOTER_MAGIC = b"XETBLOB"
_24_BITS = 0xFFFFFF


@dataclass(frozen=True)
class XorbIndex:
    """The position of each chunk of a xorb. For n chunks, both tuples have n + 1 entries, the last being the end.

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

    def raw_lengths(self, first: int, last: int) -> tuple[int, ...]:
        """Return the raw bytes of each chunk from ``first`` to ``last``, the latter excluded."""
        return tuple(end - start for start, end in pairwise(self.raw_offsets[first : last + 1]))

    def chunks_of(self, first: int, last: int, start: int, end: int) -> tuple[int, int]:
        """Return the smallest range of chunks ``first`` to ``last`` that holds the raw bytes ``start`` to ``end``.

        ``start`` and ``end`` are relative to the start of chunk ``first``; both ends are excluded.
        """
        base = self.raw_offsets[first]
        from_chunk = bisect_right(self.raw_offsets, base + start, first, last) - 1
        to_chunk = bisect_left(self.raw_offsets, base + end, first, last)
        return from_chunk, to_chunk


@dataclass(frozen=True)
class Xorb:
    """The hash, the chunk hashes and the index of a serialized xorb that was checked completely.

    :param xorb_hash: root hash over its chunks.
    :param chunk_hashes: the chunks' hashes, 32 bytes each, one after another.
    :param index: position of each chunk; ``index.offsets[-1]`` is the length without a footer.
    """

    xorb_hash: bytes
    chunk_hashes: bytes
    index: XorbIndex


class Parser:
    """Checks a serialized xorb completely while it arrives: framing, limits, decompression, hashes.

    It buffers only the chunk record that is still incomplete.
    """

    def __init__(self) -> None:
        self._hashes: list[bytes] = []
        self._offsets = [0]
        self._raw_offsets = [0]
        self._rest = b""
        self._in_footer = False

    def feed(self, piece: bytes | bytearray | memoryview) -> memoryview:
        """Check the next bytes, and return the records that are complete now, without any footer.

        The returned pieces, concatenated, are the serialized xorb without its footer.

        :raises FormatError: this is not a valid xorb; the message gives the number of the chunk. Do not feed more.
        """
        if self._in_footer:
            return memoryview(b"")
        buffer = memoryview(self._rest + piece if self._rest else piece)
        base = self._offsets[-1]
        position = 0
        while (record := _next_record(buffer, position, base, len(self._hashes))) is not None:
            raw, position = record
            self._add(raw, base + position)
        self._in_footer = buffer[position : position + len(_FOOTER_MAGIC)] == _FOOTER_MAGIC
        self._rest = b"" if self._in_footer else bytes(buffer[position:])
        return buffer[:position]

    def finish(self) -> Xorb:
        """Return the parsed xorb, once all bytes were fed.

        :raises FormatError: it ends inside a chunk record, or has no chunks.
        """
        if self._rest:
            raise _truncated(self._rest, self._offsets[-1], len(self._hashes))
        if not self._hashes:
            raise FormatError("The xorb has no chunks.")
        sizes = (end - start for start, end in pairwise(self._raw_offsets))
        return Xorb(
            xorb_hash=tree_root(zip(self._hashes, sizes, strict=True)),
            chunk_hashes=b"".join(self._hashes),
            index=XorbIndex(tuple(self._offsets), tuple(self._raw_offsets)),
        )

    def _add(self, raw: bytes | bytearray | memoryview, end: int) -> None:
        self._hashes.append(chunk_hash(raw))
        self._offsets.append(end)
        self._raw_offsets.append(self._raw_offsets[-1] + len(raw))
        if self._raw_offsets[-1] > MAX_XORB_RAW_BYTES:
            raise FormatError(f"The xorb has more than {MAX_XORB_RAW_BYTES} raw bytes.")


def parse(body: bytes | bytearray | memoryview) -> Xorb:
    """Check a complete serialized xorb; see :class:`Parser`.

    :raises FormatError: it is not a valid xorb; the message gives the number of the chunk.
    """
    parser = Parser()
    parser.feed(body)
    return parser.finish()


def decode(records: bytes | bytearray | memoryview) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the raw bytes of each chunk record, for example of a chunk range; stop at a footer.

    :raises FormatError: a record is malformed.
    """
    buffer = memoryview(records)
    position = number = 0
    while (record := _next_record(buffer, position, 0, number)) is not None:
        raw, position = record
        yield raw
        number += 1
    rest = buffer[position:]
    if rest and rest[: len(_FOOTER_MAGIC)] != _FOOTER_MAGIC:
        raise _truncated(rest, position, number)


def serialize(chunks: Iterable[bytes | memoryview], scheme: Scheme = LZ4) -> bytes:
    """Return the chunk records of these raw chunks; a chunk that does not compress is stored uncompressed.

    :raises FormatError: a chunk is empty or too long.
    """
    return b"".join([_record(chunk, scheme) for chunk in chunks])


def split_hashes(chunk_hashes: bytes) -> list[bytes]:
    """Split concatenated hashes of 32 bytes."""
    return [chunk_hashes[i : i + HASH_LENGTH] for i in range(0, len(chunk_hashes), HASH_LENGTH)]


def _next_record(
    buffer: memoryview, position: int, base: int, number: int
) -> tuple[bytes | bytearray | memoryview, int] | None:
    """Return the raw bytes of the record at ``position`` and its end; ``None`` for a footer or an incomplete record.

    :param base: position of the buffer in the serialized xorb, for messages.
    """
    payload_start = position + HEADER_LENGTH
    if payload_start > len(buffer) or buffer[position : position + len(_FOOTER_MAGIC)] == _FOOTER_MAGIC:
        return None
    payload_length, scheme, raw_length = _header(buffer[position:payload_start], base + position, number)
    end = payload_start + payload_length
    if end > len(buffer):
        return None
    return _decompress(buffer[payload_start:end], scheme, raw_length, number), end


def _header(record: bytes | memoryview, position: int, number: int) -> tuple[int, int, int]:
    """Return payload length, scheme and raw length of a record."""
    header = int.from_bytes(record[:HEADER_LENGTH], "little")
    version, payload_length = header & 0xFF, header >> 8 & _24_BITS
    scheme, raw_length = header >> 32 & 0xFF, header >> 40 & _24_BITS
    if version != 0:
        raise FormatError(f"Chunk {number} at byte {position}: version {version} is unknown; only 0 is supported.")
    if not 0 < raw_length <= MAX_CHUNK_BYTES:
        raise FormatError(f"Chunk {number}: raw length {raw_length} is not within 1 to {MAX_CHUNK_BYTES}.")
    if payload_length > _MAX_PAYLOAD_BYTES:
        raise FormatError(f"Chunk {number}: a payload of {payload_length} bytes is too long.")
    return payload_length, scheme, raw_length


def _truncated(rest: bytes | memoryview, position: int, number: int) -> FormatError:
    """Return the error for a record of which only ``rest`` has arrived."""
    length = position + len(rest)
    if len(rest) < HEADER_LENGTH:
        return FormatError(f"Chunk {number}: its header is truncated at byte {length}.")
    end = position + HEADER_LENGTH + _header(rest, position, number)[0]
    return FormatError(f"Chunk {number}: its payload is truncated at byte {length}; it should end at {end}.")


def _decompress(payload: memoryview, scheme: int, raw_length: int, number: int) -> bytes | bytearray | memoryview:
    if scheme == STORED:
        raw: bytes | bytearray | memoryview = payload
    elif scheme == LZ4:
        raw = _unframe(payload, raw_length, number)
    elif scheme == GROUPED_LZ4:
        raw = _ungroup(_unframe(payload, raw_length, number))
    else:
        raise FormatError(f"Chunk {number}: compression scheme {scheme} is unknown; only 0, 1 and 2 are supported.")
    if len(raw) != raw_length:
        raise FormatError(f"Chunk {number}: it does not have {raw_length} raw bytes, as its header says.")
    return raw


def _unframe(payload: memoryview, raw_length: int, number: int) -> bytes:
    frame = lz4.frame.LZ4FrameDecompressor()
    try:
        # Reading one byte more than declared detects a frame that unpacks to more.
        raw: bytes = frame.decompress(payload, max_length=raw_length + 1)
    except RuntimeError as error:
        raise FormatError(f"Chunk {number}: its LZ4 frame is malformed ({error}).") from error
    if len(raw) <= raw_length and not frame.eof:
        raise FormatError(f"Chunk {number}: its LZ4 frame is truncated.")
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
    return header.to_bytes(HEADER_LENGTH, "little") + payload
