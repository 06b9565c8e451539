"""A content store that checks what it receives, and keeps no bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.stored_content import HERE, Upload
from xethub_local.content.store import ContentStore, DiscardedFileError
from xethub_local.formats import FormatError
from xethub_local.store.database import Database


@pytest.fixture
def content(tmp_path: Path, db: Database) -> ContentStore:
    return ContentStore(tmp_path, db, discards=True)


def send(content: ContentStore, xorb_hash: str, body: bytes | bytearray) -> bool:
    """Upload a xorb as a client does."""
    with content.xorbs.begin_upload(xorb_hash) as incoming:
        incoming.write([body])
        return content.xorbs.store(incoming, incoming.finish())


def files_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "xorbs").rglob("*") if path.is_file()]


def test_a_file_is_registered_and_nothing_of_it_is_on_disk(content: ContentStore, tmp_path: Path, upload: Upload):
    assert send(content, upload.xorb_hash, upload.body) is True
    assert send(content, upload.xorb_hash, upload.body) is False
    content.add_shard(upload.shard(), repository=HERE)
    assert content.file_by_sha256(upload.file.sha256).size == len(upload.raw)
    assert files_in(tmp_path) == []
    with pytest.raises(DiscardedFileError, match="was checked and discarded"):
        content.read_file(upload.xet_hash)


def test_a_corrupt_xorb_is_refused(content: ContentStore, upload: Upload):
    broken = bytearray(upload.body)
    broken[20] ^= 1
    with pytest.raises(FormatError, match="the hash of its chunks is"):
        send(content, upload.xorb_hash, broken)
    assert not content.xorbs.has(upload.xorb_hash)


@pytest.mark.parametrize("changes", [{"file_hash": bytes(32 * [7])}, {"range_hashes": (bytes(32),)}])
def test_a_shard_that_does_not_fit_its_xorbs_is_refused(content: ContentStore, upload: Upload, changes):
    send(content, upload.xorb_hash, upload.body)
    with pytest.raises(FormatError, match="hash"):
        content.add_shard(upload.shard(**changes), repository=HERE)


def test_a_shard_of_a_xorb_that_never_came_is_refused(content: ContentStore, upload: Upload):
    with pytest.raises(FormatError, match="not stored here"):
        content.add_shard(upload.shard(), repository=HERE)


def test_no_client_is_told_to_deduplicate_against_what_is_gone(content: ContentStore, upload: Upload):
    send(content, upload.xorb_hash, upload.body)
    content.add_shard(upload.shard(), repository=HERE)
    assert content.deduplication.find(upload.parsed.chunk_hashes[:32], HERE) is None


def test_what_a_commit_contains_itself_is_kept(content: ContentStore):
    stored = content.add_plain(b"# Title\n", repository=HERE)
    assert b"".join(content.read_file(stored.xet_hash)) == b"# Title\n"
