"""Known answers of the protocol's hashes."""

from __future__ import annotations

import hashlib

import pytest
from awscrt.checksums import crc64nvme

from support.known_answers import HELLO, HELLO_HASH, HELLO_SHARD, HELLO_XORB
from xethub_local.formats import FormatError, hashing
from xethub_local.formats.hashing import from_hex, to_hex

A, B, C, D = (
    from_hex(text)
    for text in (
        "cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6",
        "c3e67584b5c4fc2a89837ec39e40f2c8a6bb0b2987ac94cd4b31e5fbdd210a72",
        "0d2beb91b9196929a5ddec9f6e306924ddf4a24268e3e59fd8464738d525af37",
        "adf8773496a9b7319b2e50dc98093f344053b17d8ad37100b9c07d9805988784",
    )
)


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


def test_the_thirty_byte_file_as_it_travels() -> None:
    sha256 = "33cfa95bb225c87edd8c5189d958fc7c3968bde363184875500ac82de4e87719"
    stored = "7ec825b25ba9cf337cfc58d989518cdd75481863e3bd68391977e8e42dc80a50"
    assert hashlib.sha256(HELLO).hexdigest() == sha256
    assert from_hex(sha256).hex() == stored
    assert bytes.fromhex(stored) in HELLO_SHARD
    assert crc64nvme(HELLO_XORB) == 2745546134392194802


def test_the_checksum_of_grants_has_the_published_check_value() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888


def test_a_deduplication_answer_shows_the_known_keyed_hash() -> None:
    keyed = hashing.keyed_hash(from_hex(HELLO_HASH), bytes(range(32)))
    assert to_hex(keyed) == "eda13d745bc529e639b62b2d73330b941d218fa337bef12e58eb1b28082534ee"


@pytest.mark.parametrize(
    ("last_number", "expected"), [(0, True), (1024, True), (1 << 63, True), (1, False), (512, False), (1025, False)]
)
def test_a_chunk_is_asked_for_when_its_last_number_is_divisible_by_1024(last_number: int, expected: bool) -> None:
    assert hashing.is_query_eligible(bytes(range(24)) + last_number.to_bytes(8, "little")) is expected
