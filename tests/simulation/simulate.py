"""Runs one plan: every step's tasks, retried as Airflow retries them, with all invariants checked after each try."""

from __future__ import annotations

import gc
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulation import attempts
from simulation.attempts import Attempt
from simulation.contents import content
from simulation.faults import REMOVE, Saboteur, Target, kind
from simulation.generator import Plan, Step
from simulation.invariants import MOST_NEW_FILES, Facts, RepoFacts, Violation, violations
from simulation.model import Change, Tree
from simulation.operations import MIRROR_RECORD, Work, work_of
from simulation.world import World, files_below, resident_memory
from support.airflow_runs import ExecutionApi
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


class Simulation:
    """Runs plans, one after the other, against one Hub.

    :param hub: it is running.
    :param folder: where worlds put their files; emptied after each.
    :param log: the file that the standard output and error of this process go to.
    """

    def __init__(self, hub: LocalHub, folder: Path, log: Path) -> None:
        self.hub = hub
        self._folder = folder
        self._log = log
        self._worlds = 0
        self.memory = resident_memory()
        self._open_files = _open_files()

    def run(self, plan: Plan) -> Outcome:
        """Run a plan in a new world, and stop after the first step that violates an invariant."""
        self._worlds += 1
        folder = self._folder / f"world{self._worlds}"
        # Each run of a plan has its own names, because the Hub keeps the repositories of earlier runs.
        repositories = [{**each, "name": f"{each['name']}-{self._worlds}"} for each in plan["repositories"]]
        outcome = Outcome()
        started = time.monotonic()
        saboteur = Saboteur(self.hub)
        self.hub.log.clear()
        try:
            with World(self.hub, folder, self._log, repositories) as world:
                for number, step in enumerate(plan["steps"]):
                    self._step(world, saboteur, step, number, outcome)
                    if outcome.violations:
                        break
        finally:
            saboteur.close()
            shutil.rmtree(folder, ignore_errors=True)
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
        ids = [task.task_id for task in work.build()]
        for at_once in [[*enumerate(ids)]] if work.at_once else [[each] for each in enumerate(ids)]:
            if not run.tasks(dict(at_once)):
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
        self._states: dict[str, dict[str, Any]] = {}
        self._others: list[Change] = []
        self._possible: list[Change] = []
        self._made: list[Change] = []
        # What each source has contained, oldest first: all of it may have been uploaded.
        self._sources: dict[str, list[Tree]] = {each: [files_below(work.sources[each])] for each in work.sources}
        self._before = files_below(work.folder) if work.folder else {}

    def tasks(self, ids: dict[int, str]) -> bool:
        """Run tasks, all at the same time, until they succeed; return whether the step goes on.

        :param ids: task IDs by their place in the step.
        """
        faults = [fault for fault in self._step["faults"] if fault["task"] in ids]
        has_kill = any(fault.get("event") in ("SIGTERM", "SIGKILL") for fault in faults)
        target = Target(self._commit, lambda seed: self._change_source([*ids.values()], seed))
        self._saboteur.arm(faults, target)
        killed: set[str] = set()
        pending = dict(ids)
        skipped = False
        try:
            for try_number in range(1, NOISY_TRIES + 2):
                is_quiet = try_number > NOISY_TRIES or not faults
                if try_number > NOISY_TRIES:
                    if self._step["gives_up"]:
                        return False
                    self._saboteur.disarm()
                for task_id in self._sources.keys() & {*pending.values()}:
                    # What the source contained before this try is not what it may report as uploaded.
                    self._sources[task_id] = self._sources[task_id][-1:]
                self._world.hub.log.clear()
                started = time.monotonic()
                is_forked = len(ids) > 1 or (has_kill and try_number == 1)
                ended = self._try(pending, try_number, target if is_forked else None)
                seconds = time.monotonic() - started
                killed |= {task_id for task_id, each in ended.items() if each.state == "killed"}
                self._expect(ended)
                for task_id, each in ended.items():
                    self._outcome.tries += 1
                    self._outcome.trace.append(
                        f"step {self._number} {self._step['do']}, {task_id}, try {try_number}: {each.state} "
                        f"{'/'.join(each.error[:1])} {each.message[:160]} ({seconds:.2f} s)"
                    )
                    facts = self._facts(task_id, each, seconds, is_quiet=is_quiet, was_killed=bool(killed))
                    if any(other.state == "killed" for other in ended.values()):
                        facts.leftovers = ()  # they may be those of the killed one
                    found = violations(facts)
                    self._outcome.violations += [(self._number, violation) for violation in found]
                self._outcome.requests += len(facts.requests)
                if self._outcome.violations:
                    return False
                pending = {place: task_id for place, task_id in pending.items() if ended[task_id].state not in SUCCESS}
                skipped |= any(each.state == "skipped" for each in ended.values())
                if not pending:
                    return not skipped
            return False
        finally:
            self._saboteur.disarm()
            self._outcome.faults.update(map(kind, self._saboteur.acted()))

    def _try(self, ids: dict[int, str], try_number: int, target: Target | None) -> dict[str, Attempt]:
        """Run one try of each task, in processes of their own where ``target`` is given."""
        for key in [key for key in self._api.xcoms if key[0] in ids.values()]:
            del self._api.xcoms[key]  # as Airflow does before each try
        operators = self._work.build()
        ended: dict[str, Attempt] = {}
        running: dict[str, attempts.ForkedAttempt] = {}
        for place, task_id in ids.items():
            self._api.state = self._states.setdefault(task_id, {})  # each task remembers something else
            if target is None:
                ended[task_id] = attempts.run(operators[place], self._api, try_number)
            else:
                running[task_id] = attempts.ForkedAttempt(operators[place], self._api, try_number)
                target.children.append(running[task_id].pid)
        for task_id, each in running.items():
            ended[task_id] = each.wait()
            target.children.remove(each.pid)  # type: ignore[union-attr]  # it is given where anything is running
        return ended

    def _expect(self, task_ids: Iterable[str]) -> None:
        """Remember everything that these tasks may have changed by now."""
        for task_id in task_ids:
            if task_id in self._sources:
                self._remember_source(task_id)
            for group in self._alternatives(task_id):
                self._possible += [each for each in group if each not in [*self._possible, *self._made]]

    def _facts(self, task_id: str, ended: Attempt, seconds: float, *, is_quiet: bool, was_killed: bool) -> Facts:
        world, work = self._world, self._work
        alternatives = self._alternatives(task_id)
        repos = {}
        for repo in world.repos:
            name = name_of(repo)
            before: Tree = world.model.trees[name]
            trees = world.new_trees(repo)
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
            new_memory=resident_memory() - self._simulation.memory,
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
        combined = [dict(zip(self._sources, each, strict=True)) for each in itertools.product(*self._sources.values())]
        return [list(group) for group in zip(*map(changes_of, combined), strict=True)]

    def _remember_source(self, task_id: str) -> None:
        content = files_below(self._work.sources[task_id])
        if content != self._sources[task_id][-1]:
            self._sources[task_id].append(content)

    def _change_source(self, task_ids: Sequence[str], seed: int) -> None:
        """Let somebody else write a file of the first source, or remove it, while the task runs."""
        task_id = next((each for each in task_ids if each in self._sources), None)
        if task_id is None:
            return
        files = sorted(path for path in self._work.sources[task_id].rglob("*") if path.is_file())
        if seed == REMOVE:
            if len(files) > 1:  # an empty source would fail for good
                files[0].unlink()
        else:
            is_text = files[0].suffix in (".csv", ".md")
            files[0].write_bytes(content({"size": 2_000, "seed": seed, "text": is_text}))
        self._remember_source(task_id)


def _open_files() -> int:
    with suppress(OSError):
        return len([*Path("/proc/self/fd").iterdir()])
    return 0
