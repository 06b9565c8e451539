"""Which bytes of which xorbs make up a range of a file, and how CAS describes them to a client.

Source: the Xet protocol's reconstruction page. Chunk ranges exclude their end. Byte ranges in JSON include it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from xethub_local.formats.byte_range import MAX_RANGES
from xethub_local.formats.hashing import to_hex
from xethub_local.formats.shard import Segment
from xethub_local.formats.xorb import XorbIndex


@dataclass(frozen=True)
class FetchRange:
    """One contiguous piece of a serialized xorb.

    :param first: first chunk; ``last`` is excluded.
    :param start: first byte in the serialized xorb; ``end`` is excluded.
    """

    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True)
class Reconstruction:
    """How to assemble a byte range of a file.

    :param terms: chunk ranges in file order, trimmed to the chunks that the byte range overlaps.
    :param offset_into_first_range: bytes to skip in the first term.
    :param length: bytes of the range after that; the last term may hold more.
    :param fetches: the pieces to fetch, by xorb hash in order of first use. Each term lies in exactly one piece.
    """

    terms: tuple[Segment, ...]
    offset_into_first_range: int
    length: int
    fetches: dict[bytes, tuple[FetchRange, ...]]


def plan_reconstruction(
    segments: Iterable[Segment], index_of: Callable[[bytes], XorbIndex], start: int, end: int
) -> Reconstruction:
    """Trim a file's segments to its bytes ``start`` to ``end`` (excluded) and determine what to fetch.

    The range must lie within the file.

    :param index_of: called only for xorbs that the range overlaps.
    """
    terms: list[Segment] = []
    offset_into_first_range = 0
    position = 0
    for segment in segments:
        segment_start, position = position, position + segment.raw_bytes
        if position <= start:
            continue
        if segment_start >= end:
            break
        index = index_of(segment.xorb_hash)
        from_byte = max(0, start - segment_start)
        to_byte = min(segment.raw_bytes, end - segment_start)
        first, last = index.chunks_of(segment.first, segment.last, from_byte, to_byte)
        if not terms:
            offset_into_first_range = from_byte - index.raw_length(segment.first, first)
        terms.append(Segment(segment.xorb_hash, first, last, index.raw_length(first, last)))
    chunk_ranges: dict[bytes, list[tuple[int, int]]] = {}
    for term in terms:
        chunk_ranges.setdefault(term.xorb_hash, []).append((term.first, term.last))
    fetches = {hash_: _fetches(ranges, index_of(hash_)) for hash_, ranges in chunk_ranges.items()}
    return Reconstruction(tuple(terms), offset_into_first_range, max(0, end - start) if terms else 0, fetches)


MakeUrl = Callable[[str, tuple[FetchRange, ...]], str]
"""Returns the signed URL of pieces of a xorb; called with the xorb hash in hex form."""


def to_json_v2(reconstruction: Reconstruction, url: MakeUrl) -> dict[str, Any]:
    """Return the body of ``GET /v2/reconstructions``.

    Each entry has a URL of its own, because ``@huggingface/hub`` fails on two entries with the same URL, and at most
    :data:`MAX_RANGES` pieces, which that client requests at once.
    """
    return {
        **_terms(reconstruction),
        "xorbs": {
            to_hex(hash_): [
                {
                    "url": url(to_hex(hash_), entry),
                    "ranges": [{"chunks": _chunks(fetch), "bytes": _bytes(fetch)} for fetch in entry],
                }
                for entry in (fetches[i : i + MAX_RANGES] for i in range(0, len(fetches), MAX_RANGES))
            ]
            for hash_, fetches in reconstruction.fetches.items()
        },
    }


def to_json_v1(reconstruction: Reconstruction, url: MakeUrl) -> dict[str, Any]:
    """Return the body of ``GET /v1/reconstructions``: one piece per URL."""
    return {**_terms(reconstruction), "fetch_info": _fetch_info(reconstruction.fetches, url)}


def to_json_batch(reconstructions: dict[str, Reconstruction], url: MakeUrl) -> dict[str, Any]:
    """Return the body of ``GET /v1/reconstructions?file_id=…&file_id=…``: the terms of each file and common fetches.

    :param reconstructions: by Xet hash, each of a whole file.
    """
    fetches: dict[bytes, tuple[FetchRange, ...]] = {}
    for reconstruction in reconstructions.values():
        for hash_, ranges in reconstruction.fetches.items():
            # List a piece once even if several files need it.
            fetches[hash_] = tuple(dict.fromkeys([*fetches.get(hash_, ()), *ranges]))
    return {
        "files": {name: _terms(reconstruction)["terms"] for name, reconstruction in reconstructions.items()},
        "fetch_info": _fetch_info(fetches, url),
    }


def _fetch_info(fetches: dict[bytes, tuple[FetchRange, ...]], url: MakeUrl) -> dict[str, Any]:
    return {
        to_hex(hash_): [
            {"range": _chunks(fetch), "url": url(to_hex(hash_), (fetch,)), "url_range": _bytes(fetch)}
            for fetch in ranges
        ]
        for hash_, ranges in fetches.items()
    }


def _fetches(ranges: list[tuple[int, int]], index: XorbIndex) -> tuple[FetchRange, ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(FetchRange(first, last, index.offsets[first], index.offsets[last]) for first, last in merged)


def _terms(reconstruction: Reconstruction) -> dict[str, Any]:
    return {
        "offset_into_first_range": reconstruction.offset_into_first_range,
        "terms": [
            {
                "hash": to_hex(term.xorb_hash),
                "unpacked_length": term.raw_bytes,
                "range": {"start": term.first, "end": term.last},
            }
            for term in reconstruction.terms
        ],
    }


def _chunks(fetch: FetchRange) -> dict[str, int]:
    return {"start": fetch.first, "end": fetch.last}


def _bytes(fetch: FetchRange) -> dict[str, int]:
    return {"start": fetch.start, "end": fetch.end - 1}
