"""What comes into the content store is checked completely, and who may read it is kept."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from support.stored_content import (
    HERE,
    THERE,
    Upload,
)
from xethub_local.content.store import (
    EMPTY_FILE,
    ContentStore,
    StoredFile,
    UnknownFileError,
)
from xethub_local.formats import FormatError, shard, xorb
from xethub_local.formats.hashing import to_hex
from xethub_local.store.database import Database


def stored_xorbs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "xorbs").rglob("*") if path.is_file())


# -- xorbs


def test_a_xorb_is_stored_once_and_unchanged(content: ContentStore, tmp_path: Path, upload: Upload) -> None:
    assert content.xorbs.add(upload.xorb_hash, upload.body) is True
    assert content.xorbs.add(upload.xorb_hash, upload.body) is False
    assert content.xorbs.path(upload.xorb_hash).read_bytes() == upload.body
    assert stored_xorbs(tmp_path) == [upload.xorb_hash]


def test_the_first_bytes_of_a_xorb_win(content: ContentStore) -> None:
    chunks = [b"the same text " * 100] * 3
    packed, plain = Upload(chunks, xorb.LZ4), Upload(chunks, xorb.STORED)
    assert packed.xorb_hash == plain.xorb_hash
    assert packed.body != plain.body
    content.xorbs.add(packed.xorb_hash, packed.body)
    assert content.xorbs.add(plain.xorb_hash, plain.body) is False
    content.add_shard(plain.shard(), repository=HERE)
    assert content.xorbs.path(packed.xorb_hash).read_bytes() == packed.body
    assert b"".join(content.read_file(plain.xet_hash)) == plain.raw


def test_concurrent_uploads_of_one_xorb_in_different_bytes(content: ContentStore) -> None:
    for round_number in range(10):
        chunks = [f"round {round_number} chunk {number} ".encode() * 50 for number in range(20)]
        uploads = [Upload(chunks, scheme) for scheme in (xorb.STORED, xorb.LZ4, xorb.GROUPED_LZ4)]
        inserted: list[bool] = []
        barrier = threading.Barrier(len(uploads))

        def add(one: Upload, barrier: threading.Barrier = barrier, inserted: list[bool] = inserted) -> None:
            barrier.wait()
            inserted.append(content.xorbs.add(one.xorb_hash, one.body))

        threads = [threading.Thread(target=add, args=(one,)) for one in uploads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(inserted) == [False, False, True]
        content.add_shard(uploads[0].shard(), repository=HERE)
        assert b"".join(content.read_file(uploads[0].xet_hash)) == uploads[0].raw


def test_a_corrupt_xorb_is_refused_and_nothing_is_stored(content: ContentStore, tmp_path: Path, upload: Upload) -> None:
    broken = bytearray(upload.body)
    broken[20] ^= 1
    with pytest.raises(FormatError, match=f"Xorb {upload.xorb_hash} is refused: the hash of its chunks is "):
        content.xorbs.add(upload.xorb_hash, broken)
    with pytest.raises(FormatError, match=f"Xorb {upload.xorb_hash} is refused: Chunk 2: its payload is truncated"):
        content.xorbs.add(upload.xorb_hash, upload.body[:-1])
    assert not content.xorbs.has(upload.xorb_hash)
    assert stored_xorbs(tmp_path) == []


def test_a_name_that_is_no_hash_touches_no_file(content: ContentStore, upload: Upload) -> None:
    with pytest.raises(FormatError, match="is not a hash"):
        content.xorbs.add("../" * 20 + "etc/passwd", upload.body)
    with pytest.raises(FormatError, match="is not a hash"):
        content.xorbs.path("..")


def test_a_footer_is_neither_kept_nor_served(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body + b"XETBLOB\x01" + bytes(200))
    assert content.xorbs.path(upload.xorb_hash).read_bytes() == upload.body


def test_a_xorb_file_without_a_record_is_replaced(content: ContentStore, upload: Upload) -> None:
    # What a crash between renaming and recording leaves behind.
    path = content.xorbs.path(upload.xorb_hash)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    assert not content.xorbs.has(upload.xorb_hash)
    assert content.xorbs.add(upload.xorb_hash, upload.body) is True
    assert path.read_bytes() == upload.body


def test_leftovers_of_a_killed_process_go_and_fresh_ones_stay(tmp_path: Path, db: Database) -> None:
    incoming = tmp_path / "xorbs" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "old").write_bytes(b"x")
    (incoming / "fresh").write_bytes(b"x")
    os.utime(incoming / "old", (time.time() - 7200,) * 2)
    ContentStore(tmp_path, db)
    assert stored_xorbs(tmp_path) == ["fresh"]


_ADD_FOR_EVER = """
import os, sys
from pathlib import Path
from xethub_local.content.store import ContentStore
from xethub_local.store.database import Database
folder = Path(sys.argv[1])
content = ContentStore(folder, Database(folder))
while True:
    print(content.add_plain(os.urandom(300_000), repository="datasets/acme/corpus").xet_hash, flush=True)
"""


def test_a_killed_process_leaves_only_whole_files(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _ADD_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    promised = [process.stdout.readline().strip() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    promised += process.stdout.read().split()
    process.wait()
    process.stdout.close()

    reopened = Database(tmp_path)
    store = ContentStore(tmp_path, reopened)
    with reopened.read() as connection:
        recorded = [row["hash"] for row in connection.execute("SELECT hash FROM cas_xorb")]
    assert len(recorded) >= 20
    for name in recorded:
        assert to_hex(xorb.parse(store.xorbs.path(name).read_bytes()).xorb_hash) == name
    for xet_hash in promised:
        file = store.file(xet_hash)
        assert file is not None
        assert hashlib.sha256(b"".join(store.read_file(xet_hash))).hexdigest() == file.sha256
        assert store.is_readable(HERE, xet_hash)
    reopened.close()


# -- shards


def test_a_shard_registers_its_file(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    progress: list[tuple[int, int]] = []
    receipt = content.add_shard(
        upload.shard(), repository=HERE, on_progress=lambda done, total: progress.append((done, total))
    )
    expected = StoredFile(upload.xet_hash, len(upload.raw), hashlib.sha256(upload.raw).hexdigest())
    assert receipt.files == (expected,)
    assert receipt.is_new is True
    assert progress == [(1, 1)]
    assert content.file(upload.xet_hash) == expected
    assert content.file_by_sha256(expected.sha256 or "") == expected
    assert b"".join(content.read_file(upload.xet_hash)) == upload.raw
    assert content.add_shard(upload.shard(), repository=HERE).is_new is False


def test_a_shard_may_refer_to_a_xorb_that_it_does_not_list(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    content.add_shard(shard.build(shard.Shard((upload.file,), ())), repository=HERE)
    assert b"".join(content.read_file(upload.xet_hash)) == upload.raw


def test_a_file_without_sha256_gets_it_from_a_later_shard(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    content.add_shard(upload.shard(sha256=None), repository="buckets/acme/bin")
    assert content.file(upload.xet_hash) == StoredFile(upload.xet_hash, len(upload.raw), None)
    content.add_shard(upload.shard(), repository=HERE)
    content.add_shard(upload.shard(sha256=None), repository=THERE)
    stored = content.file(upload.xet_hash)
    assert stored is not None
    assert stored.sha256 == hashlib.sha256(upload.raw).hexdigest()


def test_a_shard_with_an_unknown_xorb_is_refused(content: ContentStore, upload: Upload) -> None:
    with pytest.raises(FormatError, match=f"Xorb {upload.xorb_hash} is listed in the shard, but not stored here"):
        content.add_shard(upload.shard(), repository=HERE)
    with pytest.raises(
        FormatError, match=f"File {upload.xet_hash}, segment 0: xorb {upload.xorb_hash} is not stored here"
    ):
        content.add_shard(shard.build(shard.Shard((upload.file,), ())), repository=HERE)
    assert content.file(upload.xet_hash) is None
    assert not content.is_readable(HERE, upload.xet_hash)


def test_what_a_shard_says_about_a_file_is_checked(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    (segment,) = upload.file.segments
    size = len(upload.raw)
    cases: list[tuple[dict[str, object], str]] = [
        ({"range_hashes": None}, "has no verification hashes"),
        ({"range_hashes": (bytes(32),)}, "segment 0: the verification hash does not match"),
        ({"file_hash": b"\x01" * 32}, f"the hash of its chunks is {upload.xet_hash}"),
        ({"file_hash": bytes(32)}, f"the hash of its chunks is {upload.xet_hash}"),
        ({"segments": (), "range_hashes": ()}, "the hash of its chunks is 0000"),
        ({"segments": (replace(segment, last=4),)}, f"chunks 0 to 4 of xorb {upload.xorb_hash}, which has only 3"),
        ({"segments": (replace(segment, raw_bytes=size - 1),)}, f"{size - 1} bytes, but chunks 0 to 3"),
        ({"segments": (replace(segment, first=1),)}, f"{size} bytes, but chunks 1 to 3"),
        ({"sha256": "ab" * 32}, f"gives the sha256 {'ab' * 32}, but its bytes have {upload.file.sha256}"),
    ]
    for changes, reason in cases:
        with pytest.raises(FormatError, match=reason):
            content.add_shard(upload.shard(**changes), repository=HERE)
        assert content.file(upload.xet_hash) is None, changes


def test_what_a_shard_says_about_a_xorb_is_checked(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    wrong_hash = replace(upload.listed, chunk_hashes=bytes(32) + upload.listed.chunk_hashes[32:])
    first, second, third = upload.listed.raw_lengths
    wrong_lengths = replace(upload.listed, raw_lengths=(first - 1, second + 1, third))
    for listed in (wrong_hash, wrong_lengths):
        with pytest.raises(FormatError, match=f"Xorb {upload.xorb_hash} does not have the chunks that the shard lists"):
            content.add_shard(shard.build(shard.Shard((upload.file,), (listed,))), repository=HERE)


def test_a_wrong_sha256_for_a_known_file_is_refused(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    content.add_shard(upload.shard(), repository=HERE)
    with pytest.raises(FormatError, match="its bytes have"):
        content.add_shard(upload.shard(sha256="ab" * 32), repository=THERE)
    assert not content.is_readable(THERE, upload.xet_hash)
    assert content.file_by_sha256("ab" * 32) is None


def test_a_shard_is_registered_whole_or_not_at_all(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    bad = replace(upload.file, sha256="ab" * 32)
    with pytest.raises(FormatError):
        content.add_shard(shard.build(shard.Shard((upload.file, bad), ())), repository=HERE)
    assert content.file(upload.xet_hash) is None


def test_the_empty_file_always_exists(content: ContentStore) -> None:
    assert content.file("0" * 64) == EMPTY_FILE
    assert content.file_by_sha256(hashlib.sha256().hexdigest(), repository=HERE) == EMPTY_FILE
    assert content.is_readable(THERE, "0" * 64)
    assert list(content.read_file("0" * 64)) == []
    content.grant(HERE, "0" * 64)
    empty = shard.ShardFile(bytes(32), (), (), EMPTY_FILE.sha256)
    assert content.add_shard(shard.build(shard.Shard((empty,), ())), repository=HERE).files == (EMPTY_FILE,)
    with pytest.raises(FormatError, match="its bytes have e3b0c442"):
        content.add_shard(shard.build(shard.Shard((replace(empty, sha256="ab" * 32),), ())), repository=HERE)


# -- who may read


def test_a_file_is_readable_where_it_was_uploaded_or_granted(content: ContentStore, upload: Upload) -> None:
    content.xorbs.add(upload.xorb_hash, upload.body)
    content.add_shard(upload.shard(), repository=HERE)
    sha256 = upload.file.sha256 or ""
    assert content.is_readable(HERE, upload.xet_hash)
    assert not content.is_readable(THERE, upload.xet_hash)
    assert content.file_by_sha256(sha256, repository=THERE) is None
    content.grant(THERE, upload.xet_hash)
    assert content.is_readable(THERE, upload.xet_hash)
    assert content.file_by_sha256(sha256, repository=THERE) == content.file(upload.xet_hash)


def test_permissions_follow_a_moved_repository_and_end_with_a_deleted_one(content: ContentStore) -> None:
    file = content.add_plain(b"some data", repository=HERE)
    content.move_repository(HERE, THERE)
    assert not content.is_readable(HERE, file.xet_hash)
    assert content.is_readable(THERE, file.xet_hash)
    content.forget_repository(THERE)
    assert not content.is_readable(THERE, file.xet_hash)


def test_what_is_not_stored_cannot_be_granted_or_read(content: ContentStore) -> None:
    for call in (
        lambda: content.grant(HERE, "1" * 64),
        lambda: content.reconstruct("1" * 64),
        lambda: content.read_file("1" * 64),
    ):
        with pytest.raises(UnknownFileError, match=f"File {'1' * 64} is not stored here"):
            call()
