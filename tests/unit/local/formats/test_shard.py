"""Shards: round trips, and what is refused."""

from __future__ import annotations

import hashlib
import struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from support.known_answers import HELLO_SHARD, hello_shard
from xethub_local.formats import FormatError, hashing, shard


def test_the_shard_of_the_thirty_byte_file_byte_for_byte() -> None:
    assert hashlib.sha256(HELLO_SHARD).hexdigest() == "a5bd16472376fda484fd8f9c51e21e656afc6bbf8d5317552ede9b23ff9df398"
    assert shard.parse(HELLO_SHARD) == hello_shard()
    assert shard.build(hello_shard()) == HELLO_SHARD


def test_what_follows_the_second_bookend_is_ignored() -> None:
    assert shard.parse(HELLO_SHARD + bytes(200)) == hello_shard()


hashes = st.binary(min_size=32, max_size=32).filter(lambda raw: raw != b"\xff" * 32)


@st.composite
def segments(draw: st.DrawFn) -> shard.Segment:
    first = draw(st.integers(0, 8191))
    last = draw(st.integers(first + 1, 8192))
    return shard.Segment(draw(hashes), first, last, draw(st.integers(0, 2**32 - 1)))


@st.composite
def shard_files(draw: st.DrawFn) -> shard.ShardFile:
    pieces = draw(st.lists(segments(), max_size=4))
    verification = draw(st.one_of(st.none(), st.just(tuple(draw(hashes) for _ in pieces))))
    sha256 = draw(st.one_of(st.none(), st.binary(min_size=32, max_size=32).map(bytes.hex)))
    return shard.ShardFile(draw(hashes), tuple(pieces), verification, sha256)


@st.composite
def shard_xorbs(draw: st.DrawFn) -> shard.ShardXorb:
    lengths = draw(st.lists(st.integers(1, 131072), min_size=1, max_size=5))
    return shard.ShardXorb(draw(hashes), b"".join(draw(hashes) for _ in lengths), tuple(lengths))


@given(st.lists(shard_files(), max_size=4), st.lists(shard_xorbs(), max_size=4))
def test_shard_round_trip(files: list[shard.ShardFile], xorbs: list[shard.ShardXorb]) -> None:
    value = shard.Shard(tuple(files), tuple(xorbs))
    assert shard.parse(shard.build(value)) == value


@given(st.lists(segments(), max_size=8))
def test_segments_round_trip(pieces: list[shard.Segment]) -> None:
    assert list(shard.unpack_segments(shard.pack_segments(pieces))) == pieces


def changed(position: int, data: bytes) -> bytes:
    return HELLO_SHARD[:position] + data + HELLO_SHARD[position + len(data) :]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "has 0 bytes"),
        (changed(0, b"X"), "not start with a shard's magic"),
        (changed(32, b"\x03"), "version 3 is unknown"),
        (HELLO_SHARD[:48], "inside its file section"),
        (HELLO_SHARD[:100], "inside its segments of file c76ce275"),
        (HELLO_SHARD[:150], "inside its verification of file c76ce275"),
        (HELLO_SHARD[:200], "inside its metadata of file c76ce275"),
        (HELLO_SHARD[:290], "inside its xorb section"),
        (HELLO_SHARD[:340], "inside its chunks of xorb ae7a399c"),
        (HELLO_SHARD[:-1], "inside its xorb section"),
        (changed(84, b"\xff\xff\xff\xff"), "inside its segments of file c76ce275"),
        (changed(140, b"\x00"), "chunks 0 to 0 are not a range"),
        (changed(324, b"\x00"), "lists 0 chunks for xorb ae7a399c"),
        (changed(324, b"\x01\x20"), "inside its chunks of xorb ae7a399c"),
        (changed(328, b"\x1f"), "31 raw bytes for xorb .*; its chunks have 30"),
        (changed(368, b"\x01"), "starts at 1; the previous one ends at 0"),
    ],
)
def test_a_broken_shard_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        shard.parse(body)


# -- answers to deduplication queries


def unpack_answer(body: bytes) -> dict[str, object]:
    """Read an answer by the table of the protocol's shard page, as @huggingface/hub does: the footer comes first."""
    magic, version, footer_size = struct.unpack_from("<32sQQ", body)
    assert magic == HELLO_SHARD[:32]
    assert (version, footer_size) == (2, 200)
    footer = len(body) - footer_size
    footer_version, files, xorbs, *tables = struct.unpack_from("<9Q", body, footer)
    created, expires = struct.unpack_from("<2Q", body, footer + 104)
    on_disk, materialized, stored, own_offset = struct.unpack_from("<4Q", body, footer + 168)
    assert footer_version == 1
    assert tables == [footer, 0, footer, 0, footer, 0]
    assert body[files : files + 48] == b"\xff" * 32 + bytes(16)
    assert body[footer + 120 : footer + 168] == bytes(48)
    assert own_offset == footer
    records = [struct.unpack_from("<32s4I", body, offset) for offset in range(xorbs, footer, 48)]
    assert records[-1] == (b"\xff" * 32, 0, 0, 0, 0)
    return {
        "records": records[:-1],
        "key": body[footer + 72 : footer + 104],
        "times": (created, expires),
        "sums": (on_disk, materialized, stored),
    }


def test_an_answer_byte_for_byte() -> None:
    first, second = hashing.chunk_hash(b"first"), hashing.chunk_hash(b"second")
    xorb_hash = hashing.tree_root([(first, 5), (second, 6)])
    key = bytes(range(32))
    listed = shard.ShardXorb(xorb_hash, first + second, (5, 6))
    one_chunk = shard.ShardXorb(first, first, (5,))
    xorbs = [shard.ResponseXorb(listed, 27, frozenset([second])), shard.ResponseXorb(one_chunk, 13, frozenset())]
    body = shard.build_response(xorbs, key, created=1000, expires=2000)
    assert len(body) == 48 * 8 + 200
    assert unpack_answer(body) == {
        "records": [
            (xorb_hash, 0, 2, 11, 27),
            (blake3(first, key=key).digest(), 0, 5, 0, 0),
            (blake3(second, key=key).digest(), 5, 6, 0x80000000, 0),
            (first, 0, 1, 5, 13),
            (blake3(first, key=key).digest(), 0, 5, 0, 0),
        ],
        "key": key,
        "times": (1000, 2000),
        "sums": (40, 0, 16),
    }


def test_an_answer_is_a_shard_and_shows_no_plain_chunk_hash() -> None:
    first, second = hashing.chunk_hash(b"first"), hashing.chunk_hash(b"second")
    listed = shard.ShardXorb(hashing.tree_root([(first, 5), (second, 6)]), first + second, (5, 6))
    body = shard.build_response([shard.ResponseXorb(listed, 27, frozenset())], b"k" * 32, created=1000, expires=2000)
    parsed = shard.parse(body)
    assert (parsed.files, [xorb.xorb_hash for xorb in parsed.xorbs]) == ((), [listed.xorb_hash])
    assert first not in body
    assert second not in body
