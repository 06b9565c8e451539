"""Values that the protocol's specification gives, and what hf-xet 1.8 was seen to send."""

from __future__ import annotations

import hashlib

from xethub_local.formats import hashing, shard
from xethub_local.formats.hashing import from_hex

HELLO = b"hello xet " * 3
HELLO_HASH = "ae7a399c5a8e949d23fa6356266dabb9ddb8236c9a6ed79cd639ead75409ab8e"
HELLO_XORB = bytes.fromhex("001e0000001e0000") + HELLO
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
