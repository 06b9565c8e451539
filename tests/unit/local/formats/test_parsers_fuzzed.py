"""Parsers that meet broken bytes: they read them or say ``FormatError``, in memory and time that the input bounds."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.known_answers import HELLO, HELLO_SHARD, hello_shard
from xethub_local.formats import FormatError, hashing, shard, xorb

KIB, MIB = 1024, 1024 * 1024
BOOKEND = b"\xff" * 32 + bytes(16)
HEADER = HELLO_SHARD[:48]

_SOURCE = random.Random(1)
XORB = (
    xorb.serialize([HELLO * 40, _SOURCE.randbytes(60)])
    + xorb.serialize([bytes(900), HELLO * 7], xorb.GROUPED_LZ4)
    + xorb.serialize([b"stored"], xorb.STORED)
)
XORB_BORDERS = xorb.parse(XORB).index.offsets


def many_files_shard() -> bytes:
    (file,), (listed,) = hello_shard().files, hello_shard().xorbs
    bare = shard.ShardFile(file.file_hash, file.segments * 3)
    checked = shard.ShardFile(file.file_hash, file.segments * 2, (file.range_hashes or ()) * 2, None)
    twice = shard.ShardXorb(listed.xorb_hash, listed.chunk_hashes * 2, listed.raw_lengths * 2)
    return shard.build(shard.Shard((file, bare, checked), (listed, twice)))


SHARD = many_files_shard()


def outcome(parse: Callable[[bytes], object], body: bytes) -> object:
    """Return what a parser makes of a body; any exception but ``FormatError`` passes through."""
    try:
        return parse(body)
    except FormatError as error:
        return str(error)


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail if more bytes than ``limit`` are allocated at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes were needed, {limit} are allowed"


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """A valid body after some overwriting, cutting out, repeating and cutting off."""
    broken = bytearray(body)
    for _ in range(draw(st.integers(1, 5))):
        position = draw(st.integers(0, len(broken)))
        kind = draw(st.sampled_from(["overwrite", "maximum", "remove", "repeat", "truncate"]))
        if kind == "overwrite":
            data = draw(st.binary(min_size=1, max_size=8))
            broken[position : position + len(data)] = data
        elif kind == "maximum":
            broken[position : position + 4] = b"\xff\xff\xff\xff"
        elif kind == "remove":
            del broken[position : position + draw(st.integers(1, 60))]
        elif kind == "repeat":
            broken[position:position] = broken[position : position + draw(st.integers(1, 100))]
        else:
            del broken[position:]
    return bytes(broken)


def feed(body: bytes, cuts: list[int]) -> xorb.Xorb:
    parser = xorb.Parser()
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    kept = b"".join([bytes(parser.feed(body[start:end])) for start, end in pairwise(edges)])
    parsed = parser.finish()
    assert kept == body[: parsed.index.offsets[-1]]
    return parsed


# -- xorbs


@settings(max_examples=examples(300))
@given(st.one_of(st.binary(max_size=400), mutated(XORB)), st.lists(st.integers(0, 2000), max_size=6))
def test_any_bytes_are_a_xorb_or_refused_in_whatever_pieces_they_arrive(body: bytes, cuts: list[int]) -> None:
    whole = outcome(xorb.parse, body)
    in_pieces = outcome(lambda body: feed(body, cuts), body)
    assert isinstance(whole, str) == isinstance(in_pieces, str)
    if isinstance(whole, xorb.Xorb):
        assert in_pieces == whole
        raw = list(xorb.decode(body))
        assert [len(chunk) for chunk in raw] == [
            whole.index.raw_length(number, number + 1) for number in range(whole.index.chunk_count)
        ]
        assert b"".join(map(hashing.chunk_hash, raw)) == whole.chunk_hashes


@pytest.mark.parametrize("length", range(len(XORB)))
def test_a_truncated_xorb_is_refused_unless_it_ends_with_a_chunk(length: int) -> None:
    found = outcome(xorb.parse, XORB[:length])
    if length in XORB_BORDERS[1:]:
        assert isinstance(found, xorb.Xorb)
        assert found.index.offsets == XORB_BORDERS[: XORB_BORDERS.index(length) + 1]
    else:
        assert isinstance(found, str)


def record(payload: bytes, raw_length: int, scheme: int) -> bytes:
    return struct.pack("<Q", len(payload) << 8 | scheme << 32 | raw_length << 40) + payload


BOMB = lz4.frame.compress(bytes(50 * MIB), block_size=lz4.frame.BLOCKSIZE_MAX4MB)
# Says that it holds 2**60 bytes: flags with a content size, the size, and the checksum of this header.
LYING_FRAME = lz4.frame.compress(b"abcd", store_size=True)
LYING_FRAME = LYING_FRAME[:6] + struct.pack("<Q", 1 << 60) + LYING_FRAME[14:]


@pytest.mark.parametrize("scheme", [xorb.LZ4, xorb.GROUPED_LZ4])
@pytest.mark.parametrize("payload", [BOMB, BOMB[: len(BOMB) // 2], LYING_FRAME], ids=["bomb", "half", "lie"])
def test_a_decompression_bomb_takes_no_memory(payload: bytes, scheme: int) -> None:
    body = record(payload, 131072, scheme)
    assert len(payload) < 2 * xorb.MAX_CHUNK_BYTES, "otherwise its length alone is a reason to refuse it"
    with at_most(2 * MIB), pytest.raises(FormatError):
        xorb.parse(body)


def test_a_thousand_bombs_that_keep_to_the_limits_are_refused_at_64_mib() -> None:
    body = xorb.serialize([bytes(131072)]) * 4000  # 500 MiB of zeros in a few hundred KiB
    with at_most(4 * MIB), pytest.raises(FormatError, match="more than 67108864 raw bytes"):
        xorb.parse(body)


@pytest.mark.parametrize("field", [b"\xff\xff\xff\x00\x01\x00\x00", b"\x01\x00\x00\x00\xff\xff\xff"])
def test_a_chunk_that_claims_16_mib_allocates_nothing(field: bytes) -> None:
    with at_most(100 * KIB), pytest.raises(FormatError):
        xorb.parse(b"\x00" + field + b"x")


# -- shards


@settings(max_examples=examples(300))
@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(HEADER.__add__), mutated(SHARD)))
def test_any_bytes_are_a_shard_or_refused(body: bytes) -> None:
    found = outcome(shard.parse, body)
    if isinstance(found, shard.Shard):
        assert shard.parse(shard.build(found)) == found


@pytest.mark.parametrize("length", range(0, len(SHARD), 24))
def test_a_shard_cut_off_at_and_between_records_is_refused(length: int) -> None:
    with pytest.raises(FormatError):
        shard.parse(SHARD[:length])


@pytest.mark.parametrize("count", [2**16, 2**31, 2**32 - 1])
@pytest.mark.parametrize("flags", [0, 0x80000000, 0xC0000000])
def test_a_file_that_claims_many_segments_allocates_nothing(count: int, flags: int) -> None:
    body = HEADER + struct.pack("<32s4I", bytes(32), flags, count, 0, 0) + SHARD[96:]
    with at_most(200 * KIB), pytest.raises(FormatError, match="inside its segments"):
        shard.parse(body)


@pytest.mark.parametrize("count", [0, 8193, 2**31, 2**32 - 1])
def test_a_xorb_that_claims_many_chunks_allocates_nothing(count: int) -> None:
    body = HEADER + BOOKEND + struct.pack("<32s4I", bytes(32), 0, count, 0, 0) + bytes(480)
    with at_most(200 * KIB), pytest.raises(FormatError, match="inside its chunks" if count else "0 chunks"):
        shard.parse(body)


@pytest.mark.parametrize(
    "records",
    [
        [struct.pack("<32s4I", bytes(32), 0, 0, 0, 0)] * 20_000,
        [struct.pack("<32s4I", bytes(32), 0, 19_999, 0, 0), *[HELLO_SHARD[96:144]] * 19_999],
        [struct.pack("<32s4I", bytes(32), 1 << 30, 0, 0, 0), HELLO_SHARD[192:240]] * 10_000,
    ],
    ids=["files of nothing", "one file of many segments", "empty files with sha256"],
)
def test_a_shard_takes_a_few_times_its_length_in_memory(records: list[bytes]) -> None:
    body = HEADER + b"".join(records) + BOOKEND * 2
    with at_most(8 * len(body)):
        parsed = shard.parse(body)
    assert parsed.files
