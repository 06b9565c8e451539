"""Each invariant of the fault matrix notices what it is for: a violation is planted, and nothing else reports it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults.invariants import INVARIANTS, Facts, violations
from faults.steps import Step
from simulation.attempts import Attempt

SECRET = "hf_" + "qwErtZ+/" * 4
FILE = "datasets/local/corpus refs/heads/main a.bin"
OTHER = "datasets/local/corpus refs/heads/main b.bin"
COMMITS = "datasets/local/corpus refs/heads/main commits"
BEFORE = {"datasets/local/corpus": "public", COMMITS: "1", FILE: "old", "new xorbs": "0"}
AFTER = {**BEFORE, COMMITS: "2", FILE: "new", OTHER: "new", "out a.bin": "new", "new xorbs": "1"}
PROPOSED = {
    "datasets/local/corpus discussion 1": "merged, 1 comments",
    "datasets/local/corpus refs/pr/1 commits": "2",
    "datasets/local/corpus refs/pr/1 a.bin": "new",
}
"""What is left of a commit that was divided, and merged as one."""

DONE = Attempt("success", [], "", "")
BUSY = Attempt(
    "up_for_retry", ["XetServerError", "XetHubError"], "The Hub answered 503 to the commit. Let the task retry.", ""
)
FINAL = replace(BUSY, state="failed")
GOOD = Facts(
    row="upload",
    column="400",
    step=Step("GET /a"),
    attempts=[DONE],
    before=BEFORE,
    after=AFTER,
    final=AFTER,
    undisturbed=AFTER,
    value={"files": 1},
    expected_value={"files": 1},
    printed="Uploaded 1 file.",
    secrets=[SECRET],
)
FAILED = {"attempts": [BUSY, BUSY, BUSY], "cleared": DONE, "after": BEFORE}


def says(message):
    return {**FAILED, "attempts": [replace(BUSY, message=message)]}


def leaves(**changes):
    return {**FAILED, "after": {**BEFORE, **{key.replace("_", " "): value for key, value in changes.items()}}}


PLANTED = [
    ("every_final_name_is_a_whole_file", leaves(**{"out a.bin": "other"})),
    ("every_final_name_is_a_whole_file", leaves(**{"out .a.bin.part": "other"})),
    ("nothing_is_half_visible", leaves(**{FILE: "new"})),
    ("nothing_is_half_visible", leaves(**{FILE: "other", OTHER: "new"})),
    ("nothing_is_done_twice", leaves(**{COMMITS: "3"})),
    ("nothing_is_done_twice", leaves(**{"datasets/local/corpus discussion 1": "open, 0 comments"})),
    ("nothing_is_done_twice", leaves(**{"datasets/local/corpus refs/heads/again commits": "1"})),
    (
        "nothing_is_done_twice",
        {**leaves(**{"datasets/local/corpus discussion 1": "open, 0 comments"}), "column": "413"},
    ),
    ("a_success_has_done_its_work", {"final": {**BEFORE}, "after": BEFORE}),
    ("a_success_has_done_its_work", {"value": {"files": 2}}),
    ("a_success_has_done_its_work", {"final": {**AFTER, "stored datasets/local/corpus": "1"}}),
    ("a_success_has_done_its_work", {**FAILED, "value": None}),
    ("a_message_says_what_happened_and_what_to_do", says("The Hub answered 503.")),
    ("a_message_says_what_happened_and_what_to_do", says("It failed. Let the task retry.")),
    ("a_message_says_what_happened_and_what_to_do", says(f"The Hub {'is busy ' * 12}. Let the task retry.")),
    ("no_temporary_file_is_left", leaves(**{"temporary 0": "a.part"})),
    ("no_credential_is_visible", {"printed": f"Authorization: Bearer {SECRET}"}),
    ("no_credential_is_visible", {**FAILED, "attempts": [replace(BUSY, message=f"{BUSY.message} {SECRET}")]}),
    ("errors_are_the_providers_own", {**FAILED, "attempts": [replace(BUSY, error=["KeyError", "LookupError"])]}),
    ("what_may_be_over_soon_is_retried", {**FAILED, "attempts": [FINAL], "column": "503"}),
    ("what_no_client_can_see_does_no_harm", {**FAILED, "column": "clock ahead"}),
    ("without_the_fault_it_succeeds", {**FAILED, "cleared": BUSY, "final": BEFORE}),
]


@pytest.mark.parametrize(("invariant", "planted"), PLANTED)
def test_a_planted_violation_is_found_by_its_invariant_and_by_no_other(invariant, planted):
    assert {each.partition(":")[0] for each in violations(replace(GOOD, **planted))} == {invariant}


def test_every_invariant_has_a_planted_violation():
    assert {name for name, _ in PLANTED} == {each.__name__ for each in INVARIANTS}


@pytest.mark.parametrize(
    "harmless",
    [
        {},
        FAILED,
        {**FAILED, "attempts": [FINAL]},
        {**FAILED, "after": AFTER},
        {**FAILED, "after": {**BEFORE, "new xorbs": "1"}},
        {**FAILED, "attempts": [Attempt("failed", ["AirflowSensorTimeout"], "Sensor has timed out", "")]},
        {"column": "413", "final": {**AFTER, COMMITS: "3"}, "after": {**AFTER, COMMITS: "3"}},
        {"column": "413", "final": {**AFTER, **PROPOSED}, "after": {**AFTER, **PROPOSED}},
        {"row": "create a branch", "value": {"created": False}, "expected_value": {"created": True}},
        {
            **FAILED,
            "attempts": [replace(BUSY, message="The creation of dataset a/b had no effect. Let the task retry.")],
        },
        {"row": "delete a tag", "value": {"deleted": False}, "expected_value": {"deleted": True}},
        {
            "row": "copy to a bucket",
            "value": {"created": False, "copied": {"files": 0}, "files": [{"path": "a", "sha256": None}]},
            "expected_value": {"created": True, "copied": {"files": 1}, "files": [{"path": "a", "sha256": "HASH"}]},
        },
    ],
)
def test_what_may_happen_is_no_violation(harmless):
    assert violations(replace(GOOD, **harmless)) == []
