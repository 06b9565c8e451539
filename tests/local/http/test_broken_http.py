"""What is no proper HTTP: the server answers below 500 or hangs up, goes on serving, and holds no memory for it."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.hub_process import HubProcess
from support.raw_http import HANG_SECONDS, address, attacked_hub, authorization, exchange, expect_it_serves, many

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

_COMMIT = "/api/datasets/acme/corpus/commit/main"
_BODIES = [
    b"5\r\nabc",
    b"zz\r\nabc\r\n",
    b"f" * 16 + b"\r\nabc",
    b"3\r\nabc\r\n",
    b"-1\r\n\r\n",
    b"3;x=" + b"y" * 70_000,
    b"",
]
_LENGTHS = ["Transfer-Encoding: chunked", "Content-Length: 1000", "Content-Length: 10\r\nContent-Length: 3"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with attacked_hub(tmp_path_factory.mktemp("hub") / "data") as running:
        yield running


def test_bodies_that_break_off_do_no_harm(hub: HubProcess) -> None:
    chance = random.Random(1)
    xorb = f"/cas/{(hub.folder / 'instance.id').read_text()}/v1/xorbs/default/{'0' * 64}"
    for number in range(300):
        path = chance.choice([_COMMIT, "/api/buckets/acme/corpus/batch", xorb, "/v1/telemetry"])
        noise = f"X-Noise: {'n' * chance.choice([1, 100, 100_000])}\r\n"
        lines = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization(hub)}{noise}{chance.choice(_LENGTHS)}\r\n\r\n"
        )
        text = lines.encode() + chance.choice(_BODIES)
        if number % 2:
            assert b" 500 " not in exchange(hub, text)[:20]
        else:
            with socket.create_connection(address(hub), timeout=HANG_SECONDS) as connection:
                connection.send(text)  # and gone
    expect_it_serves(hub)


@many
@given(st.binary(max_size=200))
def test_what_is_no_http_at_all_does_no_harm(hub: HubProcess, noise: bytes) -> None:
    assert b" 500 " not in exchange(hub, noise + b"\r\n\r\n")[:20]


@pytest.mark.parametrize("size", [1_000, 60_000, 1_000_000])
def test_headers_and_targets_of_any_length_are_answered_or_hung_up_on(hub: HubProcess, size: int) -> None:
    one_header = "A: " + "b" * size
    many_headers = "\r\n".join(["A: b"] * (size // 6))
    for text in (
        f"GET /{'a' * size} HTTP/1.1\r\nHost: localhost",
        f"GET / HTTP/1.1\r\n{one_header}",
        f"GET / HTTP/1.1\r\n{many_headers}",
    ):
        assert b" 500 " not in exchange(hub, text.encode() + b"\r\n\r\n")[:20]
    expect_it_serves(hub)


def test_connections_that_say_nothing_keep_nobody_out(hub: HubProcess) -> None:
    silent = [socket.create_connection(address(hub), timeout=HANG_SECONDS) for _ in range(200)]
    try:
        for connection in silent[::2]:
            connection.sendall(f"POST {_COMMIT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n".encode())
        expect_it_serves(hub)
    finally:
        for connection in silent:
            connection.close()
