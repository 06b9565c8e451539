"""Which chunks of a file an edit touches, and what stays, for a client that changes part of a large file.

The client cuts the windows anew and puts the new file's hash together from them and the hashes of what lies between.

Source: the Xet protocol's API page, version 1.1, and what ``@huggingface/hub`` 2.17 accepts. How a subtree of hashes
looks is not documented: clients take it as it is. Here it lists every chunk, which is its simplest form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.local.formats import FormatError, hashing
from airflow_provider_xethub.local.formats.hashing import SizedHash, to_hex

_DIRTY = re.compile(r"bytes=(\d{1,19}-\d{1,19}(?:,\s*\d{1,19}-\d{1,19})*)")
# After two chunks in a row of such a size, a client that cuts anew comes to the same cuts again: chunks have at least
# 8 KiB and at most 128 KiB, and a cut that an edit moved may lie up to 8 KiB further on.
_STABLE_BYTES = range(16 * 1024, 120 * 1024)
_OWN_CUT = 64 * 1024
"""Bytes of each chunk of a file that this server cut itself: a client would cut it elsewhere."""


@dataclass(frozen=True)
class FileSegment:
    """A segment of a file with its chunks."""

    chunks: tuple[SizedHash, ...]

    @property
    def size(self) -> int:
        """Its raw bytes."""
        return sum(size for _, size in self.chunks)


def parse_dirty(header: str | None, size: int) -> list[tuple[int, int]]:
    """Return the ranges that ``X-Range-Dirty`` names, sorted and merged, as ``(start, end)``, ``end`` excluded.

    :param size: of the file; what lies behind its end is left out.
    :raises FormatError: the header is missing or malformed, or nothing is left.
    """
    match = _DIRTY.fullmatch(header or "")
    if match is None:
        raise FormatError("X-Range-Dirty must say which bytes are to change: bytes=START-END, or several with commas.")
    merged: list[tuple[int, int]] = []
    for start, last in sorted(tuple(map(int, text.split("-"))) for text in match[1].split(",")):
        end = min(last + 1, size)
        if last < start:
            raise FormatError(f"X-Range-Dirty has a range that ends before it begins: {start}-{last}.")
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    if not merged:
        raise FormatError(f"X-Range-Dirty names no byte of the file, which has {size}.")
    return merged


def describe(segments: Sequence[FileSegment], dirty: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return the answer for a file that is to change in these ranges.

    :param dirty: what :func:`parse_dirty` returned.
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
    """Yield the windows as ranges of chunks: from a dirty one to where the cuts are sure to be the same again."""
    wanted = iter(dirty)
    start, end = next(wanted)
    first, calm = -1, 0  # of the open window; chunks of a stable size since its last dirty one
    for number, (_, size) in enumerate(chunks):
        while end <= offsets[number] and (following := next(wanted, None)) is not None:
            start, end = following
        if start < offsets[number + 1] and offsets[number] < end:
            first, calm = (number if first < 0 else first), 0
        elif first >= 0:
            calm = calm + 1 if size in _STABLE_BYTES and size != _OWN_CUT else 0
            if calm == 2:
                yield first, number + 1
                first = -1
    if first >= 0:
        yield first, len(chunks)


def _untouched(segments: Sequence[FileSegment], windows: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the verification hash of each segment that no window touches."""
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
