"""Deduplication across uploads, as the real transfer client asks for it."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import hf_xet
import pytest
import requests

from support.xet_client import MIB, bearer, download, session_with, upload
from xethub_local.content.store import ContentStore
from xethub_local.formats import hashing, shard, xorb
from xethub_local.formats.hashing import to_hex
from xethub_local.store.database import Database

if TYPE_CHECKING:
    from support.running_cas import RunningCas


def fresh_session(**settings: object) -> hf_xet.XetSession:
    """Return a client that remembers nothing of earlier uploads."""
    return session_with(shard__cache_subdir=f"cache-{secrets.token_hex(4)}", **settings)


def test_a_client_without_a_cache_uploads_nothing_that_is_stored(cas: RunningCas, tmp_path: Path) -> None:
    raw = os.urandom(20 * MIB)
    first = upload(fresh_session(), cas.operation(), raw)
    before = cas.count("POST", "/v1/xorb")
    session = fresh_session()
    again = upload(session, cas.operation(), raw)
    assert cas.count("POST", "/v1/xorb") == before
    assert again[0].hash == first[0].hash
    assert download(session, cas.operation("read"), tmp_path, *again) == [raw]


def only_first_chunks() -> hf_xet.XetSession:
    """Return a fresh client that asks for the first chunk of a file only."""
    return fresh_session(data__min_spacing_between_global_dedup_queries=1_000_000)


def new_bytes(session: hf_xet.XetSession, operation: dict[str, object], raw: bytes) -> int:
    """Upload a file and return how many of its bytes were not found in CAS."""
    with session.new_upload_commit(**operation) as commit:
        handle = commit.start_upload_bytes(raw, sha256=hf_xet.COMPUTE_SHA256)
    return int(handle.result().dedup_metrics.new_bytes)


def test_all_xorbs_of_a_file_are_found_by_its_first_chunk(cas: RunningCas) -> None:
    """As a file of hundreds of megabytes has them, uploaded at once."""
    raw = random.Random(73).randbytes(2 * MIB)
    (info,) = upload(only_first_chunks(), cas.operation(), raw)
    (term,) = cas.content.reconstruct(info.hash).terms
    chunks = list(map(bytes, xorb.decode(cas.content.xorbs.path(to_hex(term.xorb_hash)).read_bytes())))
    cas.content.forget_repository(cas.repository)
    xorbs = [stored_xorb(cas, *chunks[start : start + 8]) for start in range(0, len(chunks), 8)]
    assert len(xorbs) > 2
    cas.content.add_shard(shard.build(shard.Shard((file_of(*xorbs),), tuple(xorbs))), repository=cas.repository)
    assert new_bytes(only_first_chunks(), cas.operation(), raw) == 0
    assert new_bytes(only_first_chunks(), cas.operation(repository=cas.other_repository), raw) == 0


def test_xorbs_of_earlier_uploads_to_which_a_file_refers_are_found_with_it(cas: RunningCas) -> None:
    """A file that grows by uploads of its own, as a table does that gets rows every day."""
    raw, session = random.Random(74).randbytes(8 * MIB), only_first_chunks()
    for size in (3, 6, 8):
        assert new_bytes(session, cas.operation(), raw[: size * MIB]) > 0
    assert new_bytes(only_first_chunks(), cas.operation(), raw) == 0


def test_a_client_without_a_cache_uploads_only_what_is_new(cas: RunningCas, tmp_path: Path) -> None:
    old = os.urandom(10 * MIB)
    new = old + os.urandom(MIB)
    (old_info,) = upload(fresh_session(), cas.operation(), old)
    session = fresh_session()
    with session.new_upload_commit(**cas.operation()) as commit:
        handle = commit.start_upload_bytes(new, sha256=hf_xet.COMPUTE_SHA256)
    metrics = handle.result().dedup_metrics
    assert metrics.deduped_bytes_by_global_dedup > 0
    assert metrics.deduped_bytes > 10 * MIB - 128 * 1024
    assert metrics.new_bytes < MIB + 128 * 1024
    xorbs = [term.xorb_hash for term in cas.content.reconstruct(handle.result().xet_info.hash).terms]
    assert xorbs[0] == cas.content.reconstruct(old_info.hash).terms[0].xorb_hash
    assert len(xorbs) == 2
    assert download(session, cas.operation("read"), tmp_path, handle.result().xet_info) == [new]


def test_a_chunk_in_the_middle_is_found_by_its_hash(cas: RunningCas) -> None:
    """About one chunk in 1024 is asked for wherever it stands: here a file begins with new bytes."""
    old = random.Random(71).randbytes(4 * MIB)  # its third chunk is such a one
    (info,) = upload(fresh_session(), cas.operation(), old)
    assert hashing.is_query_eligible(chunk_hashes(cas, info)[2])
    session = fresh_session(data__min_spacing_between_global_dedup_queries=0)
    with session.new_upload_commit(**cas.operation()) as commit:
        handle = commit.start_upload_bytes(random.Random(72).randbytes(MIB) + old, sha256=hf_xet.COMPUTE_SHA256)
    metrics = handle.result().dedup_metrics
    assert metrics.deduped_bytes_by_global_dedup > 0
    assert metrics.new_bytes < MIB + 512 * 1024


def chunk_hashes(cas: RunningCas, info: hf_xet.XetFileInfo) -> list[bytes]:
    """Return the hashes of a file's chunks, from the bytes of its xorbs."""
    hashes = []
    for term in cas.content.reconstruct(info.hash).terms:
        parsed = xorb.parse(cas.content.xorbs.path(to_hex(term.xorb_hash)).read_bytes())
        hashes += xorb.split_hashes(parsed.chunk_hashes)[term.first : term.last]
    return hashes


def test_thousands_of_small_files_again_take_a_few_requests(cas: RunningCas, tmp_path: Path) -> None:
    contents = [os.urandom(2000) for _ in range(2000)]
    upload(fresh_session(), cas.operation(), *contents)
    before = len(cas.requests)
    session = fresh_session()
    infos = upload(session, cas.operation(), *contents)
    requests_made = [path for _, path, _ in cas.requests[before:]]
    assert not any("/v1/xorb" in path for path in requests_made)
    assert len(requests_made) < 100
    assert download(session, cas.operation("read"), tmp_path, *infos[::200]) == contents[::200]


def ask(cas: RunningCas, chunk_hash: bytes, repository: str) -> requests.Response:
    return requests.get(
        f"{cas.url}/v1/chunks/default/{to_hex(chunk_hash)}", headers=bearer(cas.token("write", repository)), timeout=10
    )


@pytest.fixture
def uploaded(cas: RunningCas) -> tuple[shard.ShardXorb, bytes]:
    """A xorb of three files of one chunk each, and the hash of one chunk."""
    contents = sorted((os.urandom(1000) for _ in range(3)), key=hashing.chunk_hash)
    infos = upload(fresh_session(), cas.operation(), *contents)
    (term,) = cas.content.reconstruct(infos[0].hash).terms
    parsed = xorb.parse(cas.content.xorbs.path(to_hex(term.xorb_hash)).read_bytes())
    return shard.ShardXorb(term.xorb_hash, parsed.chunk_hashes, (1000,) * 3), hashing.chunk_hash(contents[0])


def test_an_answer_lists_the_whole_xorb_with_keyed_hashes(
    cas: RunningCas, uploaded: tuple[shard.ShardXorb, bytes]
) -> None:
    stored, chunk_hash = uploaded
    answer = ask(cas, chunk_hash, cas.repository)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    (listed,) = shard.parse(answer.content).xorbs
    footer = answer.content[-200:]
    key, created, expires = footer[72:104], *(int.from_bytes(footer[i : i + 8], "little") for i in (104, 112))
    assert key != bytes(32)
    assert abs(created - time.time()) < 60
    assert expires == created + 7 * 24 * 3600
    keyed = [hashing.keyed_hash(plain, key) for plain in xorb.split_hashes(stored.chunk_hashes)]
    assert listed == shard.ShardXorb(stored.xorb_hash, b"".join(keyed), stored.raw_lengths)
    assert not any(plain in answer.content for plain in xorb.split_hashes(stored.chunk_hashes))
    # A client hashes every chunk with every key that it meets, so it had better be the same one.
    assert ask(cas, chunk_hash, cas.repository).content[-200:][72:104] == key


def test_an_answer_is_dated_by_the_clock_that_the_server_shows(
    cas: RunningCas, uploaded: tuple[shard.ShardXorb, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cas.access, "clock_offset", 3600.0)
    footer = ask(cas, uploaded[1], cas.repository).content[-200:]
    monkeypatch.setattr(cas.access, "clock_offset", 0.0)
    assert abs(int.from_bytes(footer[104:112], "little") - 3600 - time.time()) < 60


def test_what_was_never_uploaded_is_unknown(cas: RunningCas) -> None:
    answer = ask(cas, os.urandom(32), cas.repository)
    assert (answer.status_code, answer.content) == (404, b"")
    url = f"{cas.url}/v1/chunks/default/nohash"
    assert requests.get(url, headers=bearer(cas.token()), timeout=10).status_code == 400


def make_private(cas: RunningCas, is_private: bool) -> None:
    with cas.db.write() as connection:
        connection.execute("UPDATE hub_repository SET private = ? WHERE name = ?", (is_private, cas.repository))


def test_a_private_repository_keeps_its_xorbs_to_itself(
    cas: RunningCas, uploaded: tuple[shard.ShardXorb, bytes]
) -> None:
    _, chunk_hash = uploaded
    assert ask(cas, chunk_hash, cas.other_repository).status_code == 200
    make_private(cas, True)
    try:
        assert ask(cas, chunk_hash, cas.other_repository).status_code == 404
        assert ask(cas, chunk_hash, cas.repository).status_code == 200
    finally:
        make_private(cas, False)


def test_knowing_one_chunk_does_not_open_the_rest_of_a_private_xorb(
    cas: RunningCas, uploaded: tuple[shard.ShardXorb, bytes]
) -> None:
    """A shard that refers to the xorb proves knowledge of the chunks it names, and only of these."""
    stored, chunk_hash = uploaded
    position = xorb.split_hashes(stored.chunk_hashes).index(chunk_hash)
    file = shard.ShardFile(
        hashing.file_hash([(chunk_hash, 1000)]),
        (shard.Segment(stored.xorb_hash, position, position + 1, 1000),),
        (hashing.range_hash(chunk_hash),),
    )
    make_private(cas, True)
    try:
        cas.content.add_shard(shard.build(shard.Shard((file,), ())), repository=cas.other_repository)
        assert ask(cas, chunk_hash, cas.other_repository).status_code == 404
        # Who lists all of its chunks knows it all, whoever uploaded it first.
        cas.content.add_shard(shard.build(shard.Shard((file,), (stored,))), repository=cas.other_repository)
        assert ask(cas, chunk_hash, cas.other_repository).status_code == 200
    finally:
        make_private(cas, False)


def stored_xorb(cas: RunningCas, *contents: bytes) -> shard.ShardXorb:
    """Store a xorb whose chunks are these contents."""
    hashes = [hashing.chunk_hash(content) for content in contents]
    lengths = tuple(map(len, contents))
    xorb_hash = hashing.tree_root(list(zip(hashes, lengths, strict=True)))
    cas.content.xorbs.add(to_hex(xorb_hash), xorb.serialize(contents))
    return shard.ShardXorb(xorb_hash, b"".join(hashes), lengths)


def file_of(*xorbs: shard.ShardXorb) -> shard.ShardFile:
    """Return a file that is made of whole xorbs."""
    leaves = [
        (chunk_hash, length)
        for listed in xorbs
        for chunk_hash, length in zip(xorb.split_hashes(listed.chunk_hashes), listed.raw_lengths, strict=True)
    ]
    segments = tuple(shard.Segment(x.xorb_hash, 0, len(x.raw_lengths), sum(x.raw_lengths)) for x in xorbs)
    return shard.ShardFile(
        hashing.file_hash(leaves), segments, tuple(hashing.range_hash(x.chunk_hashes) for x in xorbs)
    )


def listed_for(cas: RunningCas, chunk: bytes, repository: str) -> list[bytes]:
    """Return the hashes of the xorbs that an answer lists."""
    answer = ask(cas, hashing.chunk_hash(chunk), repository)
    assert answer.status_code == 200
    return [listed.xorb_hash for listed in shard.parse(answer.content).xorbs]


def test_an_answer_lists_no_xorb_that_its_asker_may_not_know(cas: RunningCas) -> None:
    """A private repository lists two xorbs together. Another one knows the first, and may not learn of the second."""
    common, secret, own = (os.urandom(500) for _ in range(3))
    known, hidden, third = (stored_xorb(cas, content) for content in (common, secret, own))
    make_private(cas, True)
    try:
        add = cas.content.add_shard
        add(shard.build(shard.Shard((file_of(known, hidden),), (known, hidden))), repository=cas.repository)
        add(shard.build(shard.Shard((file_of(known, third),), (known, third))), repository=cas.other_repository)
        # It refers to a xorb that it never listed, which proves knowledge of the chunks that it names only.
        add(shard.build(shard.Shard((file_of(third, hidden),), ())), repository=cas.other_repository)
        assert set(listed_for(cas, common, cas.other_repository)) == {known.xorb_hash, third.xorb_hash}
        assert hidden.xorb_hash in listed_for(cas, common, cas.repository)
    finally:
        make_private(cas, False)
    assert hidden.xorb_hash in listed_for(cas, common, cas.other_repository)


def test_an_answer_is_bounded_and_begins_where_the_chunk_is(cas: RunningCas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xethub_local.content.deduplication.MAX_RESPONSE_CHUNKS", 5)
    contents = [[os.urandom(100), os.urandom(100)] for _ in range(6)]
    xorbs = [stored_xorb(cas, *chunks) for chunks in contents]
    # The first chunks of files may be asked for: so one file for each xorb, beside the one of all of them.
    files = (file_of(*xorbs), *(file_of(listed) for listed in xorbs))
    cas.content.add_shard(shard.build(shard.Shard(files, tuple(xorbs))), repository=cas.repository)
    names = [listed.xorb_hash for listed in xorbs]
    assert listed_for(cas, contents[0][0], cas.repository) == names[:2]
    assert listed_for(cas, contents[3][0], cas.repository) == names[3:5]
    assert listed_for(cas, contents[5][0], cas.repository) == [names[5], names[0]]
    monkeypatch.setattr("xethub_local.content.deduplication.MAX_RESPONSE_CHUNKS", 1)
    assert listed_for(cas, contents[3][0], cas.repository) == [names[3]]  # it is listed whatever its size


def test_the_same_shard_again_takes_no_room(cas: RunningCas) -> None:
    listed = [stored_xorb(cas, os.urandom(100)) for _ in range(3)]
    body = shard.build(shard.Shard((file_of(*listed),), tuple(listed)))

    def rows() -> int:
        counted = "SELECT (SELECT count(*) FROM cas_shard) + (SELECT count(*) FROM cas_shard_xorb)"
        return int(cas.db.first(counted, {})[0])

    cas.content.add_shard(body, repository=cas.repository)
    before = rows()
    cas.content.add_shard(body, repository=cas.repository)
    assert rows() == before
    cas.content.forget_repository(cas.repository)
    assert rows() < before


def test_a_refused_shard_enters_nothing(cas: RunningCas, uploaded: tuple[shard.ShardXorb, bytes]) -> None:
    stored, chunk_hash = uploaded
    make_private(cas, True)
    try:
        wrong = shard.ShardFile(os.urandom(32), (shard.Segment(stored.xorb_hash, 0, 1, 1000),), (os.urandom(32),))
        with pytest.raises(ValueError, match="verification hash"):
            cas.content.add_shard(shard.build(shard.Shard((wrong,), (stored,))), repository=cas.other_repository)
        assert ask(cas, chunk_hash, cas.other_repository).status_code == 404
    finally:
        make_private(cas, False)


def test_a_renamed_repository_keeps_what_it_knows_and_a_deleted_one_forgets(
    cas: RunningCas, uploaded: tuple[shard.ShardXorb, bytes]
) -> None:
    stored, chunk_hash = uploaded
    index = cas.content.deduplication
    assert index.find(chunk_hash, cas.repository) == stored.xorb_hash
    cas.content.move_repository(cas.repository, "datasets/acme/renamed")
    assert index.find(chunk_hash, cas.repository) is None
    assert index.find(chunk_hash, "datasets/acme/renamed") == stored.xorb_hash
    cas.content.move_repository("datasets/acme/renamed", cas.repository)
    assert index.find(chunk_hash, cas.repository) == stored.xorb_hash
    cas.content.forget_repository(cas.repository)
    assert index.find(chunk_hash, cas.repository) is None


def test_the_same_xorb_in_other_bytes_is_answered_with_the_bytes_that_are_stored(
    cas: RunningCas, tmp_path: Path
) -> None:
    """Clients with other compression: the xorb has one hash, its stored bytes are those that came first."""
    raw = b"".join(b"line %d of a text\n" % number for number in range(50_000)) + os.urandom(8)
    operation, stored = cas.operation(), fresh_session(xorb__compression_policy="none")
    (info,) = upload(stored, operation, raw)
    name = to_hex(cas.content.reconstruct(info.hash).terms[0].xorb_hash)
    size = cas.content.xorbs.path(name).stat().st_size
    no_questions = fresh_session(xorb__compression_policy="lz4", deduplication__global_dedup_query_enabled=False)
    upload(no_questions, operation, raw)
    assert cas.content.xorbs.path(name).stat().st_size == size > len(raw)
    longer = raw + os.urandom(1000)
    asking = fresh_session()
    (new_info,) = upload(asking, operation, longer)
    assert (
        cas.content.reconstruct(new_info.hash).terms[0].xorb_hash
        == cas.content.reconstruct(info.hash).terms[0].xorb_hash
    )
    assert download(asking, cas.operation("read"), tmp_path, info, new_info) == [raw, longer]


def test_what_is_known_outlives_the_server(
    tmp_path: Path, start_cas: Callable[[Path], AbstractContextManager[RunningCas]]
) -> None:
    raw = os.urandom(MIB)
    with start_cas(tmp_path / "data") as first:
        (info,) = upload(fresh_session(), first.operation(), raw)
        chunk_hash = chunk_hashes(first, info)[0]
        xorb_hash = first.content.reconstruct(info.hash).terms[0].xorb_hash
        answer = first.content.deduplication.build_response(xorb_hash, first.repository, 1000)
    again = Database(tmp_path / "data")
    try:
        index = ContentStore(tmp_path / "data", again).deduplication
        assert index.find(chunk_hash, "datasets/acme/corpus") == xorb_hash
        assert index.build_response(xorb_hash, "datasets/acme/corpus", 1000) == answer
    finally:
        again.close()
