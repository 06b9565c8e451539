"""When a response of S3 crawls."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_xethub.xet.files.s3 import watch
from airflow_provider_xethub.xet.files.s3.watch import Crawl, Rules, Watch

MB = 1_000_000
RANGE = 8 << 20


@pytest.mark.parametrize(
    ("passed", "got", "best", "crawls"),
    [
        (59, 0, 100 * MB, False),  # the read timeout of the client comes first
        (61, 0, 100 * MB, True),
        (61, MB, 100 * MB, True),
        (61, 0, 0, False),  # nothing is known of others, and a block may have arrived
        (110, 0, 0, True),
        (61, 0, 300_000, False),  # others are as slow
        (300, 2 * MB, 300_000, True),
        (300, 4 * MB, 300_000, False),
    ],
)
def test_a_response_crawls_below_a_share_of_the_best_or_a_least_rate(passed, got, best, crawls):
    assert Rules().crawls(passed, got, RANGE, best) is crawls


def test_a_small_object_crawls_as_soon_as_the_window_has_passed():
    assert Rules().crawls(61, 0, 64 << 10, 0)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(watch, "RULES", Rules(window=0.06, least=1000 * MB, block=1))


def test_a_response_that_crawls_is_ended_even_if_it_reports_no_error(quick):
    ended = threading.Event()

    def read() -> None:
        with Watch().over(10, ended.set) as response:
            response.got = 5
            assert ended.wait(10)

    with pytest.raises(Crawl, match="only 5 B of 10 B arrived"):
        read()


def test_the_error_of_a_response_that_was_ended_is_that_it_crawled(quick):
    ended = threading.Event()

    def read() -> None:
        with Watch().over(10, ended.set):
            assert ended.wait(10)
            raise OSError("the connection was closed")

    with pytest.raises(Crawl):
        read()


def test_any_other_error_stays():
    with pytest.raises(EOFError, match="fewer bytes"), Watch().over(10, lambda: None):
        raise EOFError("fewer bytes")


def test_the_watching_thread_ends_with_the_last_response(monkeypatch):
    monkeypatch.setattr(watch, "RULES", Rules(window=0.06))
    before = set(threading.enumerate())
    with Watch().over(10, lambda: None):
        [thread] = set(threading.enumerate()) - before
    thread.join(10)
    assert not thread.is_alive()
