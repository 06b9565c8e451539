"""What a closed connection still holds is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from airflow_provider_xethub.xet.network.connections import drained

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="other systems do not show the connections of a user")


@contextmanager
def full() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection of which one side has sent more than the other has read."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            sender.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    sender.send(bytes(1 << 20))
            yield sender, receiver


def read_all(connection: socket.socket) -> None:
    while connection.recv(1 << 20):
        pass
    connection.close()


def test_what_a_closed_connection_still_sends_is_waited_for():
    with full() as (sender, receiver):
        reader = threading.Timer(0.5, read_all, [receiver])
        started = time.monotonic()
        with drained(0, most=60):
            sender.close()
            reader.start()
        assert 0.5 <= time.monotonic() - started < 30
        assert reader.finished.is_set()
        reader.join()


def test_the_wait_ends_where_nobody_reads():
    with full() as (sender, _):
        started = time.monotonic()
        with drained(0, most=0.3):
            sender.close()
        assert 0.3 <= time.monotonic() - started < 30


def test_connections_that_stay_open_and_those_of_others_are_not_waited_for():
    with full() as (closed_before, _), full():
        closed_before.close()
        started = time.monotonic()
        with drained(0, most=60):
            pass
        assert time.monotonic() - started < 30


def test_a_server_of_this_process_is_not_waited_for():
    """Its connections have the server's own address, and one that it closed lasts until the client closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        server.accept()[0].close()
        started = time.monotonic()
        with drained(0, most=60):
            pass
        assert time.monotonic() - started < 30


def test_a_connection_that_was_half_closed_before_is_not_waited_for():
    with full() as (half_closed, _):
        half_closed.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        with drained(0, most=60):
            pass
        assert time.monotonic() - started < 30


def test_a_connection_that_the_other_side_half_closed_is_waited_for():
    with full() as (sender, receiver):
        receiver.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        with drained(0, most=0.3):
            sender.close()
        assert 0.3 <= time.monotonic() - started < 30


def test_nothing_is_waited_for_where_the_system_does_not_show_it(monkeypatch):
    def refuse(*_):
        raise psutil.AccessDenied

    with full() as (sender, _):
        monkeypatch.setattr(psutil.Process, "net_connections", refuse)
        started = time.monotonic()
        with drained(0, most=60):
            sender.close()
        assert time.monotonic() - started < 30
