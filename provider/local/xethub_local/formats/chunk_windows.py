"""Which chunks of a file an edit affects and which stay, for a client that changes part of a large file.

The client chunks the affected windows again and computes the new file's hash from them and from the hashes between
them.

Source: the Xet protocol's API page, version 1.1, and what ``@huggingface/hub`` 2.17 accepts. The form of a subtree of
hashes is not documented; clients accept any. Here a subtree lists every chunk, which is the simplest form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xethub_local.formats import FormatError, hashing
from xethub_local.formats.hashing import SizedHash, to_hex

_DIRTY = re.compile(r"bytes=(\d{1,19}-\d{1,19}(?:,\s*\d{1,19}-\d{1,19})*)")
# After two consecutive chunks of such a size, chunking again arrives at the same boundaries: chunks have 8 to 128 KiB,
# and an edit may move a boundary by up to 8 KiB.
_STABLE_BYTES = range(16 * 1024, 120 * 1024)
_SERVER_CHUNK_BYTES = 64 * 1024
"""Size of the chunks of a file that this server has chunked itself; a client would set other boundaries."""


@dataclass(frozen=True)
class FileSegment:
    """A segment of a file with its chunks."""

    chunks: tuple[SizedHash, ...]

    @property
    def size(self) -> int:
        """Its raw bytes."""
        return sum(size for _, size in self.chunks)


def parse_dirty(header: str | None, size: int) -> list[tuple[int, int]]:
    """Return the ranges of ``X-Range-Dirty``, sorted and merged, as ``(start, end)``, ``end`` excluded.

    :param size: size of the file; bytes after its end are ignored.
    :raises FormatError: the header is missing or malformed, or names no byte of the file.
    """
    match = _DIRTY.fullmatch(header or "")
    if match is None:
        raise FormatError("X-Range-Dirty must name the bytes to change: bytes=START-END, or several with commas.")
    merged: list[tuple[int, int]] = []
    for start, last in sorted(tuple(map(int, text.split("-"))) for text in match[1].split(",")):
        end = min(last + 1, size)
        if last < start:
            raise FormatError(f"X-Range-Dirty has a range that ends before it starts: {start}-{last}.")
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    if not merged:
        raise FormatError(f"X-Range-Dirty names no byte of the file, which has {size} bytes.")
    return merged


def describe(segments: Sequence[FileSegment], dirty: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return the response for a file that changes in these ranges.

    :param dirty: result of :func:`parse_dirty`.
    """
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    offsets = [0]
    for _, size in chunks:
        offsets.append(offsets[-1] + size)
    windows = list(_windows(chunks, offsets, dirty))
    starts, ends = [0, *(last for _, last in windows)], [*(first for first, _ in windows), len(chunks)]
    bounds = [(offsets[first], offsets[last]) for first, last in windows]
    return {
        "totalChunks": len(chunks),
        "fileSize": offsets[-1],
        "windows": [{"dirtyByteRange": list(window)} for window in bounds],
        "hashRanges": [
            _subtree(chunks[first:last], at_start=first == 0, at_end=last == len(chunks)) if first < last else None
            for first, last in zip(starts, ends, strict=True)
        ],
        "gapVerification": [to_hex(range_hash) for range_hash in _untouched(segments, bounds)],
    }


def _windows(
    chunks: Sequence[SizedHash], offsets: Sequence[int], dirty: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the windows as chunk ranges: from a changed chunk to where the boundaries are sure to be the same again."""
    wanted = iter(dirty)
    start, end = next(wanted)
    first, stable = -1, 0  # of the open window: its first chunk, and its stable chunks since the last changed one
    for number, (_, size) in enumerate(chunks):
        while end <= offsets[number] and (following := next(wanted, None)) is not None:
            start, end = following
        if start < offsets[number + 1] and offsets[number] < end:
            first, stable = (number if first < 0 else first), 0
        elif first >= 0:
            stable = stable + 1 if size in _STABLE_BYTES and size != _SERVER_CHUNK_BYTES else 0
            if stable == 2:
                yield first, number + 1
                first = -1
    if first >= 0:
        yield first, len(chunks)


def _untouched(segments: Sequence[FileSegment], windows: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the verification hash of each segment that no window overlaps."""
    position = 0
    for segment in segments:
        end = position + segment.size
        if not any(first < end and position < last for first, last in windows):
            yield hashing.range_hash(b"".join(chunk_hash for chunk_hash, _ in segment.chunks))
        position = end


def _subtree(chunks: Sequence[SizedHash], *, at_start: bool, at_end: bool) -> dict[str, Any]:
    return {
        "nodes": [{"hash": to_hex(chunk_hash), "size": size} for chunk_hash, size in chunks],
        "levels": [[len(chunks), 0]],
        "at_start": at_start,
        "at_end": at_end,
    }
