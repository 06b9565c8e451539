"""A fixed set of seeds, and what a run does with plans that fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from airflow_provider_xethub.xet.repo import Repo
from simulation import attempts, operations
from simulation.faults import kind
from simulation.generator import ROUTES, Plan, plan
from simulation.simulate import Simulation
from support.repository_trees import set_tree

SEEDS = (28, 30, 95)
"""Short ones: lost responses, damage, killed processes, actors at the same time. ``make simulate`` runs more."""

UPLOAD: dict[str, Any] = {
    "do": "upload",
    "repo": 0,
    "path_in_repo": None,
    "files": {"a.bin": {"size": 5000, "seed": 1, "text": False}, "b.csv": {"size": 40, "seed": 1, "text": True}},
    "faults": [],
    "gives_up": False,
}


def of(*steps: dict[str, Any], kinds: Sequence[str] = ("dataset",)) -> Plan:
    repositories = [{"name": f"local/test-{number}", "type": each} for number, each in enumerate(kinds)]
    return {"format": 1, "seed": 0, "repositories": repositories, "steps": [*steps]}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fixed_seed_violates_nothing(simulation: Simulation, seed: int) -> None:
    outcome = simulation.run(plan(seed))
    assert outcome.violations == [], outcome.trace
    assert outcome.steps > 1


@pytest.mark.parametrize("kind_of_repo", ["dataset", "bucket"])
def test_a_step_is_retried_until_it_succeeds_and_its_faults_are_counted(
    simulation: Simulation, kind_of_repo: str
) -> None:
    route = ROUTES["commit"]
    faults = [{"task": 0, "wire": {"route": route, "status": 403}}, {"task": 0, "event": "SIGKILL", "at": 2}]
    outcome = simulation.run(of({**UPLOAD, "faults": faults}, kinds=(kind_of_repo,)))
    assert outcome.violations == [], outcome.trace
    assert outcome.tries == 4
    assert outcome.faults == {"403": 1, "SIGKILL": 1}


def test_a_run_stops_at_the_first_violation_and_says_which_step_it_was(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = {"do": "download", "repo": 0, "into": "new", "token": False, "faults": [], "gives_up": False}
    monkeypatch.setattr(operations, "_is_one_of", lambda *_: ["planted"])
    outcome = simulation.run(of(UPLOAD, download, UPLOAD))
    assert [(number, str(each)) for number, each in outcome.violations] == [(1, "results_say_what_is_there: planted")]
    assert outcome.steps == 2


def test_a_file_that_disappears_after_the_task_has_reported_it_is_noticed(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = attempts.run

    def run(*arguments: Any) -> Any:
        ended = original(*arguments)
        set_tree(simulation.hub, Repo("local/test-0-1", "dataset"), {})  # in the first world of this simulation
        return ended

    monkeypatch.setattr(attempts, "run", run)
    outcome = simulation.run(of(UPLOAD))
    assert "nothing_acknowledged_is_lost" in {each.invariant for _, each in outcome.violations}


def test_every_fault_has_a_kind() -> None:
    assert kind({"wire": {"route": ".*", "drop": "middle"}}) == "drop in the middle"
    with pytest.raises(ValueError, match="unknown fault"):
        kind({"wire": {"route": ".*"}})
