"""What goes out of the content store is what came in."""

from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path

import pytest

from support.stored_content import (
    HERE,
    MIB,
    THERE,
    Upload,
)
from xethub_local.content.store import (
    ContentStore,
    StoredFile,
)
from xethub_local.content.xorbs import XorbStore
from xethub_local.formats import FormatError, hashing, shard, xorb
from xethub_local.formats.byte_range import UnsatisfiableRangeError
from xethub_local.formats.hashing import to_hex
from xethub_local.store.database import Database

# -- reading


def test_every_range_of_a_file_of_many_pieces(content: ContentStore) -> None:
    source = random.Random(7)
    uploads = [Upload([source.randbytes(source.randint(1, 50)) for _ in range(6)]) for _ in range(3)]
    for one in uploads:
        content.xorbs.add(one.xorb_hash, one.body)
    pieces, hashes, leaves, raw = [], [], [], b""
    for one, first, last in [
        (uploads[0], 0, 3),
        (uploads[1], 2, 6),
        (uploads[0], 1, 6),
        (uploads[0], 1, 2),
        (uploads[2], 5, 6),
    ]:
        index = one.parsed.index
        pieces.append(shard.Segment(one.parsed.xorb_hash, first, last, index.raw_length(first, last)))
        part = one.parsed.chunk_hashes[first * 32 : last * 32]
        hashes.append(hashing.range_hash(part))
        lengths = [index.raw_length(number, number + 1) for number in range(first, last)]
        leaves += list(zip(xorb.split_hashes(part), lengths, strict=True))
        raw += one.raw[index.raw_offsets[first] : index.raw_offsets[last]]
    file = shard.ShardFile(hashing.file_hash(leaves), tuple(pieces), tuple(hashes), hashlib.sha256(raw).hexdigest())
    content.add_shard(shard.build(shard.Shard((file,), ())), repository=HERE)
    xet_hash = to_hex(file.file_hash)
    for _ in range(200):
        start = source.randrange(len(raw))
        end = source.randint(start + 1, len(raw))
        assert b"".join(content.read_file(xet_hash, start, end)) == raw[start:end]
    assert b"".join(content.read_file(xet_hash, 3, len(raw) + 999)) == raw[3:]


def test_a_range_behind_the_end_is_an_error(content: ContentStore) -> None:
    file = content.add_plain(b"some data")
    with pytest.raises(UnsatisfiableRangeError, match="has 9 bytes, and none at position 9") as caught:
        content.read_file(file.xet_hash, 9)
    assert caught.value.size == 9
    with pytest.raises(UnsatisfiableRangeError):
        content.reconstruct("0" * 64, 0, 1)


def test_a_truncated_file_on_disk_is_noticed(content: ContentStore) -> None:
    file = content.add_plain(os.urandom(200_000))
    (term,) = content.reconstruct(file.xet_hash).terms
    os.truncate(content.xorbs.path(to_hex(term.xorb_hash)), 150_000)
    with pytest.raises(FormatError, match="truncated"):
        list(content.read_file(file.xet_hash))


def test_compressible_content_is_read_in_small_pieces(tmp_path: Path, db: Database) -> None:
    chunks = [bytes(131072)] * 512
    body = xorb.serialize(chunks[:1]) * 512
    store = XorbStore(tmp_path, db)
    parsed = xorb.parse(body)
    store.add(to_hex(parsed.xorb_hash), body)
    sizes = [len(piece) for piece in store.read_chunks(parsed.xorb_hash, 0, 512)]
    assert sum(sizes) == 64 * MIB
    assert max(sizes) <= MIB


# -- plain bytes


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 16 * MIB + 5])
def test_plain_bytes_come_back(content: ContentStore, tmp_path: Path, size: int) -> None:
    raw = os.urandom(size)
    path = tmp_path / "plain.bin"
    path.write_bytes(raw)
    file = content.add_plain(raw, repository=HERE)
    assert file == StoredFile(file.xet_hash, size, hashlib.sha256(raw).hexdigest())
    assert b"".join(content.read_file(file.xet_hash)) == raw
    assert content.add_plain(path) == content.add_plain(io.BytesIO(raw)) == file
    assert content.is_readable(HERE, file.xet_hash)
    if size:
        assert not content.is_readable(THERE, file.xet_hash)


def test_everything_is_there_after_a_restart(tmp_path: Path, upload: Upload) -> None:
    first_db = Database(tmp_path)
    first = ContentStore(tmp_path, first_db)
    first.xorbs.add(upload.xorb_hash, upload.body)
    first.add_shard(upload.shard(), repository=HERE)
    first_db.close()
    reopened = Database(tmp_path)
    store = ContentStore(tmp_path, reopened)
    assert store.is_readable(HERE, upload.xet_hash)
    assert b"".join(store.read_file(upload.xet_hash)) == upload.raw
    reopened.close()
