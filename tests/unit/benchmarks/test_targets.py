"""A benchmark that judges wrongly is worse than none: what is missed is called missed."""

from __future__ import annotations

import pytest

from benchmarks.cases import CASES, order
from benchmarks.targets import RULES, targets
from benchmarks.tasks import FEW, HUB, OPERATORS, TUNED
from benchmarks.turn import ALL, SOME


def measured(contender: str, seconds: list[float], **fields: object) -> list[dict[str, object]]:
    """As many repetitions as there are ``seconds``."""
    row = {"case": "medium", "step": "upload", "profile": "+0 ms", "number": 0, "peak": 100, "size": 1, "read": 0}
    row |= {"hub_requests": 3, "commits": 1}
    return [
        {
            **row,
            "contender": contender,
            "repetition": number,
            "seconds": each,
            "hub_requests": 3,
            "commits": 1,
            **fields,
        }
        for number, each in enumerate(seconds)
    ]


def judged(*runs: list[dict[str, object]], quick: bool = False) -> dict[str, bool]:
    results = {"quick": quick, "measured": [each for run in runs for each in run]}
    return {target.text: target.met for target in targets(results)}


FASTER, AS_FAST = "medium, upload, +0 ms: times as fast as huggingface_hub", [1.0] * 5


def test_a_pair_is_of_the_same_repetition():
    """The machine is slower each time, and this provider a little faster than the other one each time."""
    theirs = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert judged(measured(OPERATORS, [each / 1.02 for each in theirs]), measured(HUB, theirs))[FASTER]
    assert not judged(measured(OPERATORS, [each * 1.02 for each in theirs]), measured(HUB, theirs))[FASTER]


def test_a_low_end_of_the_interval_below_its_bound_is_a_miss():
    assert judged(measured(OPERATORS, [0.9, 0.9, 0.9, 0.9, 1.02]), measured(HUB, AS_FAST))[FASTER]
    assert not judged(measured(OPERATORS, [0.9, 0.9, 0.9, 0.9, 1.05]), measured(HUB, AS_FAST))[FASTER]


@pytest.mark.parametrize(("peak", "met"), [(100, True), (101, False)])
def test_more_memory_than_the_other_is_a_miss(peak, met):
    found = judged(measured(OPERATORS, AS_FAST, peak=peak), measured(HUB, AS_FAST))
    assert found["medium, upload, +0 ms: peak memory as a part of huggingface_hub's"] is met


def test_a_contender_without_a_rule_is_not_judged():
    assert not judged(measured(OPERATORS, [9.0] * 5), measured(TUNED, AS_FAST))


@pytest.mark.parametrize(("ours", "default", "met"), [(29.0, 41.0, True), (31.0, 39.0, False)])
def test_on_a_crowded_link_everybody_is_compared_with_the_client_that_knows_it(ours, default, met):
    link = {"case": "crawl", "profile": "a crowded link"}
    found = judged(
        measured(OPERATORS, [ours], step=ALL, **link),
        measured(HUB, [default], step=SOME, **link),
        measured(FEW, [4.0], step=SOME, **link),
        measured(FEW, [20.0], step=ALL, **link),
    )
    assert list(found.values()) == [met, met]


def test_tiny_sizes_are_not_judged():
    assert not judged(measured(OPERATORS, [9.0] * 5), measured(HUB, AS_FAST), quick=True)


def test_every_commit_and_request_of_mapped_tasks_counts():
    row = {"case": "mapped", "step": "8 tasks"}
    found = judged(measured(OPERATORS, AS_FAST, **row, hub_requests=7) + measured(OPERATORS, AS_FAST, **row, commits=2))
    assert found == {"mapped, 8 tasks, +0 ms: Hub requests": False, "mapped, 8 tasks, +0 ms: commits": False}


def test_every_rule_is_about_a_case_that_there_is():
    for rule in RULES:
        for name in rule.cases or ():
            assert rule.other in CASES[name].contenders
            assert {profile.name for profile in CASES[name].profiles} >= set(rule.profiles or ())


@pytest.mark.parametrize("repetition", range(4))
def test_those_who_are_compared_take_turns_beside_each_other(repetition):
    for case in CASES.values():
        turns = order(case.contenders, repetition)
        assert sorted(turns) == sorted(case.contenders)
        assert abs(turns.index(OPERATORS) - turns.index(HUB)) == 1
        assert (turns.index(OPERATORS) < turns.index(HUB)) is (repetition % 2 == 1)
