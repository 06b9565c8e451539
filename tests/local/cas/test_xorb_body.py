"""How the bytes of a xorb arrive: little by little, checked meanwhile, and gone again where something is wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from support.xet_client import MIB, bearer
from xethub_local.formats import xorb
from xethub_local.formats.hashing import to_hex

if TYPE_CHECKING:
    from support.running_cas import RunningCas

FOOTER = b"XETBLOB\x01" + bytes(300)


def incoming_folder(cas: RunningCas) -> Path:
    return cas.content.xorbs.path("0" * 64).parent.parent / "incoming"


def pieces_of(body: bytes, length: int) -> Iterator[bytes]:
    return (body[start : start + length] for start in range(0, len(body), length))


# -- piece by piece


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


def until(holds: object) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
