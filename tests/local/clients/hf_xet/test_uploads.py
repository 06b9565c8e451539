"""Uploads of the real transfer client to the CAS of the local Hub."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hf_xet
import pytest

from support.xet_client import MIB, download, session_with, upload
from xethub_local.cas.routes import routes
from xethub_local.formats import xorb
from xethub_local.formats.hashing import to_hex

if TYPE_CHECKING:
    from support.running_cas import RunningCas


@pytest.mark.parametrize("size", [1, 30, 8191, MIB, 5 * MIB + 3])
def test_new_bytes_arrive_and_come_back(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path, size: int) -> None:
    raw = os.urandom(size)
    (info,) = upload(session, cas.operation(), raw)
    assert (info.file_size, info.sha256) == (size, hashlib.sha256(raw).hexdigest())
    stored = cas.content.file(info.hash)
    assert stored is not None
    assert (stored.size, stored.sha256) == (size, info.sha256)
    assert b"".join(cas.content.read_file(info.hash)) == raw
    assert download(session, cas.operation("read"), tmp_path, info) == [raw]


def test_a_file_of_several_xorbs(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(150 * MIB))
    with session.new_upload_commit(**cas.operation()) as commit:
        handle = commit.start_upload_file(str(source), sha256=hf_xet.COMPUTE_SHA256)
    info = handle.result().xet_info
    assert len({term.xorb_hash for term in cas.content.reconstruct(info.hash).terms}) >= 3
    (tmp_path / "out").mkdir()
    assert download(session, cas.operation("read"), tmp_path / "out", info) == [source.read_bytes()]


def test_one_commit_of_a_file_bytes_and_a_stream(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    contents = [os.urandom(MIB + 1), os.urandom(100), os.urandom(3 * MIB)]
    source = tmp_path / "source"
    source.write_bytes(contents[0])
    with session.new_upload_commit(**cas.operation()) as commit:
        file = commit.start_upload_file(str(source), sha256=hf_xet.COMPUTE_SHA256)
        given = commit.start_upload_bytes(contents[1], sha256=hf_xet.COMPUTE_SHA256)
        stream = commit.start_upload_stream("a stream", sha256=hf_xet.COMPUTE_SHA256)
        for start in range(0, len(contents[2]), 700_001):
            stream.write(contents[2][start : start + 700_001])
        streamed = stream.finish()
    infos = [file.result().xet_info, given.result().xet_info, streamed.xet_info]
    for info, raw in zip(infos, contents, strict=True):
        assert cas.content.file_by_sha256(hashlib.sha256(raw).hexdigest()) == cas.content.file(info.hash)
    (tmp_path / "out").mkdir()
    assert download(session, cas.operation("read"), tmp_path / "out", *infos) == contents


def test_the_same_bytes_again_send_no_xorb(session: hf_xet.XetSession, cas: RunningCas) -> None:
    raw = os.urandom(2 * MIB)
    first = upload(session, cas.operation(), raw)
    before = cas.count("POST", "/v1/xorb")
    again = upload(session, cas.operation(), raw)
    assert cas.count("POST", "/v1/xorb") == before
    assert again[0].hash == first[0].hash


def test_two_versions_share_what_they_have_in_common(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    old = os.urandom(4 * MIB)
    new = old[: 2 * MIB] + b"an insertion" + old[2 * MIB :] + os.urandom(1000)
    (old_info,) = upload(session, cas.operation(), old)
    with session.new_upload_commit(**cas.operation()) as commit:
        handle = commit.start_upload_bytes(new, sha256=hf_xet.COMPUTE_SHA256)
    new_info, metrics = handle.result().xet_info, handle.result().dedup_metrics
    assert metrics.new_bytes < MIB
    xorbs = {term.xorb_hash for term in cas.content.reconstruct(new_info.hash).terms}
    assert xorbs > {term.xorb_hash for term in cas.content.reconstruct(old_info.hash).terms}
    assert download(session, cas.operation("read"), tmp_path, old_info, new_info) == [old, new]


def test_the_empty_file(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    (info,) = upload(session, cas.operation(), b"")
    assert info.hash == "0" * 64
    assert download(session, cas.operation("read"), tmp_path, info) == [b""]


def test_an_empty_file_on_disk(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.touch()
    full.write_bytes(b"not empty")
    with session.new_upload_commit(**cas.operation()) as commit:
        handles = [commit.start_upload_file(str(path)) for path in (empty, full)]
    assert handles[0].result().xet_info.hash == "0" * 64
    assert cas.content.file_by_sha256(hashlib.sha256(b"not empty").hexdigest()) is not None


def test_nine_thousand_tiny_files(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    contents = [f"file {number} {random.random()}".encode() for number in range(9000)]
    infos = upload(session, cas.operation(), *contents)
    assert len({info.hash for info in infos}) == 9000
    for info, raw in zip(infos, contents, strict=True):
        assert cas.content.file_by_sha256(hashlib.sha256(raw).hexdigest()) == cas.content.file(info.hash)
    some = range(0, 9000, 45)
    downloaded = download(session, cas.operation("read"), tmp_path, *(infos[number] for number in some))
    assert downloaded == [contents[number] for number in some]


def test_an_upload_without_sha256(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    raw = os.urandom(100_000)
    (info,) = upload(session, cas.operation(), raw, sha256=hf_xet.SKIP_SHA256)
    stored = cas.content.file(info.hash)
    assert stored is not None
    assert (stored.size, stored.sha256) == (len(raw), None)
    assert download(session, cas.operation("read"), tmp_path, info) == [raw]


def test_a_million_equal_bytes_are_cut_every_128_kib(session: hf_xet.XetSession, cas: RunningCas) -> None:
    """The chunk boundaries of the protocol's known answers: they show that the server keeps the client's chunks."""
    (info,) = upload(session, cas.operation(), bytes([59]) * 1_000_000)
    lengths = []
    for term in cas.content.reconstruct(info.hash).terms:
        offsets = xorb.parse(cas.content.xorbs.path(to_hex(term.xorb_hash)).read_bytes()).index.raw_offsets
        lengths += [end - start for start, end in pairwise(offsets[term.first : term.last + 1])]
    assert lengths == [131072] * 7 + [82496]


@pytest.mark.parametrize(
    ("policy", "allowed", "needed"),
    [("none", {0}, set()), ("lz4", {0, 1}, {1}), ("bg4-lz4", {0, 2}, {2}), ("auto", {0, 1, 2}, set())],
)
def test_every_compression_policy(
    cas: RunningCas, tmp_path: Path, policy: str, allowed: set[int], needed: set[int]
) -> None:
    source = random.Random(policy)
    floats = struct.pack("<40000f", *(number / 7 + source.random() for number in range(40000)))
    text = b"".join(b"line %d of a text\n" % source.randrange(10**6) for _ in range(10000))
    contents = [(kind + source.randbytes(4))[: len(kind) + rest] for kind in (floats, text) for rest in range(4)]
    contents.append(source.randbytes(300_000))
    session = session_with(xorb__compression_policy=policy)
    infos = upload(session, cas.operation(), *contents)
    assert download(session, cas.operation("read"), tmp_path, *infos) == contents
    schemes = set()
    for info in infos:
        for term in cas.content.reconstruct(info.hash).terms:
            body = cas.content.xorbs.path(to_hex(term.xorb_hash)).read_bytes()
            schemes |= {body[start + 4] for start in xorb.parse(body).index.offsets[:-1]}
    assert needed <= schemes <= allowed


@pytest.mark.parametrize(("version", "path"), [(1, "/v1/shards"), (2, "/v2/shards")])
def test_both_versions_of_the_shard_route(cas: RunningCas, tmp_path: Path, version: int, path: str) -> None:
    raw = os.urandom(100_000)
    before = len(cas.requests)
    session = session_with(client__shard_api_version=version)
    (info,) = upload(session, cas.operation(), raw)
    assert [p for _, p, _ in cas.requests[before:] if "/shards" in p] == [cas.base_path + path]
    assert download(session, cas.operation("read"), tmp_path, info) == [raw]


def test_progress_of_a_shard_reaches_the_client(
    session: hf_xet.XetSession, cas: RunningCas, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_shard = cas.content.add_shard
    one_was_seen = threading.Event()

    def wait_after_the_first_file(body: bytes, *, on_progress: Callable[[int, int], None], **uploader: str) -> object:
        def on_file(verified: int, total: int) -> None:
            on_progress(verified, total)
            if verified == 1:
                assert one_was_seen.wait(60)

        return add_shard(body, on_progress=on_file, **uploader)

    monkeypatch.setattr(cas.content, "add_shard", wait_after_the_first_file)
    seen: list[tuple[int, int]] = []

    def note(group: hf_xet.GroupProgressReport, _: Any) -> None:
        shard = group.shard
        seen.append((shard.total_shard_validation_entries_completed, shard.total_shard_validation_entries))
        if seen[-1] == (1, 3):
            one_was_seen.set()

    with session.new_upload_commit(**cas.operation(), progress_callback=note, progress_interval_ms=10) as commit:
        for _ in range(3):
            commit.start_upload_bytes(os.urandom(1000), sha256=hf_xet.COMPUTE_SHA256)
    assert (1, 3) in seen


def test_the_reason_of_a_refusal_reaches_the_user_of_the_client(
    session: hf_xet.XetSession,
    tmp_path: Path,
    start_cas: Callable[[Path], AbstractContextManager[RunningCas]],
) -> None:
    """A data folder was wiped and the client still believes that its xorbs are there."""
    raw = os.urandom(MIB)
    with start_cas(tmp_path / "old") as old:
        upload(session, old.operation(), raw)
        with start_cas(tmp_path / "new") as new:
            old.app, old.access = new.app, new.access
            new.app.router.routes[:] = routes(new.content, new.access, base_path=old.base_path)
            with pytest.raises(RuntimeError, match=r"The shard is refused: .* is not stored here; upload it first"):
                upload(session, old.operation(), raw)


def test_telemetry_is_taken_at_the_origin(session: hf_xet.XetSession, cas: RunningCas) -> None:
    before = len(cas.requests)
    upload(session, cas.operation(), os.urandom(50))
    deadline = time.monotonic() + 10
    while ("POST", "/v1/telemetry", 200) not in cas.requests[before:]:
        assert time.monotonic() < deadline, cas.requests[before:]
        time.sleep(0.01)
