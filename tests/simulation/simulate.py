"""Runs one plan: every step's tasks, retried as Airflow retries them, with all invariants checked after each try."""

from __future__ import annotations

import gc
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulation.contents import content
from simulation.faults import REMOVE, Saboteur, Target, kind
from simulation.generator import Plan, Step
from simulation.invariants import MOST_NEW_FILES, Facts, RepoFacts, Violation, violations
from simulation.model import Change, Tree
from simulation.operations import MIRROR_RECORD, Work, remove, work_of
from simulation.world import World, files_below, resident_memory
from support.airflow_runs import ExecutionApi, run_one
from support.commit_builders import name_of
from xethub_local.metadata.commits import PutXet
from xethub_local.server import LocalHub

NOISY_TRIES = 3
"""Tries of each task before the faults end. One more follows, which must succeed."""

SUCCESS = ("success", "skipped")


@dataclass
class Outcome:
    """What came of a plan."""

    violations: list[tuple[int, Violation]] = field(default_factory=list)
    """With the number of the step."""
    steps: int = 0
    tries: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Faults that acted, by kind."""
    operations: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)
    """A line for each try."""


@dataclass
class _Ended:
    """How one try ended."""

    state: str
    error: Sequence[str]
    message: str
    shown: str
    """XComs, rendered fields and the error, as Airflow would store or log them."""


class Simulation:
    """Runs plans, one after the other, against one Hub.

    :param hub: it is running.
    :param folder: where worlds put their files; emptied after each.
    :param log: the file that the standard output and error of this process go to.
    """

    def __init__(self, hub: LocalHub, folder: Path, log: Path) -> None:
        self._hub = hub
        self._folder = folder
        self._log = log
        self._worlds = 0
        self._memory = resident_memory()
        self._open_files = _open_files()

    def run(self, plan: Plan) -> Outcome:
        """Run a plan in a new world, and stop after the first step that violates an invariant."""
        self._worlds += 1
        folder = self._folder / f"world{self._worlds}"
        # Each run of a plan has its own names, because the Hub keeps the repositories of earlier runs.
        repositories = [{**each, "name": f"{each['name']}-{self._worlds}"} for each in plan["repositories"]]
        outcome = Outcome()
        started = time.monotonic()
        saboteur = Saboteur(self._hub)
        self._hub.log.clear()
        try:
            with World(self._hub, folder, self._log, repositories) as world:
                for number, step in enumerate(plan["steps"]):
                    self._step(world, saboteur, step, number, outcome)
                    if outcome.violations:
                        break
        finally:
            saboteur.close()
            remove(folder)
            gc.collect()  # sockets of sessions that are garbage
            outcome.seconds = time.monotonic() - started
        return outcome

    def new_open_files(self) -> int:
        """Return how many more files and sockets are open than at the start, without those that are garbage."""
        new = _open_files() - self._open_files
        if new > MOST_NEW_FILES:
            gc.collect()
        return _open_files() - self._open_files

    def _step(self, world: World, saboteur: Saboteur, step: Step, number: int, outcome: Outcome) -> None:
        world.model.begin_step()
        work = work_of(world, step, number)
        if work is None:
            return
        outcome.steps += 1
        outcome.operations[step["do"]] += 1
        api = ExecutionApi()
        run = _Step(self, world, saboteur, step, number, work, api, outcome)
        for index, task in enumerate(work.build()):
            if not run.task(index, task.task_id):
                return


class _Step:
    """One step while it runs: its tasks share XComs, and the changes that may have been made so far."""

    def __init__(
        self,
        simulation: Simulation,
        world: World,
        saboteur: Saboteur,
        step: Step,
        number: int,
        work: Work,
        api: ExecutionApi,
        outcome: Outcome,
    ) -> None:
        self._simulation = simulation
        self._world = world
        self._saboteur = saboteur
        self._step = step
        self._number = number
        self._work = work
        self._api = api
        self._outcome = outcome
        self._others: list[Change] = []
        self._possible: list[Change] = []
        self._made: list[Change] = []
        # What each source has contained, oldest first: all of it may have been uploaded.
        self._sources: dict[str, list[Tree]] = {each: [files_below(work.sources[each])] for each in work.sources}
        self._before = files_below(work.folder) if work.folder else {}

    def task(self, index: int, task_id: str) -> bool:
        """Run one task until it succeeds; return whether the step goes on."""
        faults = [fault for fault in self._step["faults"] if fault["task"] == index]
        is_forked = any(fault.get("event") in ("SIGTERM", "SIGKILL") for fault in faults)
        target = Target(self._commit, lambda seed: self._change_source(task_id, seed))
        self._saboteur.arm(faults, target)
        was_killed = False
        try:
            for try_number in range(1, NOISY_TRIES + 2):
                is_quiet = try_number > NOISY_TRIES or not faults
                if try_number > NOISY_TRIES:
                    if self._step["gives_up"]:
                        return False
                    self._saboteur.disarm()
                if task_id in self._sources:
                    # What the source contained before this try is not what it may report as uploaded.
                    self._sources[task_id] = self._sources[task_id][-1:]
                self._world.hub.log.clear()
                started = time.monotonic()
                ended = self._try(index, task_id, try_number, target if is_forked and try_number == 1 else None)
                seconds = time.monotonic() - started
                was_killed |= ended.state == "killed"
                self._outcome.tries += 1
                self._outcome.trace.append(
                    f"step {self._number} {self._step['do']}, {task_id}, try {try_number}: {ended.state} "
                    f"{'/'.join(ended.error[:1])} {ended.message[:160]} ({seconds:.2f} s)"
                )
                facts = self._facts(task_id, ended, seconds, is_quiet=is_quiet, was_killed=was_killed)
                found = violations(facts)
                self._outcome.requests += len(facts.requests)
                if found:
                    self._outcome.violations += [(self._number, each) for each in found]
                    return False
                if ended.state in SUCCESS:
                    return ended.state == "success"
            return False
        finally:
            self._saboteur.disarm()
            self._outcome.faults.update(map(kind, self._saboteur.acted()))

    def _try(self, index: int, task_id: str, try_number: int, target: Target | None) -> _Ended:
        for key in [key for key in self._api.xcoms if key[0] == task_id]:
            del self._api.xcoms[key]  # as Airflow does before each try
        operator = self._work.build()[index]
        if target is None:
            return _run(operator, self._api, try_number)
        return _run_forked(operator, self._api, try_number, target)

    def _facts(self, task_id: str, ended: _Ended, seconds: float, *, is_quiet: bool, was_killed: bool) -> Facts:
        world, work = self._world, self._work
        if task_id in self._sources:
            self._remember_source(task_id)
        alternatives = self._alternatives(task_id)
        self._possible += [
            each for group in alternatives for each in group if each not in [*self._possible, *self._made]
        ]
        repos = {}
        for repo in world.repos:
            name = name_of(repo)
            before, trees = world.model.trees[name], world.new_trees(repo)
            changes = [change for change in [*self._possible, *self._others] if change.repo == name]
            done = [group for group in alternatives if ended.state == "success" and group[0].repo == name]
            repos[name] = RepoFacts(before, trees, changes, done, repo.is_bucket)
            if not repo.is_bucket:
                # What was committed once must not be committed again by the next try.
                for tree in trees:
                    made = next((change for change in changes if change.apply(before) == tree), None)
                    if made in self._possible:
                        self._possible.remove(made)
                        self._made.append(made)
                    before = tree
            world.model.settle(name, trees)
        folder = files_below(work.folder) if work.folder else {}
        versions = work.readable()
        known = {
            path: [tree[path] for tree in [self._before, *versions] if path in tree]
            for path in {*self._before, *(path for tree in versions for path in tree)}
        }
        kept = {".gitattributes", MIRROR_RECORD}
        leftovers = [path for path in folder if path not in known and path not in kept]
        leftovers += [f"temporary/{path}" for path in files_below(world.temporary)]
        results = {key[0]: value for key, value in self._api.xcoms.items() if key[1] == "return_value"}
        is_done = ended.state == "success" and task_id == work.build()[-1].task_id
        return Facts(
            state=ended.state,
            error=ended.error,
            message=ended.message,
            is_quiet=is_quiet,
            was_killed=was_killed,
            faults=self._saboteur.acted(),
            repos=repos,
            folder={path: each for path, each in folder.items() if path not in kept and path not in leftovers},
            known=known,
            leftovers=leftovers,
            printed=world.printed() + ended.shown,
            secrets=world.secrets(),
            requests=world.hub.log.requests(),
            may_write=work.may_write,
            seconds=seconds,
            new_memory=resident_memory() - self._simulation._memory,
            new_files=self._simulation.new_open_files(),
            checks=work.check(results) if is_done else (),
        )

    def _commit(self, seed: int) -> None:
        """Commit a file as somebody else, to a path that no task writes."""
        repo = self._world.repos[self._step["repo"]]
        name, path = name_of(repo), f"others/{seed}.bin"
        new = content({"size": 600, "seed": seed, "text": False})
        self._others.append(Change(name, {path: new}))
        stored = self._world.hub.content.add_plain(new, repository=name)
        if not repo.is_bucket:
            put = PutXet(path, stored.xet_hash, stored.sha256 or "", stored.size)
            self._world.hub.commits.commit(name, "main", [put], title="somebody else")

    def _alternatives(self, task_id: str) -> list[list[Change]]:
        """Return what the task does, change by change, as the alternatives that follow from changes of its sources."""
        changes_of = self._work.changes.get(task_id)
        if changes_of is None:
            return []
        combined = [dict(zip(self._sources, each)) for each in itertools.product(*self._sources.values())]
        return [list(group) for group in zip(*map(changes_of, combined))]

    def _remember_source(self, task_id: str) -> None:
        content = files_below(self._work.sources[task_id])
        if content != self._sources[task_id][-1]:
            self._sources[task_id].append(content)

    def _change_source(self, task_id: str, seed: int) -> None:
        """Let somebody else write a file of the source, or remove it, while the task runs."""
        if task_id not in self._sources:
            return
        files = sorted(path for path in self._work.sources[task_id].rglob("*") if path.is_file())
        if seed == REMOVE:
            if len(files) > 1:  # an empty source would fail for good
                files[0].unlink()
        else:
            is_text = files[0].suffix in (".csv", ".md")
            files[0].write_bytes(content({"size": 2_000, "seed": seed, "text": is_text}))
        self._remember_source(task_id)


def _run(operator: Any, api: ExecutionApi, try_number: int) -> _Ended:
    run = run_one(operator, api=api, try_number=try_number)
    error = run.error
    shown = json.dumps([run.xcoms, run.rendered], default=str) + repr(error)
    return _Ended(run.state, [each.__name__ for each in type(error).__mro__] if error else [], str(error or ""), shown)


def _run_forked(operator: Any, api: ExecutionApi, try_number: int, target: Target) -> _Ended:
    """Run a try in a process of its own, as Airflow does, so that it can be killed."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(readable)
            ended = _run(operator, api, try_number)
            xcoms = [[*key, value] for key, value in api.xcoms.items()]
            report = json.dumps({"ended": vars(ended), "xcoms": xcoms, "state": api.state})
            with os.fdopen(writable, "w") as pipe:
                pipe.write(report)
        finally:
            os._exit(0)
    os.close(writable)
    target.child.append(child)
    with os.fdopen(readable) as pipe:
        report = pipe.read()
    target.child.clear()
    _, status = os.waitpid(child, 0)
    if not report:
        return _Ended("killed", ["Killed"], f"status {status}", "")
    found: Mapping[str, Any] = json.loads(report)
    api.xcoms = {(task, key, index): value for task, key, index, value in found["xcoms"]}
    api.state = found["state"]
    return _Ended(**found["ended"])


def _open_files() -> int:
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))
    return 0
