"""Steps of the protocol: what a task requests, by route."""

from __future__ import annotations

import re

import pytest

from faults.columns import COLUMNS, PRESETS
from faults.steps import Step, faults_at, steps_of
from xethub_local.control import presets
from xethub_local.control.fault import Fault
from xethub_local.control.logged_request import LoggedRequest

TOKEN = "GET /api/{kind}/{namespace}/{name}/xet-read-token/{revision}"


def requested(route):
    return LoggedRequest("GET", "/", 200, "", 0, 0, 0.0, route=route)


def test_the_first_request_of_a_route_is_one_step_and_all_later_ones_another():
    found = steps_of([requested(route) for route in ("GET /a", "GET /b", "GET /a", "GET /a")])
    assert found == [Step("GET /a"), Step("GET /b"), Step("GET /a", "later")]
    assert [step.skip for step in found] == [0, 0, 1]
    assert [Step.parse(str(step)) for step in found] == found


@pytest.mark.parametrize(
    ("route", "path", "matches"),
    [
        (TOKEN, "GET /api/datasets/acme/corpus/xet-read-token/refs%2Fpr%2F1", True),
        (TOKEN, "GET /api/buckets/acme/corpus/xet-read-token/main", False),
        (TOKEN, "POST /api/datasets/acme/corpus/xet-read-token/main", False),
        ("GET /{namespace}/{name}/resolve/{revision}/{path}", "GET /acme/model/resolve/main/d/a%20b.bin", True),
        ("GET /cas/{instance}/data/{hash}", "GET /cas/1/data/2/3", False),
    ],
)
def test_a_fault_hits_the_requests_of_its_route_only(route, path, matches):
    assert bool(re.fullmatch(Step(route).pattern, path)) is matches


def test_what_lasts_is_met_at_the_first_request():
    first, later = faults_at(Step("GET /api/x")), faults_at(Step("GET /api/x", "later"))
    assert {duration for _, duration in first} == {"once", "lasting"}
    assert [each for each in first if each[1] == "once"] == list(later)
    assert {column.name for column, duration in first if duration == "lasting"} >= {"400", "503", "stall"}


def test_a_fault_of_tokens_happens_where_tokens_are_issued():
    assert "short token" in {column.name for column, _ in faults_at(Step(TOKEN))}
    assert "short token" not in {column.name for column, _ in faults_at(Step("GET /api/x"))}


def test_every_way_to_fail_of_the_local_hub_is_a_column():
    used = {name for column in COLUMNS.values() for name in column.fields}
    # Which requests fail, and how often, is what steps are for; it is idle how long a collapse takes to begin.
    elsewhere = {"route", "times", "skip", "client", "collapse_after"}
    assert used | elsewhere == {*vars(Fault("GET /", status=500))}
    assert PRESETS.keys() == presets.PRESETS.keys()
    assert {*PRESETS.values()} <= COLUMNS.keys()
    for column in COLUMNS.values():
        Fault("GET /", **column.fields)
