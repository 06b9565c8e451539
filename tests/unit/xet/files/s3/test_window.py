"""How much of objects in S3 is in memory."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_xethub.xet.files.s3.window import Window

MIB = 1 << 20


@pytest.mark.parametrize(
    ("memory", "requests", "each", "pieces"),
    [
        (64 * MIB, None, 8 * MIB, 8),
        (16 * MIB, None, 8 * MIB, 2),
        (4 * MIB, None, 8 * MIB, 1),
        (1000 * MIB, None, 8 * MIB, 8),
        (64 * MIB, 2, 8 * MIB, 2),
        (64 * MIB, None, 122 * MIB, 1),  # parts of an object of a terabyte
    ],
)
def test_as_many_ranges_as_memory_and_requests_allow(memory, requests, each, pieces):
    assert Window(memory, requests).pieces(each) == pieces


def test_a_request_waits_until_another_has_ended():
    window, stopped, began = Window(requests=1), threading.Event(), threading.Event()

    def second() -> None:
        with window.turn(stopped):
            began.set()

    thread = threading.Thread(target=second)
    with window.turn(stopped):
        thread.start()
        assert not began.wait(0.2)
    thread.join(10)
    assert began.is_set()


def test_a_request_that_is_stopped_waits_no_longer():
    window, stopped = Window(requests=1), threading.Event()
    stopped.set()
    with window.turn(stopped), window.turn(stopped):
        pass


def test_after_a_crawl_half_as_many_requests_are_open(monkeypatch):
    window, stopped = Window(), threading.Event()
    with window.turn(stopped), window.turn(stopped), window.turn(stopped), window.turn(stopped):
        window.narrow()
        window.narrow()
    assert window.pieces(MIB) == 2, "those that crawl together count once"
    monkeypatch.setattr("airflow_provider_xethub.xet.files.s3.window._NARROWED_SECONDS", 0.0)
    with window.turn(stopped), window.turn(stopped):
        window.narrow()
        window.narrow()
    assert window.pieces(MIB) == 1


def test_a_request_that_crawls_alone_does_not_slow_down_the_rest():
    window, stopped = Window(), threading.Event()
    with window.turn(stopped):
        window.narrow()
    assert window.pieces(MIB) == 8
