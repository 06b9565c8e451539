"""Which chunks a client that changes part of a file has to cut anew."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xethub_local.formats import FormatError, hashing
from xethub_local.formats.chunk_windows import FileSegment, describe, parse_dirty
from xethub_local.formats.hashing import to_hex

if TYPE_CHECKING:
    pass


KIB = 1024


def segments_of(*sizes: list[int]) -> list[FileSegment]:
    """Return segments whose chunks have these sizes in KiB, and hashes that tell their numbers."""
    numbers = iter(range(10_000))
    return [
        FileSegment(tuple((bytes([0] * 30) + next(numbers).to_bytes(2, "big"), size * KIB) for size in s))
        for s in sizes
    ]


def windows(segments: list[FileSegment], *dirty: tuple[int, int]) -> list[list[int]]:
    """Return the windows in KiB for dirty ranges in KiB."""
    answer = describe(segments, [(start * KIB, end * KIB) for start, end in dirty])
    return [[at // KIB for at in window["dirtyByteRange"]] for window in answer["windows"]]


@pytest.mark.parametrize(
    ("sizes", "dirty", "expected"),
    [
        ([20] * 6, [(1, 2)], [[0, 60]]),
        ([20] * 6, [(0, 20)], [[0, 60]]),
        ([20] * 6, [(20, 21)], [[20, 80]]),
        ([20] * 6, [(19, 21)], [[0, 80]]),
        ([20] * 6, [(119, 120)], [[100, 120]]),
        ([20] * 20, [(0, 20), (280, 300)], [[0, 60], [280, 340]]),
        ([20] * 8, [(0, 1), (41, 42)], [[0, 100]]),  # the second begins before the first one has calmed down
        ([20] * 8, [(0, 1), (60, 61)], [[0, 60], [60, 120]]),
        ([20] * 8, [(0, 1), (2, 3), (19, 21)], [[0, 80]]),
        ([128] * 4, [(0, 1)], [[0, 512]]),  # nothing is sure after chunks that were cut for their size
        ([20, 128, 20, 128, 20, 20, 20], [(0, 1)], [[0, 336]]),
        ([20, 8, 20, 20, 20], [(0, 1)], [[0, 68]]),
        ([64] * 5, [(0, 1)], [[0, 320]]),  # this server's own cuts
    ],
)
def test_a_window_ends_where_the_cuts_are_sure_to_be_the_same(
    sizes: list[int], dirty: list[tuple[int, int]], expected: list[list[int]]
) -> None:
    assert windows(segments_of(sizes), *dirty) == expected


def test_what_lies_between_windows_is_told_by_its_chunks() -> None:
    segments = segments_of([20] * 4, [20] * 4, [20] * 4)
    answer = describe(segments, [(5 * 20 * KIB, 5 * 20 * KIB + 1)])
    assert (answer["totalChunks"], answer["fileSize"]) == (12, 240 * KIB)
    assert answer["windows"] == [{"dirtyByteRange": [100 * KIB, 160 * KIB]}]
    before, after = answer["hashRanges"]
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    for subtree, expected, at_start in ((before, chunks[:5], True), (after, chunks[8:], False)):
        assert [(node["hash"], node["size"]) for node in subtree["nodes"]] == [(to_hex(h), n) for h, n in expected]
        assert subtree["levels"] == [[len(expected), 0]]
        assert (subtree["at_start"], subtree["at_end"]) == (at_start, not at_start)
    untouched = [b"".join(chunk_hash for chunk_hash, _ in segments[number].chunks) for number in (0, 2)]
    assert answer["gapVerification"] == [to_hex(hashing.range_hash(hashes)) for hashes in untouched]
    whole = describe(segments, [(0, 240 * KIB)])
    assert (whole["hashRanges"], whole["gapVerification"]) == ([None, None], [])


@given(
    st.lists(st.integers(1, 128), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 200)), min_size=1, max_size=5),
)
def test_windows_hold_all_dirty_bytes_and_begin_and_end_at_chunks(
    sizes: list[int], spans: list[tuple[int, int]]
) -> None:
    size = sum(sizes)
    header = "bytes=" + ",".join(f"{start % size}-{start % size + length}" for start, length in spans)
    dirty = parse_dirty(header, size)
    segment = FileSegment(tuple((bytes(32), each) for each in sizes))
    answer = describe([segment], dirty)
    found = [tuple(window["dirtyByteRange"]) for window in answer["windows"]]
    assert found == sorted(found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    for start, end in dirty:
        assert any(first <= start and end <= last for first, last in found)
    cuts = {sum(sizes[:number]) for number in range(len(sizes) + 1)}
    assert {at for window in found for at in window} <= cuts
    gaps = sum(len(subtree["nodes"]) for subtree in answer["hashRanges"] if subtree)
    inside = sum(any(first <= sum(sizes[:n]) < last for first, last in found) for n in range(len(sizes)))
    assert gaps + inside == answer["totalChunks"] == len(sizes)
    assert len(answer["hashRanges"]) == len(found) + 1


def test_dirty_ranges_are_sorted_merged_and_clamped() -> None:
    assert parse_dirty("bytes=90-200, 5-9,10-12,40-40", 100) == [(5, 13), (40, 41), (90, 100)]
    assert parse_dirty("bytes=0-9999999999999999999", 100) == [(0, 100)]


@pytest.mark.parametrize(
    "header", [None, "", "bytes=", "bytes=5", "bytes=5-", "bytes=-5", "bytes=9-3", "5-9", "bytes=1-2,", "bytes=100-120"]
)
def test_dirty_ranges_that_make_no_sense_are_refused(header: str | None) -> None:
    with pytest.raises(FormatError, match="X-Range-Dirty"):
        parse_dirty(header, 100)
