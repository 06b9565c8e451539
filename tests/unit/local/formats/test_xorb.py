"""Xorbs: round trips, and what is refused."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import accumulate

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.known_answers import HELLO, HELLO_HASH
from xethub_local.formats import FormatError, hashing, xorb
from xethub_local.formats.hashing import to_hex


def record(payload: bytes, raw_length: int, scheme: int = 0, version: int = 0) -> bytes:
    return (
        bytes([version]) + len(payload).to_bytes(3, "little") + bytes([scheme]) + raw_length.to_bytes(3, "little")
    ) + payload


def test_the_thirty_byte_xorb_byte_for_byte() -> None:
    body = xorb.serialize([HELLO], xorb.STORED)
    assert body == bytes.fromhex("001e0000001e0000") + HELLO
    parsed = xorb.parse(body)
    assert to_hex(parsed.xorb_hash) == HELLO_HASH
    assert parsed.index == xorb.XorbIndex((0, 38), (0, 30))


def test_bytes_are_grouped_by_four_before_compression() -> None:
    grouped = bytes.fromhex("00040801050902060307")
    body = record(lz4.frame.compress(grouped, store_size=False), 10, xorb.GROUPED_LZ4)
    assert b"".join(xorb.decode(body)) == bytes(range(10))


@pytest.mark.parametrize("rest", range(4))
def test_grouping_works_for_every_length(rest: int) -> None:
    raw = struct.pack("<500f", *(number / 7 for number in range(500)))[: 1996 + rest]
    body = xorb.serialize([raw], xorb.GROUPED_LZ4)
    assert body[4] == xorb.GROUPED_LZ4
    assert b"".join(xorb.decode(body)) == raw


chunk_lists = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=300), st.builds(lambda part, n: part * n, st.binary(min_size=1), st.just(50))
    ),
    min_size=1,
    max_size=8,
)


@given(chunk_lists, st.sampled_from([xorb.STORED, xorb.LZ4, xorb.GROUPED_LZ4]))
def test_xorb_round_trip(chunks: list[bytes], scheme: xorb.Scheme) -> None:
    body = xorb.serialize(chunks, scheme)
    parsed = xorb.parse(body)
    assert list(map(bytes, xorb.decode(body))) == chunks
    hashes = [hashing.chunk_hash(chunk) for chunk in chunks]
    assert xorb.split_hashes(parsed.chunk_hashes) == hashes
    assert parsed.xorb_hash == hashing.tree_root(zip(hashes, map(len, chunks), strict=True))
    assert parsed.index.raw_offsets == tuple(accumulate(map(len, chunks), initial=0))
    assert parsed.index.offsets[-1] == len(body)
    for number in range(len(chunks)):
        start, end = parsed.index.offsets[number : number + 2]
        assert b"".join(xorb.decode(body[start:end])) == chunks[number]


def test_the_footer_of_an_older_writer_is_ignored() -> None:
    body = xorb.serialize([HELLO, b"more"])
    assert xorb.parse(body + b"XETBLOB\x01" + bytes(100)) == xorb.parse(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "has no chunks"),
        (b"XETBLOB\x01" + bytes(60), "has no chunks"),
        (b"\x00\x01", "header is truncated"),
        (record(b"abc", 3)[:-1], "payload is truncated"),
        (record(b"abc", 3, version=1), "version 1 is unknown"),
        (record(b"abc", 3, scheme=3), "scheme 3 is unknown"),
        (record(b"", 0), "raw length 0 is not within"),
        (record(b"abc", 131073), "raw length 131073 is not within"),
        (record(b"abc", 4), "does not have 4 raw bytes"),
        (record(bytes(262145), 1), "payload of 262145 bytes is too long"),
        (record(b"not a frame at all", 4, xorb.LZ4), "LZ4 frame is malformed"),
        (record(lz4.frame.compress(b"abcd")[:-6], 4, xorb.LZ4), "LZ4 frame is truncated"),
        (record(lz4.frame.compress(b"abcd") + b"x", 4, xorb.LZ4), "follow its LZ4 frame"),
        (record(lz4.frame.compress(b"abc"), 4, xorb.LZ4), "does not have 4 raw bytes"),
        (record(lz4.frame.compress(bytes(50_000_000)), 131072, xorb.LZ4), "does not have 131072 raw bytes"),
    ],
)
def test_a_broken_xorb_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        xorb.parse(body)


def test_a_decompression_bomb_takes_no_memory() -> None:
    body = record(lz4.frame.compress(bytes(50_000_000)), 131072, xorb.LZ4)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            xorb.parse(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_xorb_may_have_more_chunks_than_clients_put_into_one() -> None:
    assert xorb.parse(record(b"x", 1) * 8193).index.chunk_count == 8193


def test_a_xorb_has_at_most_64_mib_of_raw_bytes() -> None:
    zeros = xorb.serialize([bytes(131072)])
    assert xorb.parse(zeros * 512).index.raw_offsets[-1] == 64 * 1024 * 1024
    with pytest.raises(FormatError, match="more than 67108864 raw bytes"):
        xorb.parse(zeros * 513)


@pytest.mark.parametrize("size", [0, 131073])
def test_a_chunk_of_no_or_too_many_bytes_is_not_serialized(size: int) -> None:
    with pytest.raises(FormatError, match=f"chunk of {size} bytes"):
        xorb.serialize([bytes(size)])
