"""A failing plan becomes as short as it can be and still fails."""

from __future__ import annotations

from simulation.generator import Plan, plan
from simulation.shrink import shrink


def long_plan() -> Plan:
    return max((plan(seed) for seed in range(100)), key=lambda each: sum(len(step["faults"]) for step in each["steps"]))


def faults(each: Plan) -> list[object]:
    return [fault for step in each["steps"] for fault in step["faults"]]


def test_only_what_the_failure_needs_is_left() -> None:
    whole = long_plan()
    needed = faults(whole)[3]
    shortest = shrink(whole, lambda each: needed in faults(each))
    assert faults(shortest) == [needed]
    assert len(shortest["steps"]) == 1
    assert len(shortest["steps"][0].get("files", {0: 0})) == 1
    assert shortest["repositories"] == whole["repositories"]


def test_two_steps_that_are_both_needed_stay_in_their_order() -> None:
    whole = {**long_plan(), "steps": [{"do": str(number), "faults": []} for number in range(9)]}
    wanted = ["2", "7"]
    shortest = shrink(whole, lambda each: [step["do"] for step in each["steps"] if step["do"] in wanted] == wanted)
    assert [step["do"] for step in shortest["steps"]] == wanted


def test_the_plan_itself_stays_as_it_was_and_the_runs_are_limited() -> None:
    whole = long_plan()
    runs: list[Plan] = []

    def succeeds(each: Plan) -> bool:
        runs.append(each)
        return False

    assert shrink(whole, succeeds, most_runs=7) == whole
    assert len(runs) == 7
    assert whole == long_plan()
