"""Spans of single operations: what they contain, and that there are none where nobody records any."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import get_args

import pytest

from airflow_provider_xethub.exceptions import XetCancelledError, XetServerError
from airflow_provider_xethub.xet import tracing
from airflow_provider_xethub.xet.cas.token_relay import Refresh
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import XetToken
from support.spans import Span, recording

REPO = Repo("acme/corpus", "dataset", "v1")
OF_REPO = {"xethub.repository": "acme/corpus", "xethub.repo_type": "dataset", "xethub.revision": "v1"}
NOTHING = {"xethub.requests": 0, "xethub.retries": 0}


def only(spans: list[Span]) -> Span:
    (span,) = spans
    return span


def test_a_span_has_the_repository_and_what_was_set():
    with recording() as spans, tracing.operation("xethub.upload", REPO, direction="upload") as operation:
        operation.moved({"files": 2, "bytes": 70, "seconds": 1.5})
    span = only(spans)
    assert span.name == "xethub.upload"
    figures = {"xethub.direction": "upload", "xethub.files": 2, "xethub.bytes": 70, "xethub.outcome": "success"}
    assert span.attributes == {**OF_REPO, **NOTHING, **figures}
    assert span.error is None
    assert span.parent


def test_nothing_is_recorded_outside_of_a_recorded_span():
    with recording() as spans:
        pass
    with tracing.operation("xethub.token", REPO) as operation:
        tracing.count_request()
        operation.set(outcome="unchanged")
    assert [*tracing.listing(REPO, iter([[1]]))] == [[1]]
    assert spans == []


def test_it_loads_nothing_where_nobody_has_loaded_opentelemetry():
    code = (
        "import sys\n"
        "from airflow_provider_xethub.xet import tracing\n"
        "from airflow_provider_xethub.xet.repo import Repo\n"
        "with tracing.operation('xethub.token', Repo('acme/m')): tracing.count_request()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'airflow.'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (XetServerError("The Hub at https://user:door-9b2e47d1@hub.example failed.", status=500), "failed"),
        (XetCancelledError("stopped"), "cancelled"),
        (KeyboardInterrupt("stopped"), "cancelled"),
    ],
)
def test_an_error_is_named_and_nothing_more(error: BaseException, outcome: str):
    with recording() as spans, pytest.raises(type(error)), tracing.operation("xethub.commit", REPO):
        raise error
    span = only(spans)
    assert span.error == span.attributes["error.type"] == type(error).__name__
    assert span.attributes["xethub.outcome"] == outcome
    assert span.events == []
    assert str(error) not in json.dumps(span.as_json())


def test_requests_count_for_the_innermost_operation_in_any_thread():
    def ask(_: object) -> None:
        tracing.count_request()

    with recording() as spans, tracing.operation("xethub.download", REPO):
        threads.interruptible(tracing.count_retry)
        threads.each(ask, range(20), 4, threading.Event())
        with tracing.operation("xethub.token", REPO):
            threads.interruptible(tracing.count_request)
        tracing.count_request()
    tracing.count_request()
    download, token = spans
    assert (download.attributes["xethub.requests"], download.attributes["xethub.retries"]) == (21, 1)
    assert (token.attributes["xethub.requests"], token.attributes["xethub.retries"]) == (1, 0)
    assert token.parent == download.id


def test_a_span_of_a_thread_belongs_to_the_caller():
    def fetch() -> None:
        with tracing.operation("xethub.token", REPO):
            pass

    with recording() as spans, tracing.operation("xethub.upload", REPO):
        threads.start(fetch, threads.REQUEST)()
    upload, token = spans
    assert token.parent == upload.id


def test_a_token_that_the_client_asks_for_belongs_to_the_task_that_transfers():
    """The relay answers the client in threads of its own, of which no task knows."""

    def fetch() -> XetToken:
        with tracing.operation("xethub.token", REPO):
            raise XetServerError("down", status=503)

    with recording() as spans, tracing.operation("xethub.download", REPO):
        refresh = Refresh(fetch)
        route = refresh.route()
        assert route
        asking = threading.Thread(target=refresh.answer, args=(route.headers["Authorization"],))
        asking.start()
        asking.join()
    download, token = spans
    assert token.parent == download.id
    assert token.attributes["xethub.outcome"] == "failed"


def pages(*sizes: int) -> Iterator[list[int]]:
    for size in sizes:
        tracing.count_request()
        yield [*range(size)]


def test_a_listing_counts_its_pages_and_not_what_is_done_between_them():
    with recording() as spans:
        for _ in tracing.listing(REPO, pages(1000, 0, 7)):
            tracing.count_request()
            with tracing.operation("xethub.download", REPO):
                pass
    listing, *downloads = spans
    assert listing.name == "xethub.listing"
    assert (listing.attributes["xethub.files"], listing.attributes["xethub.requests"]) == (1007, 3)
    assert {each.parent for each in downloads} == {listing.parent}


def test_a_listing_that_is_not_read_to_its_end_has_ended():
    with recording() as spans:
        found = tracing.listing(REPO, pages(3, 4, 5))
        next(found)
        found.close()
    span = only(spans)
    assert (span.attributes["xethub.files"], span.attributes["xethub.outcome"]) == (3, "success")


def test_a_listing_that_fails_says_so():
    def failing() -> Iterator[list[int]]:
        yield [1]
        raise XetServerError("gone", status=500)

    with recording() as spans, pytest.raises(XetServerError):
        list(tracing.listing(REPO, failing()))
    assert only(spans).attributes["xethub.outcome"] == "failed"


def test_an_unchanged_outcome_stays():
    with recording() as spans, tracing.operation("xethub.commit", REPO) as operation:
        operation.set(outcome="unchanged")
    assert only(spans).attributes["xethub.outcome"] == "unchanged"


def test_names_of_attributes_are_documented():
    names = get_args(tracing.Attribute)
    assert len(names) == len(set(names))
    assert {"repository", "revision", "direction", "files", "bytes", "requests", "retries", "outcome"} <= set(names)
