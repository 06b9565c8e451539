"""Downloads of the real transfer client from the CAS of the local Hub, by every route and in every version."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hf_xet
import pytest

from support.xet_client import MIB, download, session_with, upload

if TYPE_CHECKING:
    from support.running_cas import RunningCas


@pytest.fixture(scope="module")
def stored(session: hf_xet.XetSession, cas: RunningCas) -> tuple[hf_xet.XetFileInfo, bytes]:
    """A file of one term."""
    raw = os.urandom(3 * MIB)
    (info,) = upload(session, cas.operation(), raw)
    return info, raw


@pytest.fixture(scope="module")
def scattered(cas: RunningCas) -> tuple[hf_xet.XetFileInfo, bytes]:
    """A file of more than 64 pieces of one xorb, with new bytes between them."""
    # By default the client stores chunks again rather than refer to so many places.
    session = session_with(
        deduplication__min_n_chunks_per_range=0.0, deduplication__min_n_chunks_per_range_hysteresis_factor=0.0
    )
    old = os.urandom(30 * MIB)
    upload(session, cas.operation(), old)
    raw = b"".join(old[start : start + 300_000] for start in range(0, len(old), 400_000))
    (info,) = upload(session, cas.operation(), raw)
    pieces = max(map(len, cas.content.reconstruct(info.hash).fetches.values()))
    assert pieces > 64
    return info, raw


def test_ordered_and_unordered_streams(
    session: hf_xet.XetSession, cas: RunningCas, stored: tuple[hf_xet.XetFileInfo, bytes]
) -> None:
    info, raw = stored
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(info)) == raw
    pieces = sorted(group.download_unordered_stream(info))
    assert b"".join(piece for _, piece in pieces) == raw


def test_ranges(session: hf_xet.XetSession, cas: RunningCas, stored: tuple[hf_xet.XetFileInfo, bytes]) -> None:
    info, raw = stored
    group = session.new_download_stream_group(**cas.operation("read"))
    source = random.Random(3)
    for _ in range(20):
        start = source.randrange(len(raw))
        end = source.randint(start + 1, len(raw))
        assert b"".join(group.download_stream(info, start=start, end=end)) == raw[start:end]
    assert b"".join(group.download_stream(info, start=len(raw) - 1)) == raw[-1:]


def test_a_download_of_unknown_size(
    session: hf_xet.XetSession, cas: RunningCas, stored: tuple[hf_xet.XetFileInfo, bytes]
) -> None:
    info, raw = stored
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(hf_xet.XetFileInfo(info.hash))) == raw
    assert any(status == 416 for _, path, status in cas.requests if info.hash in path)


@pytest.mark.parametrize(
    ("settings", "version"),
    [
        ({}, 2),
        ({"client__reconstruction_api_version": 2}, 2),
        ({"client__reconstruction_api_version": 1}, 1),
        ({"client__enable_multirange_fetching": True}, 2),
        ({"client__reconstruction_api_version": 1, "client__enable_multirange_fetching": True}, 1),
    ],
)
def test_a_scattered_file_comes_back_in_every_version(
    cas: RunningCas,
    tmp_path: Path,
    scattered: tuple[hf_xet.XetFileInfo, bytes],
    settings: dict[str, object],
    version: int,
) -> None:
    info, raw = scattered
    session = session_with(**settings)
    before = len(cas.requests)
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(info)) == raw
    requests = cas.requests[before:]
    assert {path.split("/")[3] for _, path, _ in requests if "/reconstructions/" in path} == {f"v{version}"}
    data_requests = sum("/data/" in path for _, path, _ in requests)
    several_at_once = version == 2 and settings.get("client__enable_multirange_fetching")
    assert data_requests < 10 if several_at_once else data_requests > 64
    assert b"".join(group.download_stream(info, start=1_000_000, end=9_000_000)) == raw[1_000_000:9_000_000]
    assert download(session, cas.operation("read"), tmp_path, info) == [raw]


@pytest.mark.parametrize("several_at_once", [False, True])
def test_the_client_asks_again_when_data_urls_expire(
    cas: RunningCas,
    scattered: tuple[hf_xet.XetFileInfo, bytes],
    monkeypatch: pytest.MonkeyPatch,
    several_at_once: bool,
) -> None:
    info, raw = scattered
    verify = cas.access.verify_data_url
    seen: list[str] = []

    def first_one_is_late(path_and_query: str) -> None:
        seen.append(path_and_query)
        if len(seen) == 1:
            with monkeypatch.context() as late:
                late.setattr(cas.access, "clock", lambda: time.time() + 901)
                verify(path_and_query)
        verify(path_and_query)

    monkeypatch.setattr(cas.access, "verify_data_url", first_one_is_late)
    before = len(cas.requests)
    session = session_with(client__enable_multirange_fetching=several_at_once)
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(info)) == raw
    requests = cas.requests[before:]
    assert [status for _, path, status in requests if "/data/" in path and status != 206] == [403]
    assert sum("/reconstructions/" in path for _, path, _ in requests) >= 2


def test_an_unknown_file(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="404 Not Found"):
        download(session, cas.operation("read"), tmp_path, hf_xet.XetFileInfo("1" * 64, 10))
