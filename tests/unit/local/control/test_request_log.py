"""The request log as a value: what it sums up, and that it stays small."""

from __future__ import annotations

import pytest

from xethub_local.control.logged_request import LoggedRequest
from xethub_local.control.request_log import (
    KEPT,
    MAX_COUNTERS,
    OTHER_CLIENTS,
    RequestLog,
)
from xethub_local.control.transfers import MAX_TRANSFERS, kind_of

WHOAMI = "GET /api/whoami-v2"

TOKEN_ROUTE = "GET /api/{kind}/{namespace}/{name}/xet-read-token/{revision}"


def logged(**fields: object) -> LoggedRequest:
    given = {"method": "GET", "path": "/", "status": 200, "user_agent": "a/1", "bytes_in": 1, "bytes_out": 2}
    return LoggedRequest(**{**given, "milliseconds": 0.0, "route": "GET /", **fields})  # type: ignore[arg-type]


def test_the_log_stays_small() -> None:
    log = RequestLog()
    for number in range(KEPT + 5):
        log.add(logged(path=f"/{number}", user_agent=f"agent{number}/1", session=f"s{number}"))
    assert len(log.requests()) == KEPT
    assert log.requests()[0].path == "/5"
    counters = log.counters()
    assert len(counters) == MAX_COUNTERS + 1
    (other,) = [counter for counter in counters if counter.client == OTHER_CLIENTS]
    assert other.requests == KEPT + 5 - MAX_COUNTERS
    assert sum(counter.requests for counter in counters) == KEPT + 5
    assert [transfer.session for transfer in log.transfers()][:: MAX_TRANSFERS - 1] == ["s9005", f"s{KEPT + 4}"]
    log.clear()
    assert (log.requests(), log.counters(), log.transfers()) == ([], [], [])


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("GET /cas/{instance}/v1/chunks/{prefix}/{hash}", "dedup"),
        ("POST /cas/{instance}/v1/xorb-grants/{prefix}/{hash}", "grant"),
        ("POST /cas/{instance}/v1/xorb-commits/{prefix}/{hash}/grant/{id}", ""),
        ("PUT /cas/{instance}/uploads/{hash}", "xorb"),
        ("POST /cas/{instance}/v1/xorbs/{prefix}/{hash}", "xorb"),
        ("HEAD /cas/{instance}/v1/xorbs/{prefix}/{hash}", ""),
        ("POST /cas/{instance}/v2/shards", "shard"),
        ("GET /cas/{instance}/v2/reconstructions/{hash}", "reconstruction"),
        ("GET /cas/{instance}/data/{hash}", "data"),
        (TOKEN_ROUTE, "token"),
        ("POST /v1/telemetry", "report"),
        (WHOAMI, ""),
        ("GET /cas/{instance}", ""),
        ("GET (no route)", ""),
    ],
)
def test_the_part_of_a_route_in_a_transfer_is_known(route: str, kind: str) -> None:
    assert kind_of(route) == kind


def test_what_a_transfer_did_is_summed_up() -> None:
    log = RequestLog()
    chunk, xorb = "GET /cas/{instance}/v1/chunks/{prefix}/{hash}", "POST /cas/{instance}/v1/xorbs/{prefix}/{hash}"
    for status in (200, 404, 404):
        log.add(logged(session="s", route=chunk, status=status))
    log.add(logged(session="s", route=xorb, bytes_in=1000))
    log.add(logged(session="s", route=xorb, bytes_in=1000, status=500))
    log.add(logged(session="s", route="GET /cas/{instance}/data/{hash}", status=206, bytes_out=300))
    log.add(logged(session="s", route="GET /cas/{instance}/data/{hash}", status=0, bytes_out=300))
    log.add(logged(session="", route=xorb))
    (transfer,) = log.transfers()
    assert transfer == log.transfer("s")
    assert (transfer.requests, transfer.errors) == (7, 2)
    assert (transfer.dedup_asked, transfer.dedup_answered) == (3, 1)
    assert (transfer.xorbs_sent, transfer.xorb_bytes, transfer.data_requests, transfer.data_bytes) == (1, 1000, 1, 300)
    assert transfer.seconds >= 0
    assert log.transfer("other") is None


def test_what_is_told_is_a_copy() -> None:
    log = RequestLog()
    log.add(logged(session="s"))
    log.transfers()[0].reports.append({})
    log.transfers()[0].requests = 7
    assert (log.transfers()[0].requests, log.transfers()[0].reports) == (1, [])
