"""A fault as a value: what makes sense, what is refused before it is armed, and its JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xethub_local.control.fault import MAX_PATTERN, Fault
from xethub_local.control.presets import PRESETS, fault_from_preset

ANY = {"route": ".*"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "route is missing"),
    ({"route": ""}, "route must be a regular expression of 1 to 500"),
    ({"route": "("}, "route is not a regular expression: missing"),
    ({"route": "a{99999999999}"}, "route is not a regular expression"),
    ({"route": "(" * 250 + ")" * 250}, "route is not a regular expression|does not say"),
    ({"route": "a" * (MAX_PATTERN + 1)}, "1 to 500 characters"),
    ({"route": 5}, "route must be a regular expression"),
    (ANY, "does not say what goes wrong"),
    (ANY | {"times": 2, "skip": 1, "client": "x"}, "does not say what goes wrong"),
    (ANY | {"client": "[", "status": 500}, "client is not a regular expression"),
    (ANY | {"times": 0, "status": 500}, "times must be a whole number of at least 1, not 0"),
    (ANY | {"times": True, "status": 500}, "times must be a whole number"),
    (ANY | {"skip": -1, "status": 500}, "skip must be a whole number of at least 0, not -1"),
    (ANY | {"status": 100}, "status must be an HTTP status from 200 to 599, not 100"),
    (ANY | {"status": 600}, "not 600"),
    (ANY | {"status": "500"}, "not '500'"),
    (ANY | {"delay": -0.1}, "delay must be from 0 to 3600 seconds"),
    (ANY | {"delay": float("nan")}, "delay must be"),
    (ANY | {"delay": float("inf")}, "delay must be"),
    (ANY | {"delay": 3601}, "delay must be"),
    (ANY | {"status": 500, "headers": {"a b": "c"}}, "'a b' is not a valid header name"),
    (ANY | {"status": 500, "headers": {"X-A": "one\r\ntwo"}}, "the value of X-A must be one line"),
    (ANY | {"status": 500, "headers": {"X-A": "\u20ac"}}, "Latin-1"),
    (ANY | {"status": 500, "headers": {"X-A": 5}}, "the value of X-A"),
    (ANY | {"status": 500, "headers": {"Content-Length": "5"}}, "the server sets Content-Length itself"),
    (ANY | {"status": 500, "headers": [["a", "b"]]}, "headers must be an object"),
    (ANY | {"status": 500, "headers": {f"x-{n}": "" for n in range(51)}}, "at most 50"),
    (ANY | {"without_headers": ["transfer-encoding"]}, "the server sets transfer-encoding itself"),
    (ANY | {"without_headers": "Date"}, "must be a list"),
    (ANY | {"without_fields": [5]}, "5 is not a valid name"),
    (ANY | {"status": 500, "body": 5}, "body must be a string or bytes"),
    (ANY | {"status": 500, "body": "x" * 1_000_001}, "at most 1,000,000"),
    (ANY | {"status": 500, "body": "\ud800"}, "lone surrogate"),
    (ANY | {"delay": 1, "body": "x"}, "body needs a status"),
    (ANY | {"fields": {"a": {1, 2}}}, "fields cannot be written as JSON"),
    (ANY | {"fields": {1: 2}}, "fields must be an object"),
    (ANY | {"drop": "after"}, "drop 'after' is not known; use 'before' or 'middle'"),
    (ANY | {"endless": "loud"}, "endless 'loud' is not known"),
    (ANY | {"corrupt": "yes"}, "corrupt must be true or false, not 'yes'"),
    (ANY | {"truncate": -1}, "truncate must be a whole number"),
    (ANY | {"token_life": 0}, "token_life must be at least 1 second"),
    (ANY | {"bandwidth": 0}, "bandwidth must be a whole number of bytes per second, at least 1, not 0"),
    (ANY | {"bandwidth": 1.5}, "bandwidth must be a whole number"),
    (ANY | {"bandwidth": 1, "status": 500}, "status and bandwidth cannot be combined"),
    (ANY | {"max_open": 0, "collapsed_bandwidth": 1}, "max_open must be a whole number of at least 1"),
    (ANY | {"collapse_after": 1.0, "bandwidth": 1}, "collapse_after needs max_open"),
    (ANY | {"collapsed_bandwidth": 1}, "collapsed_bandwidth needs max_open"),
    (ANY | {"data_url_life": 1.5}, "data_url_life must be a whole number"),
    (ANY | {"clock_offset": float("inf")}, "clock_offset must be a number"),
    (ANY | {"status": 500, "drop": True}, "status and drop cannot be combined"),
    (ANY | {"drop": True, "endless": True}, "drop and endless cannot be combined"),
    (ANY | {"status": 500, "drop": True, "lose_answer": True}, "cannot be combined"),
    (ANY | {"status": 500, "corrupt": True}, "status and corrupt cannot be combined"),
    (ANY | {"drop": True, "headers": {"a": "b"}}, "drop and headers cannot be combined"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_fault_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**({"route": None} | options))


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_only_a_json_object_is_a_fault(value: object) -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        Fault.from_json(value)


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'statuss' is not known; a fault has route, times, skip"):
        Fault.from_json({"route": ".*", "statuss": 500})


def test_json_shows_what_differs_from_the_defaults() -> None:
    fault = Fault("GET /x", times=2, status=503, headers={"Retry-After": "1"}, body="busy")
    assert fault.to_json() == {
        "route": "GET /x",
        "times": 2,
        "status": 503,
        "headers": {"Retry-After": "1"},
        "body": "busy",
    }
    assert Fault("GET /x", data_url_life=0).to_json() == {"route": "GET /x", "data_url_life": 0}


def test_a_body_that_is_no_text_travels_as_base64() -> None:
    fault = Fault("GET /x", status=200, body=b"\xff\x00")
    assert fault.to_json()["body"] == {"base64": "/wA="}
    assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault
    for wrong in ({"base64": "%"}, {"base64": 5}, {"hex": "ff"}):
        with pytest.raises(ValueError, match="body"):
            Fault.from_json({"route": "x", "status": 200, "body": wrong})


COMMON = {
    "route": st.sampled_from(["GET /api/.*", ".*"]),
    "times": st.none() | st.integers(1, 5),
    "skip": st.integers(0, 5),
    "client": st.none() | st.just("hf_xet/"),
    "delay": st.floats(0, 3600),
}
INSTEAD = {"status": st.integers(200, 599), "body": st.text(max_size=20), "headers": st.just({"A": "b"})}
CHANGED = {
    "fields": st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), min_size=1, max_size=3),
    "without_fields": st.lists(st.text(max_size=5)).map(tuple),
    "without_headers": st.just(("Date",)),
    "corrupt": st.booleans(),
    "truncate": st.none() | st.integers(0, 99),
    "token_life": st.none() | st.integers(1, 99),
    "data_url_life": st.none() | st.integers(-99, 99),
    "clock_offset": st.none() | st.floats(-1e6, 1e6),
}


@given(st.fixed_dictionaries(COMMON | INSTEAD) | st.fixed_dictionaries(COMMON | CHANGED))
def test_json_and_back_is_the_same_fault(fields: dict[str, Any]) -> None:
    fault = Fault(**fields)
    assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault


def test_every_field_is_explained() -> None:
    for each in dataclasses.fields(Fault):
        assert f":param {each.name}:" in (Fault.__doc__ or ""), each.name


@pytest.mark.parametrize("name", PRESETS)
def test_every_ready_made_fault_says_in_a_line_what_will_be_seen(name: str) -> None:
    made = PRESETS[name]
    assert made.name == name
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert made.description.endswith(".")
    assert 30 < len(made.description) < 130
    assert Fault.from_json(json.loads(json.dumps(made.to_json()["fault"]))) == made.fault


def test_a_ready_made_fault_takes_changes() -> None:
    made = fault_from_preset("hub-busy", times=1, client="hf_hub/")
    assert made == dataclasses.replace(PRESETS["hub-busy"].fault, times=1, client="hf_hub/")
    assert fault_from_preset("slow-hub", route="GET /x").route == "GET /x"
    assert fault_from_preset("hub-busy").times is None


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("hub-lazy", {}, "there is no ready-made fault 'hub-lazy'; use one of hub-busy"),
        ("hub-busy", {"time": 1}, "'time' is not known"),
        ("hub-busy", {"times": 0}, "times must be"),
        ("hub-busy", {"corrupt": True}, "status and corrupt cannot be combined"),
    ],
)
def test_a_wrong_change_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fault_from_preset(name, **changes)
