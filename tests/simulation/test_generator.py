"""Plans are drawn from their seed alone, and are plain data."""

from __future__ import annotations

import json
from collections import Counter

from simulation.faults import kind
from simulation.generator import FORMAT, ROUTES, plan
from xethub_local.control.fault import Fault

PLANS = [plan(seed) for seed in range(300)]


def test_a_seed_is_always_the_same_plan() -> None:
    assert [plan(seed) for seed in range(300)] == PLANS


def test_other_seeds_are_other_plans() -> None:
    assert len({json.dumps(each["steps"]) for each in PLANS}) == len(PLANS)


def test_a_plan_survives_a_file() -> None:
    assert all(json.loads(json.dumps(each)) == each for each in PLANS)
    assert {each["format"] for each in PLANS} == {FORMAT}


def test_every_step_repository_and_fault_of_a_plan_exists() -> None:
    for each in PLANS:
        for step in each["steps"]:
            assert step["repo"] < len(each["repositories"])
            for fault in step["faults"]:
                if "wire" in fault:
                    assert Fault.from_json(fault["wire"]).route in ROUTES.values()
                assert kind(fault)


def test_every_kind_of_step_and_of_fault_is_drawn() -> None:
    steps = Counter(step["do"] for each in PLANS for step in each["steps"])
    faults = Counter(kind(fault) for each in PLANS for step in each["steps"] for fault in step["faults"])
    assert len(steps) == 11, steps
    assert min(steps.values()) > 20, steps
    assert faults.keys() >= {
        *("restart", "commit", "clock", "SIGTERM", "SIGKILL", "change_source", "remove_source"),
        *("lost answer", "drop", "drop in the middle", "endless", "corrupt", "truncate", "bandwidth", "delay"),
        *("token life", "data url life", "clock offset", "sign-in page", "401", "403", "404", "409", "429", "503"),
    }
