"""Known answers of the protocol, round trips, and parsers that meet broken bytes."""

from __future__ import annotations

import hashlib
import random
import struct
import tracemalloc
from itertools import accumulate

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xethub.local.formats import FormatError, hashing, reconstruction, shard, xorb
from airflow_provider_xethub.local.formats.byte_range import UnsatisfiableRangeError, content_range, parse_range
from airflow_provider_xethub.local.formats.hashing import from_hex, to_hex

HELLO = b"hello xet " * 3
HELLO_HASH = "ae7a399c5a8e949d23fa6356266dabb9ddb8236c9a6ed79cd639ead75409ab8e"
A, B, C, D = (
    from_hex(text)
    for text in (
        "cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6",
        "c3e67584b5c4fc2a89837ec39e40f2c8a6bb0b2987ac94cd4b31e5fbdd210a72",
        "0d2beb91b9196929a5ddec9f6e306924ddf4a24268e3e59fd8464738d525af37",
        "adf8773496a9b7319b2e50dc98093f344053b17d8ad37100b9c07d9805988784",
    )
)
# What hf-xet 1.8.0 sends for a 30-byte file: protocol reference, C.6.
HELLO_SHARD = bytes.fromhex(
    "48465265706f4d6574614461746100556967456a7b815783a5bdd95ccdd14aa9 02000000000000000000000000000000"
    "b94c5b7975e26cc7bfe6a670f728a614e289edc3f5b9a2eea06bb74a4747e7cf 000000c0010000000000000000000000"
    "9d948e5a9c397aaeb9ab6d265663fa239cd76e9a6c23b8dd8eab0954d7ea39d6 000000001e0000000000000001000000"
    "74610c1288f8a94bb6edf7f3aaa7b537da4487040acca47f1843e0731afd9fca 00000000000000000000000000000000"
    "7ec825b25ba9cf337cfc58d989518cdd75481863e3bd68391977e8e42dc80a50 00000000000000000000000000000000"
    + "ff" * 32
    + "00" * 16
    + "9d948e5a9c397aaeb9ab6d265663fa239cd76e9a6c23b8dd8eab0954d7ea39d6 00000000010000001e00000000000000"
    "9d948e5a9c397aaeb9ab6d265663fa239cd76e9a6c23b8dd8eab0954d7ea39d6 000000001e0000000000000000000000"
    + "ff" * 32
    + "00" * 16
)


def hello_shard() -> shard.Shard:
    chunk = from_hex(HELLO_HASH)
    file = shard.ShardFile(
        file_hash=hashing.file_hash([(chunk, 30)]),
        segments=(shard.Segment(chunk, 0, 1, 30),),
        range_hashes=(hashing.range_hash(chunk),),
        sha256=hashlib.sha256(HELLO).hexdigest(),
    )
    return shard.Shard((file,), (shard.ShardXorb(chunk, chunk, (30,)),))


# -- hashing


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            bytes.fromhex("16af3a84044b83d6be998a42e20399f2cc5650eaf99950639f50418aece7954e"),
            "d6834b04843aaf16f29903e2428a99be635099f9ea5056cc4e95e7ec8a41509f",
        ),
        (bytes(range(32)), "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"),
    ],
)
def test_hex_form_reverses_each_group_of_eight(raw: bytes, text: str) -> None:
    assert to_hex(raw) == text
    assert from_hex(text) == raw


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 63 + "\n", "../" * 21 + "x", "\uff10" * 64]
)
def test_what_is_not_a_hash_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is not a hash"):
        from_hex(text)


def test_a_raw_hash_of_another_length_is_refused() -> None:
    with pytest.raises(FormatError, match="this one has 31"):
        to_hex(bytes(31))


def test_hashes_of_one_chunk() -> None:
    chunk = hashing.chunk_hash(b"Hello World!")
    assert chunk.hex() == "a29cfb08e608d4d8726dd8659a90b9134b3240d5d8e42d5fcb28e2a6e763a3e8"
    assert to_hex(chunk) == "d8d408e608fb9ca213b9909a65d86d725f2de4d8d540324be8a363e7a6e228cb"
    assert to_hex(hashing.tree_root([(chunk, 12)])) == to_hex(chunk)
    assert (
        to_hex(hashing.file_hash([(chunk, 12)])) == "a9dae0ad88b060bdd7e7c87abdcf95b132c95a0414b06d4f6beb68d287b87165"
    )
    assert to_hex(hashing.range_hash(chunk)) == "89cb63458e98cb4c75be6b50a5a7b7234b82f05d5348e6925fb71aaf5dc3862b"


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (b"", "e0f2cf784e7e5f10c34f84af150e9a5ff9664216debad915364d741049870f67"),
        (b"\x00", "df93298cdbf67cd507aed28d6290c0cf7f9aa0aa88dfa629cffcf98680659410"),
        (HELLO, HELLO_HASH),
    ],
)
def test_chunk_hash(chunk: bytes, expected: str) -> None:
    assert to_hex(hashing.chunk_hash(chunk)) == expected
    assert to_hex(hashing.chunk_hash(memoryview(chunk))) == expected


def test_hashes_of_the_thirty_byte_file() -> None:
    chunk = from_hex(HELLO_HASH)
    assert (
        to_hex(hashing.file_hash([(chunk, 30)])) == "c76ce275795b4cb914a628f770a6e6bfeea2b9f5c3ed89e2cfe747474ab76ba0"
    )
    assert to_hex(hashing.range_hash(chunk)) == "4ba9f888120c617437b5a7aaf3f7edb67fa4cc0a048744daca9ffd1a73e04318"


def test_twenty_chunks_of_one_byte() -> None:
    chunks = [(hashing.chunk_hash(bytes([value])), 1) for value in range(20)]
    assert to_hex(hashing.tree_root(chunks)) == "66fc37019f244e74e857c7a1fdf380598fbc16263e500d25eacaef7377ea7a1f"
    assert to_hex(hashing.file_hash(chunks)) == "2fd2f0a32402564fb45a5ba4845ef78445474a2033286de7e63d53f886234e4a"


def test_a_tree_node_and_a_range_of_two() -> None:
    first = from_hex("c28f58387a60d4aa200c311cda7c7f77f686614864f5869eadebf765d0a14a69")
    second = from_hex("6e4e3263e073ce2c0e78cc770c361e2778db3b054b98ab65e277fc084fa70f22")
    assert (
        to_hex(hashing.tree_root([(first, 100), (second, 200)]))
        == "be64c7003ccd3cf4357364750e04c9592b3c36705dee76a71590c011766b6c14"
    )
    assert (
        to_hex(hashing.range_hash(first + second)) == "eb06a8ad81d588ac05d1d9a079232d9c1e7d0b07232fa58091caa7bf333a2768"
    )


@pytest.mark.parametrize(
    ("chunks", "root", "file"),
    [
        (
            [(A, 100)],
            to_hex(A),
            "8e16257caa3fe079d484d872a8975264b2ff683b0d6db9028cc7c0f968a45661",
        ),
        (
            [(A, 100), (B, 200), (C, 300)],
            "71ec1275fca074724e2dd666921b3277c7cee603e4d025bcab2d4050015be2bc",
            "54e55dccc6653c612bdb5576c5d3cb34bb31bc4e100248abccf4c908b3ef7715",
        ),
        (
            [(A, 100)] * 4,
            "89f2ada89ff8c96763c6b25010e6dd76a4c05b1466207633ea559acf2093211b",
            "2cdba690d0e09563596e0cda626d43eb4c96ef1e994fe72d9b2f5a83cfcd36dd",
        ),
        (
            [(A, 100), (B, 200), (A, 100), (B, 200), (C, 300), (D, 400)],
            "52c826f99507aa05d0b45e9837fa1709e0485425cfbcb1e80db3905cf98b3ee9",
            "91d21684db364c8883ab8209fa5eb2e781cf07f37e1fa43e731c30839afe422f",
        ),
        (
            [(bytes(32), 0)],
            "0" * 64,
            "638a6bc391964a85939d48f008e8bdbae6a7975e7ca2d87a3ce2492f4e4d8a4c",
        ),
        ([], "0" * 64, "0" * 64),
    ],
)
def test_root_and_file_hash(chunks: list[tuple[bytes, int]], root: str, file: str) -> None:
    assert to_hex(hashing.tree_root(chunks)) == root
    assert to_hex(hashing.file_hash(chunks)) == file


# -- xorbs


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


@settings(deadline=None)
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
        (b"\x00\x01", "header is cut off"),
        (record(b"abc", 3)[:-1], "payload is cut off"),
        (record(b"abc", 3, version=1), "version 1 is not known"),
        (record(b"abc", 3, scheme=3), "scheme 3 is not known"),
        (record(b"", 0), "raw length 0 is not within"),
        (record(b"abc", 131073), "raw length 131073 is not within"),
        (record(b"abc", 4), "are not 4 as its header says"),
        (record(bytes(262145), 1), "payload of 262145 bytes is too long"),
        (record(b"not a frame at all", 4, xorb.LZ4), "LZ4 frame is broken"),
        (record(lz4.frame.compress(b"abcd")[:-6], 4, xorb.LZ4), "LZ4 frame is cut off"),
        (record(lz4.frame.compress(b"abcd") + b"x", 4, xorb.LZ4), "follow its LZ4 frame"),
        (record(lz4.frame.compress(b"abc"), 4, xorb.LZ4), "are not 4 as its header says"),
        (record(lz4.frame.compress(bytes(50_000_000)), 131072, xorb.LZ4), "are not 131072 as its header says"),
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


def test_a_xorb_has_at_most_8192_chunks() -> None:
    assert xorb.parse(record(b"x", 1) * 8192).index.chunk_count == 8192
    with pytest.raises(FormatError, match="more than 8192 chunks"):
        xorb.parse(record(b"x", 1) * 8193)


def test_a_xorb_has_at_most_64_mib_of_raw_bytes() -> None:
    zeros = xorb.serialize([bytes(131072)])
    assert xorb.parse(zeros * 512).index.raw_offsets[-1] == 64 * 1024 * 1024
    with pytest.raises(FormatError, match="more than 67108864 raw bytes"):
        xorb.parse(zeros * 513)


@pytest.mark.parametrize("size", [0, 131073])
def test_a_chunk_of_no_or_too_many_bytes_is_not_serialized(size: int) -> None:
    with pytest.raises(FormatError, match=f"chunk of {size} bytes"):
        xorb.serialize([bytes(size)])


damage = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6)


def damaged(body: bytes, changes: list[tuple[int, int]], length: int) -> bytes:
    broken = bytearray(body)
    for position, value in changes:
        broken[position % len(broken)] = value
    return bytes(broken[: length % (len(broken) + 1)])


@settings(max_examples=400, deadline=None)
@given(damage, st.integers(0, 10_000))
def test_a_damaged_xorb_parses_or_is_refused(changes: list[tuple[int, int]], length: int) -> None:
    source = random.Random(1)
    body = xorb.serialize([HELLO * 40, source.randbytes(60)]) + xorb.serialize([bytes(900)], xorb.GROUPED_LZ4)
    try:
        parsed = xorb.parse(damaged(body, changes, length))
    except FormatError:
        return
    assert parsed.index.chunk_count >= 1


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_parse_as_a_xorb_or_are_refused(body: bytes) -> None:
    try:
        parsed = xorb.parse(body)
    except FormatError:
        return
    assert parsed.index.offsets[-1] <= len(body)


# -- shards


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


@settings(deadline=None)
@given(st.lists(shard_files(), max_size=4), st.lists(shard_xorbs(), max_size=4))
def test_shard_round_trip(files: list[shard.ShardFile], xorbs: list[shard.ShardXorb]) -> None:
    value = shard.Shard(tuple(files), tuple(xorbs))
    assert shard.parse(shard.build(value)) == value


@settings(deadline=None)
@given(st.lists(segments(), max_size=8))
def test_segments_round_trip(pieces: list[shard.Segment]) -> None:
    assert list(shard.unpack_segments(shard.pack_segments(pieces))) == pieces


def changed(position: int, data: bytes) -> bytes:
    return HELLO_SHARD[:position] + data + HELLO_SHARD[position + len(data) :]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "has 0 bytes"),
        (changed(0, b"X"), "not begin with a shard's magic"),
        (changed(32, b"\x03"), "version 3 is not known"),
        (HELLO_SHARD[:48], "inside its file section"),
        (HELLO_SHARD[:100], "inside its segments of file c76ce275"),
        (HELLO_SHARD[:150], "inside its verification of file c76ce275"),
        (HELLO_SHARD[:200], "inside its metadata of file c76ce275"),
        (HELLO_SHARD[:290], "inside its xorb section"),
        (HELLO_SHARD[:340], "inside its chunks of xorb ae7a399c"),
        (HELLO_SHARD[:-1], "inside its xorb section"),
        (changed(84, b"\xff\xff\xff\xff"), "inside its segments of file c76ce275"),
        (changed(140, b"\x00"), "chunks 0 to 0 are not a range"),
        (changed(140, b"\x01\x20"), "chunks 0 to 8193 are not a range"),
        (changed(324, b"\x00"), "gives xorb ae7a399c.* 0 chunks"),
        (changed(324, b"\x01\x20"), "gives xorb ae7a399c.* 8193 chunks"),
        (changed(328, b"\x1f"), "31 raw bytes; its chunks have 30"),
        (changed(368, b"\x01"), "starts at 1; the one before ends at 0"),
    ],
)
def test_a_broken_shard_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        shard.parse(body)


@settings(max_examples=400, deadline=None)
@given(damage, st.integers(0, 10_000))
def test_a_damaged_shard_parses_or_is_refused(changes: list[tuple[int, int]], length: int) -> None:
    try:
        parsed = shard.parse(damaged(HELLO_SHARD, changes, length))
    except FormatError:
        return
    assert len(parsed.files) <= 8


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_records_parse_as_a_shard_or_are_refused(records: bytes) -> None:
    try:
        shard.parse(HELLO_SHARD[:48] + records)
    except FormatError:
        return
    assert records.count(b"\xff" * 32) >= 2


# -- reconstructions


@st.composite
def files_and_ranges(
    draw: st.DrawFn,
) -> tuple[dict[bytes, tuple[list[bytes], bytes]], list[shard.Segment], int, int]:
    """Xorbs, a file made of pieces of them, and a range within it."""
    source = random.Random(draw(st.integers(0, 2**32)))
    stored: dict[bytes, tuple[list[bytes], bytes]] = {}
    for _ in range(draw(st.integers(1, 3))):
        chunks = [source.randbytes(source.randint(1, 40)) for _ in range(source.randint(1, 9))]
        body = xorb.serialize(chunks)
        stored[xorb.parse(body).xorb_hash] = (chunks, body)
    pieces = []
    for _ in range(draw(st.integers(1, 6))):
        name = source.choice(list(stored))
        chunks, _ = stored[name]
        first = source.randrange(len(chunks))
        last = source.randint(first + 1, len(chunks))
        pieces.append(shard.Segment(name, first, last, sum(map(len, chunks[first:last]))))
    size = sum(piece.raw_bytes for piece in pieces)
    start = draw(st.integers(0, size - 1))
    return stored, pieces, start, draw(st.integers(start + 1, size))


@settings(max_examples=300, deadline=None)
@given(files_and_ranges())
def test_a_client_following_the_plan_gets_the_range(
    given_file: tuple[dict[bytes, tuple[list[bytes], bytes]], list[shard.Segment], int, int],
) -> None:
    stored, pieces, start, end = given_file
    whole = b"".join(b"".join(stored[p.xorb_hash][0][p.first : p.last]) for p in pieces)
    plan = reconstruction.plan(pieces, lambda name: xorb.parse(stored[name][1]).index, start, end)
    body = reconstruction.to_json_v2(plan, lambda name, fetch: f"/{name}?{fetch.start}-{fetch.end}")

    urls = [entry["url"] for entries in body["xorbs"].values() for entry in entries]
    assert len(urls) == len(set(urls))
    raw = b""
    for term in body["terms"]:
        first, last = term["range"]["start"], term["range"]["end"]
        (fetched,) = [
            (piece["chunks"], piece["bytes"])
            for entry in body["xorbs"][term["hash"]]
            for piece in entry["ranges"]
            if piece["chunks"]["start"] <= first and last <= piece["chunks"]["end"]
        ]
        chunk_range, byte_range = fetched
        serialized = stored[from_hex(term["hash"])][1][byte_range["start"] : byte_range["end"] + 1]
        decoded = list(xorb.decode(serialized))
        assert len(decoded) == chunk_range["end"] - chunk_range["start"]
        part = b"".join(decoded[first - chunk_range["start"] : last - chunk_range["start"]])
        assert len(part) == term["unpacked_length"]
        raw += part
    skip = body["offset_into_first_range"]
    assert raw[skip : skip + end - start] == whole[start:end]
    assert plan.length == end - start
    # Trimmed: the first and the last chunk both hold bytes of the range.
    first_term, last_term = plan.terms[0], plan.terms[-1]
    assert skip < len(stored[first_term.xorb_hash][0][first_term.first])
    beyond = len(raw) - skip - (end - start)
    assert beyond < len(stored[last_term.xorb_hash][0][last_term.last - 1])


def test_both_versions_of_the_reconstruction_of_two_touching_terms() -> None:
    chunks = [b"a" * 10, b"b" * 20, b"c" * 30, b"d" * 40]
    parsed = xorb.parse(xorb.serialize(chunks, xorb.STORED))
    name = to_hex(parsed.xorb_hash)
    pieces = [shard.Segment(parsed.xorb_hash, 3, 4, 40), shard.Segment(parsed.xorb_hash, 0, 3, 60)]
    plan = reconstruction.plan(pieces, lambda _: parsed.index, 35, 75)
    terms = [
        {"hash": name, "unpacked_length": 40, "range": {"start": 3, "end": 4}},
        {"hash": name, "unpacked_length": 60, "range": {"start": 0, "end": 3}},
    ]
    assert reconstruction.to_json_v2(plan, lambda _, fetch: f"u{fetch.first}") == {
        "offset_into_first_range": 35,
        "terms": terms,
        "xorbs": {
            name: [{"url": "u0", "ranges": [{"chunks": {"start": 0, "end": 4}, "bytes": {"start": 0, "end": 131}}]}]
        },
    }
    assert reconstruction.to_json_v1(plan, lambda _, fetch: f"u{fetch.first}") == {
        "offset_into_first_range": 35,
        "terms": terms,
        "fetch_info": {name: [{"range": {"start": 0, "end": 4}, "url": "u0", "url_range": {"start": 0, "end": 131}}]},
    }


def test_the_plan_of_no_bytes_is_empty() -> None:
    plan = reconstruction.plan([], lambda _: pytest.fail("no xorb is needed"), 0, 0)
    assert plan == reconstruction.Reconstruction((), 0, 0, {})


# -- byte ranges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=5-5", (5, 6)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-999999", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-999", (0, 100)),
        ("Bytes = 1 - 2", (1, 3)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=9-3", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0-" + "9" * 40, None),
    ],
)
def test_range_header(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=0-0", 0), ("bytes=-0", 9)]
)
def test_a_range_behind_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError) as caught:
        parse_range(header, size)
    assert caught.value.content_range == f"bytes */{size}"


def test_content_range_includes_its_last_byte() -> None:
    assert content_range(0, 10, 100) == "bytes 0-9/100"
