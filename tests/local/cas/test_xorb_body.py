"""How the bytes of a xorb arrive: little by little, checked meanwhile, and gone again where something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from airflow_provider_xethub.local.cas.xorb_body import XorbBodyWriter
from airflow_provider_xethub.local.content.incoming_xorb import IncomingXorb
from airflow_provider_xethub.local.formats import FormatError, xorb
from airflow_provider_xethub.local.formats.hashing import to_hex
from support.xet_client import MIB, bearer

if TYPE_CHECKING:
    from conftest import RunningCas

FOOTER = b"XETBLOB\x01" + bytes(300)


def incoming_folder(cas: RunningCas) -> Path:
    return cas.content.xorbs.path("0" * 64).parent.parent / "incoming"


def pieces_of(body: bytes, length: int) -> Iterator[bytes]:
    return (body[start : start + length] for start in range(0, len(body), length))


# -- piece by piece


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
    with pytest.raises(FormatError, match="Chunk 1 at byte 13: version 88 is not known"):
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


# -- over HTTP


@pytest.mark.parametrize("length", [1000, 70_000, 600_000])
def test_a_xorb_sent_in_pieces_is_stored_without_its_footer(cas: RunningCas, length: int) -> None:
    body = xorb.serialize([os.urandom(100_000) for _ in range(20)])
    name = to_hex(xorb.parse(body).xorb_hash)
    url = f"{cas.url}/v1/xorbs/default/{name}"
    answer = requests.post(url, headers=bearer(cas.token()), data=pieces_of(body + FOOTER, length), timeout=30)
    assert answer.json() == {"was_inserted": True}
    assert cas.content.xorbs.path(name).read_bytes() == body
    assert list(incoming_folder(cas).iterdir()) == []


def test_a_xorb_that_goes_wrong_late_leaves_nothing(cas: RunningCas) -> None:
    body = xorb.serialize([os.urandom(100_000) for _ in range(30)])
    name = to_hex(xorb.parse(body).xorb_hash)
    url = f"{cas.url}/v1/xorbs/default/{name}"
    broken = body[:-99_000] + bytes([body[-99_000] ^ 1]) + body[-98_999:]
    for wrong in (broken, body[:-1], body + b"\x01" * 8):
        refused = requests.post(url, headers=bearer(cas.token()), data=wrong, timeout=30)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith(f"Xorb {name} is refused: ")
    assert not cas.content.xorbs.has(name)
    assert list(incoming_folder(cas).iterdir()) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(cas: RunningCas) -> None:
    body = xorb.serialize([os.urandom(100_000) for _ in range(30)])
    name = to_hex(xorb.parse(body).xorb_hash)
    with socket.create_connection(("127.0.0.1", cas.port), timeout=10) as connection:
        connection.sendall(
            f"POST {cas.base_path}/v1/xorbs/default/{name} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {cas.token()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        connection.sendall(body[: 2 * MIB])
        until(lambda: any(path.stat().st_size > MIB for path in incoming_folder(cas).iterdir()))
    until(lambda: not list(incoming_folder(cas).iterdir()))
    assert not cas.content.xorbs.has(name)


def test_many_slow_uploads_do_not_hold_up_a_quick_one(cas: RunningCas) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", cas.port), timeout=10))
            connection.sendall(
                f"POST {cas.base_path}/v1/xorbs/default/{number:064} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {cas.token()}\r\nContent-Length: 1000\r\n\r\n".encode()
            )
        until(lambda: len(list(incoming_folder(cas).iterdir())) == 40)
        body = xorb.serialize([os.urandom(1000)])
        url = f"{cas.url}/v1/xorbs/default/{to_hex(xorb.parse(body).xorb_hash)}"
        assert requests.post(url, headers=bearer(cas.token()), data=body, timeout=30).json() == {"was_inserted": True}
    until(lambda: not list(incoming_folder(cas).iterdir()))


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


def until(holds: object) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
