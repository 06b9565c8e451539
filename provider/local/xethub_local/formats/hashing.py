"""Hashes of chunks, xorbs, files and chunk ranges.

Here a hash is 32 raw bytes. On the wire, in URLs and JSON, it has a hex form of its own: the bytes in each group of
eight are reversed, because the hash is printed as four little-endian 64-bit numbers.

Source: the Xet protocol's hashing page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from struct import Struct

from blake3 import blake3

from xethub_local.formats import FormatError

HASH_LENGTH = 32
ZERO_HASH = bytes(HASH_LENGTH)
HASH_HEX = re.compile(r"[0-9a-f]{64}")
"""The hex form of a hash; a sha256 in hex looks the same."""

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_KEY = ZERO_HASH


_FOUR_NUMBERS = Struct("<4Q")
_HEX_FORM = "{:016x}{:016x}{:016x}{:016x}".format
_MIN_GROUP = 3
_MAX_GROUP = 9
# The byte with the low bits of a hash's last number: a child with "number % 4 == 0" ends its group.
_CUT_BYTE = 24
_CUT_MASK = 0b11
# A chunk whose last number is divisible by 1024 is worth a deduplication query.
_QUERY_MODULUS = 1024
_LAST_NUMBER = slice(24, 32)

SizedHash = tuple[bytes, int]
"""A hash and the number of raw bytes that it covers."""


def to_hex(raw: bytes) -> str:
    """Return the hex form of a hash, 64 characters.

    :raises FormatError: it is not 32 bytes.
    """
    if len(raw) != HASH_LENGTH:
        raise FormatError(f"A hash has {HASH_LENGTH} bytes, but this one has {len(raw)}.")
    return _HEX_FORM(*_FOUR_NUMBERS.unpack(raw))


def from_hex(text: str) -> bytes:
    """Return the 32 raw bytes of a hex form.

    :raises FormatError: it is not 64 lower-case hex digits.
    """
    if not HASH_HEX.fullmatch(text):
        raise FormatError(f"{text[:80]!r} is not a hash: expected 64 lower-case hex digits.")
    return _FOUR_NUMBERS.pack(*(int(text[start : start + 16], 16) for start in range(0, 64, 16)))


def chunk_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Return the hash of one chunk's raw bytes."""
    return blake3(data, key=_CHUNK_KEY).digest()


def tree_root(leaves: Iterable[SizedHash]) -> bytes:
    """Return the root hash over chunks in order: 32 zero bytes for none, the hash itself for one.

    Over the chunks of a xorb, this is the xorb hash.
    """
    level = list(leaves)
    if not level:
        return ZERO_HASH
    while len(level) > 1:
        parents = []
        start = 0
        while start < len(level):
            end = _group_end(level, start)
            parents.append(_parent(level[start:end]))
            start = end
        level = parents
    return level[0][0]


def file_hash(chunks: Iterable[SizedHash]) -> bytes:
    """Return the Xet hash of the file made of these chunks in order; 32 zero bytes for the empty file."""
    leaves = list(chunks)
    return blake3(tree_root(leaves), key=_FILE_KEY).digest() if leaves else ZERO_HASH


def range_hash(chunk_hashes: bytes) -> bytes:
    """Return the verification hash of a chunk range, from its chunk hashes one after another."""
    return blake3(chunk_hashes, key=_RANGE_KEY).digest()


def is_query_eligible(chunk_hash: bytes) -> bool:
    """Return whether clients query this chunk at any position in a file; they always query a file's first chunk.

    Source: hf-xet 1.8 and ``@huggingface/hub`` 2.17, which both query about one chunk in 1024.
    """
    return int.from_bytes(chunk_hash[_LAST_NUMBER], "little") % _QUERY_MODULUS == 0


def keyed_hash(chunk_hash: bytes, key: bytes) -> bytes:
    """Return a chunk's hash as a deduplication response contains it.

    A client that has the chunk computes the same value; another cannot derive the chunk's hash from it.

    :param key: the 32 bytes in the footer of the response.
    """
    return blake3(chunk_hash, key=key).digest()


def _group_end(level: Sequence[SizedHash], start: int) -> int:
    rest = len(level) - start
    if rest < _MIN_GROUP:
        return len(level)
    last = start + min(_MAX_GROUP, rest)
    for index in range(start + _MIN_GROUP - 1, last):
        if not level[index][0][_CUT_BYTE] & _CUT_MASK:
            return index + 1
    return last


def _parent(children: Sequence[SizedHash]) -> SizedHash:
    numbers = _FOUR_NUMBERS.unpack
    text = "".join([f"{_HEX_FORM(*numbers(member))} : {size}\n" for member, size in children])
    return blake3(text.encode("ascii"), key=_NODE_KEY).digest(), sum([size for _, size in children])
