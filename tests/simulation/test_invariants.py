"""Each invariant notices what it is for: a violation is planted, and nothing else reports it."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from simulation.invariants import INVARIANTS, Facts, RepoFacts, violations
from simulation.model import Change
from xethub_local.control.logged_request import LoggedRequest

SECRET = "hf_" + "qwErtZ+/" * 4
PUT = Change("datasets/a/b", {"a": b"new"})
GOOD = Facts(
    repos={"datasets/a/b": RepoFacts({"a": b"old"}, [{"a": b"new"}], [PUT], [[PUT]])},
    folder={"a": b"new"},
    known={"a": [b"old", b"new"]},
    printed="Uploaded 1 file.",
    secrets=[SECRET],
    may_write=frozenset(["datasets/a/b"]),
)
RETRIED = {"state": "up_for_retry", "error": ["XetServerError", "XetHubError"], "message": "busy"}


def request(method: str, path: str) -> LoggedRequest:
    return LoggedRequest(method, path, 200, "test", 0, 0, 0.0)


def repo(**changes: Any) -> dict[str, Any]:
    return {"repos": {"datasets/a/b": replace(GOOD.repos["datasets/a/b"], **changes)}}


PLANTED: list[tuple[str, dict[str, Any]]] = [
    ("nothing_acknowledged_is_lost", repo(trees=[])),
    ("nothing_is_half_visible_or_committed_twice", repo(trees=[{"a": b"new"}, {"a": b"new"}])),
    ("nothing_is_half_visible_or_committed_twice", repo(trees=[{"a": b"half"}], acknowledged=[])),
    ("nothing_is_half_visible_or_committed_twice", repo(trees=[{"a": b"x"}], acknowledged=[], is_bucket=True)),
    ("every_final_name_is_a_whole_file", {"folder": {"a": b"ne"}}),
    ("every_final_name_is_a_whole_file", {"folder": {"unknown": b""}}),
    ("no_temporary_file_is_left", {"leftovers": ["temporary/x"]}),
    ("no_temporary_file_is_left", {"leftovers": [".a.part"], **RETRIED, "faults": [], **repo(acknowledged=[])}),
    ("no_temporary_file_is_left", {"leftovers": ["temporary/x"], "was_killed": True}),
    ("no_credential_is_visible", {"printed": f"Authorization: Bearer {SECRET}"}),
    ("no_credential_is_visible", {"printed": f"?token={quote(SECRET, safe='')}"}),
    *(
        ("no_credential_is_visible", {"printed": base64.b64encode(b"x" * offset + SECRET.encode() + b"yz").decode()})
        for offset in range(3)
    ),
    (
        "no_request_has_a_wider_scope_than_needed",
        {"requests": [request("GET", "/api/datasets/a/other/xet-write-token/main")]},
    ),
    ("no_request_has_a_wider_scope_than_needed", {"requests": [request("POST", "/api/datasets/a/other/commit/main")]}),
    ("no_request_has_a_wider_scope_than_needed", {"requests": [request("DELETE", "/api/repos/delete")]}),
    ("time_memory_and_requests_are_bounded", {"seconds": 31.0}),
    ("time_memory_and_requests_are_bounded", {"new_memory": 400_000_000}),
    ("time_memory_and_requests_are_bounded", {"new_files": 300}),
    ("time_memory_and_requests_are_bounded", {"requests": [request("GET", "/api/x")] * 700}),
    ("errors_are_the_providers_own", {**RETRIED, "error": ["KeyError", "LookupError"]}),
    (
        "only_permanent_faults_end_a_task_for_good",
        {**RETRIED, "state": "failed", "faults": [{"wire": {"status": 503}}]},
    ),
    ("only_permanent_faults_end_a_task_for_good", {**RETRIED, "state": "failed", "faults": [{"event": "restart"}]}),
    ("without_faults_a_try_succeeds", {**RETRIED, "is_quiet": True}),
    ("results_say_what_is_there", {"checks": ["the listing has []"]}),
]


@pytest.mark.parametrize(("invariant", "planted"), PLANTED)
def test_a_planted_violation_is_found_by_its_invariant_and_by_no_other(invariant: str, planted: dict[str, Any]) -> None:
    assert {each.invariant for each in violations(replace(GOOD, **planted))} == {invariant}


def test_every_invariant_has_a_planted_violation() -> None:
    assert {name for name, _ in PLANTED} == {each.__name__ for each in INVARIANTS}


@pytest.mark.parametrize(
    "harmless",
    [
        {},
        RETRIED,
        {**RETRIED, "state": "failed", "faults": [{"wire": {"status": 403}}]},
        {**RETRIED, "state": "killed", "error": ["Killed"], "was_killed": True, "leftovers": ["temporary/x"]},
        {"requests": [request("POST", "/api/datasets/a/other/paths-info/main"), request("POST", "/cas/1/v2/shards")]},
        {"requests": [request("GET", "/api/datasets/a/b/xet-write-token/main")]},
        repo(trees=[], acknowledged=[]),
    ],
)
def test_what_may_happen_is_no_violation(harmless: dict[str, Any]) -> None:
    assert violations(replace(GOOD, **harmless)) == []
