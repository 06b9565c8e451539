"""A content store of its own for a test, and a file as a client would upload it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from xethub_local.formats import hashing, shard, xorb
from xethub_local.formats.hashing import to_hex

HERE, THERE = "datasets/acme/corpus", "models/acme/other"
MIB = 1024 * 1024


class Upload:
    """A file as a client would upload it: one xorb, one shard."""

    def __init__(self, chunks: list[bytes], scheme: xorb.Scheme = xorb.LZ4) -> None:
        self.raw = b"".join(chunks)
        self.body = xorb.serialize(chunks, scheme)
        self.parsed = xorb.parse(self.body)
        self.xorb_hash = to_hex(self.parsed.xorb_hash)
        sizes = [len(chunk) for chunk in chunks]
        leaves = list(zip(xorb.split_hashes(self.parsed.chunk_hashes), sizes, strict=True))
        self.file = shard.ShardFile(
            hashing.file_hash(leaves),
            (shard.Segment(self.parsed.xorb_hash, 0, len(chunks), len(self.raw)),),
            (hashing.range_hash(self.parsed.chunk_hashes),),
            hashlib.sha256(self.raw).hexdigest(),
        )
        self.listed = shard.ShardXorb(self.parsed.xorb_hash, self.parsed.chunk_hashes, tuple(sizes))
        self.xet_hash = to_hex(self.file.file_hash)

    def shard(self, **changes: Any) -> bytes:
        return shard.build(shard.Shard((replace(self.file, **changes),), (self.listed,)))
