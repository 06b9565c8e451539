"""The bytes of a xorb are checked as they arrive, in little memory."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from support.xet_client import MIB
from xethub_local.cas.xorb_body import XorbBodyWriter
from xethub_local.content.incoming_xorb import IncomingXorb
from xethub_local.formats import FormatError, xorb
from xethub_local.formats.hashing import to_hex

if TYPE_CHECKING:
    pass


FOOTER = b"XETBLOB\x01" + bytes(300)


@given(
    st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=12),
    st.lists(st.integers(1, 400)),
    st.sampled_from([b"", FOOTER, FOOTER[:7]]),
)
def test_a_xorb_in_pieces_is_the_xorb_as_a_whole(chunks: list[bytes], lengths: list[int], footer: bytes) -> None:
    body = xorb.serialize(chunks)
    parser, kept, rest = xorb.Parser(), bytearray(), body + footer
    for length in lengths:
        kept += parser.feed(rest[:length])
        rest = rest[length:]
    kept += parser.feed(rest)
    assert parser.finish() == xorb.parse(body)
    assert kept == body


def test_a_broken_chunk_is_found_when_it_comes() -> None:
    parser = xorb.Parser()
    parser.feed(xorb.serialize([b"first"]))
    with pytest.raises(FormatError, match="Chunk 1 at byte 13: version 88 is unknown"):
        parser.feed(b"X" * 8)


def test_a_large_xorb_takes_little_memory(tmp_path: Path) -> None:
    chunk = os.urandom(xorb.MAX_CHUNK_BYTES)
    record = xorb.serialize([chunk], xorb.STORED)
    name = to_hex(xorb.parse(record * 400).xorb_hash)
    received = 0

    async def receive() -> dict[str, object]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": bytes(record), "more_body": received < 400}

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    with IncomingXorb(tmp_path, name) as incoming:
        tracemalloc.start()
        try:
            asyncio.run(XorbBodyWriter().write_body(request, incoming))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert incoming.finish().index.chunk_count == 400
        assert incoming.path.stat().st_size == 400 * len(record)
    assert peak < 4 * MIB  # of 50
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_after_it_was_discarded_is_ignored(tmp_path: Path) -> None:
    with IncomingXorb(tmp_path, "0" * 64) as incoming:
        pass
    incoming.write([b"anything"])
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def stream() -> AsyncIterator[bytes]:
        while True:
            yield xorb.serialize([os.urandom(100_000)])

    async def run() -> None:
        pieces = stream()

        async def receive() -> dict[str, object]:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": await anext(pieces), "more_body": True}

        async def upload() -> None:
            request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
            with IncomingXorb(tmp_path, "0" * 64) as incoming:
                await XorbBodyWriter().write_body(request, incoming)

        task = asyncio.create_task(upload())
        while not any(path.stat().st_size > MIB for path in tmp_path.iterdir()):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []
