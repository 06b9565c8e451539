"""Runs cells: a task whose requests of one step fail, with Airflow's retries, and then once without the fault."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import session
from airflow_provider_xethub.xet.hub import bucket_events, client
from airflow_provider_xethub.xet.hub.api import calls
from airflow_provider_xethub.xet.network import bounded_answers
from airflow_provider_xethub.xet.publish import commit, pull_requests
from airflow_provider_xethub.xet.wait import conditions, poller
from faults import tries
from faults.columns import COLUMNS, Duration
from faults.invariants import Facts, violations
from faults.matrix import Cell, Outcome
from faults.results import Effects, Result, Undisturbed
from faults.rows import Case, Row
from faults.steps import Step, steps_of
from faults.world import World
from simulation.attempts import Attempt
from support.airflow_runs import ExecutionApi
from support.secret_values import HEADER
from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub

EXTRAS = {"timeout": 2, "stall_timeout": 2, "secret_headers": json.dumps({"X-Proxy-Key": HEADER})}
"""Of the connection. A busy machine needs more than the second that is the least."""

IMPATIENT: tuple[tuple[Any, str, Any], ...] = (
    (client, "FIRST_DELAY", 0.01),
    (client, "RETRY_BUDGET", 5.0),
    (session, "RETRIES", 1),
    (session, "RETRY_DELAY", "20ms"),
    (calls, "CALL_TIMEOUT", 2.0),
    (commit, "COMMIT_TIMEOUT", 2.0),
    (pull_requests, "COMMIT_TIMEOUT", 2.0),
    (progress, "CHECK_INTERVAL", 0.1),
    (progress, "STALL_TIMEOUT", 2.0),  # of tasks without a connection
    (bounded_answers, "DEADLINE_FACTOR", 3.0),
    (poller, "MIN_INTERVAL", 0.05),
    (conditions, "MAX_DELAY", 0.1),
    (bucket_events, "MIN_RECONNECT_SECONDS", 0.1),
    (bucket_events, "MAX_RECONNECT_SECONDS", 0.2),
)
"""Settings of the provider that say how long it waits, and what they are here: nothing tests patience."""

TRIES = {"once": 2, "lasting": 1}
"""How often a request is sent. Where its fault lasts, a second time would show nothing more."""

SUCCESS = ("success", "skipped", tries.WAITS)


@contextmanager
def impatient() -> Iterator[None]:
    """Let the provider wait as briefly as possible."""
    before = [(module, name, vars(module)[name]) for module, name, _ in IMPATIENT]
    for module, name, value in IMPATIENT:
        vars(module)[name] = value
    tries_before = client.MAX_TRIES
    try:
        yield
    finally:
        client.MAX_TRIES = tries_before
        for module, name, value in before:
            vars(module)[name] = value


class Lab:
    """Runs the cells of this process, one after the other.

    :param hub: it is running.
    :param folder: for the files of cells.
    :param log: the file that the output of this process goes to.
    """

    def __init__(self, hub: LocalHub, folder: Path, log: Path) -> None:
        self._hub = hub
        self._folder = folder
        self._log = log
        self._cells = 0

    def undisturbed(self, row: Row) -> Undisturbed:
        """Run a row without faults.

        :raises RuntimeError: it does not succeed.
        """
        with self._world() as world:
            run = _Run(world, row)
            attempt = run.attempt(1)
            if attempt.state not in SUCCESS:
                raise RuntimeError(f"{row.name} fails without faults: {attempt.error[:1]} {attempt.message}")
            run.end()
            return Undisturbed(row.name, steps_of(self._hub.log.requests()), world.effects(), run.value())

    def cell(self, row: Row, step: Step, column: str, duration: Duration, normal: Undisturbed) -> Result:
        """Run a cell."""
        with self._world() as world:
            run = _Run(world, row)
            log_position = self._log.stat().st_size
            times = 1 if duration == "once" else None
            fault = Fault(step.pattern, skip=step.skip, times=times, **COLUMNS[column].fields)
            run.arm(fault, duration)
            ended: list[Attempt] = []
            while len(ended) <= tries.RETRIES:
                ended.append(run.attempt(len(ended) + 1))
                if ended[-1].state in SUCCESS or ended[-1].state == "failed":
                    break
            run.end()
            acted = max(run.acted, self._hub.faults.acted(fault))
            requests = len(self._hub.log.requests())
            self._hub.faults.clear()
            after = world.effects()
            value = run.value()
            last = ended[-1]
            cleared: Attempt | None = None
            if last.state not in SUCCESS:
                client.MAX_TRIES = TRIES["once"]
                cleared = run.attempt(len(ended) + 1)
                value = run.value()
            final = world.effects()
            facts = Facts(
                row=row.name,
                column=column,
                step=step,
                attempts=ended,
                cleared=cleared,
                before=run.before,
                after=after,
                final=final,
                undisturbed=normal.after,
                value=value,
                expected_value=normal.value,
                printed=self._printed(log_position),
                secrets=world.secrets(),
            )
            cell = Cell(
                outcome=_outcome(last, len(ended), acted),
                retries=len(ended) - 1,
                requests=0 if row.waits else requests,
                error=world.normalise(f"{last.error[0]}: {last.message}")[: _error_length(last)] if last.error else "",
                effects=_effects(*(_recorded(each, normal.after) for each in (run.before, after, normal.after))),
            )
            trace = [f"{each.state} {'/'.join(each.error[:1])} {each.message}" for each in [*ended, cleared] if each]
            timed_out = any({"AirflowTaskTimeout", "Lost"} & {*each.error} for each in [*ended, cleared] if each)
            return Result(row.name, step, f"{column} {duration}", cell, violations(facts), trace, timed_out)

    @contextmanager
    def _world(self) -> Iterator[World]:
        self._cells += 1
        connection = json.dumps(
            {"conn_type": "xethub", "host": self._hub.url, "password": self._hub.token(), "extra": EXTRAS}
        )
        folder = self._folder / f"cell{self._cells:05}"
        # Seeds are equally long, because texts contain them, and results their sizes.
        seed = f"{self._folder.name} {self._cells:05}"
        with World(self._hub, folder, seed, connection) as world:
            yield world

    def _printed(self, position: int) -> str:
        sys.stdout.flush()
        with self._log.open("rb") as file:
            file.seek(position)
            return file.read().decode(errors="replace")


class _Run:
    """The tries of one task in a world."""

    def __init__(self, world: World, row: Row) -> None:
        self._world = world
        self._row = row
        self._hub = world.hub
        self._case: Case = row.prepare(world)
        self._api = ExecutionApi(xcoms={(task, "return_value", -1): value for task, value in self._case.xcoms.items()})
        self._meanwhile: threading.Thread | None = None
        self._over = threading.Event()
        self._value: Any = None
        self._fault: Fault | None = None
        self._is_lasting = False
        self.acted = 0
        client.MAX_TRIES = TRIES["once"]
        self._hub.log.clear()
        self.before = world.effects()

    def arm(self, fault: Fault, duration: Duration) -> None:
        self._fault = self._hub.faults.add(fault)
        self._is_lasting = duration == "lasting"
        client.MAX_TRIES = TRIES[duration]

    def attempt(self, number: int) -> Attempt:
        if self._case.meanwhile and self._meanwhile is None:
            self._meanwhile = threading.Thread(target=self._work, daemon=True)
            self._meanwhile.start()
        self._value = None
        if self._case.trigger is not None:
            attempt, self._value = tries.run_trigger(
                self._case.trigger(), self._failures, self._end_fault, self._is_lasting
            )
            return attempt
        assert self._case.task is not None
        attempt = tries.run_operator(self._case.task, self._api, number)
        if attempt.state in SUCCESS:
            self._value = self._api.xcoms.get(("it", "return_value", -1))
        return attempt

    def value(self) -> Any:
        return plain(self._value, self._world)

    def end(self) -> None:
        """Wait for what happens meanwhile."""
        self._over.set()
        if self._meanwhile:
            self._meanwhile.join()

    def _work(self) -> None:
        """Do what others do once the task has polled."""
        assert self._case.meanwhile
        while not self._hub.log.requests(self._case.polls) and not self._over.wait(0.01):
            pass
        self._case.meanwhile()

    def _failures(self) -> int:
        return self._hub.faults.acted(self._fault) if self._fault else 0

    def _end_fault(self) -> None:
        self.acted = self._failures()
        self._hub.faults.clear()


_VOLATILE = {
    "seconds",
    "expires_at",
    "sealed",
    "sample",
    "date",
    "sealed_content",
    "sealed_sample",
    "transfer",
    "url",
    "bytes_received",
    "bytes_sent",
}


def plain(value: Any, world: World) -> Any:
    """Return a result without what differs from run to run."""
    if isinstance(value, Mapping):
        return {name: plain(each, world) for name, each in value.items() if name not in _VOLATILE}
    if isinstance(value, list):
        return [plain(each, world) for each in value]
    return world.normalise(value) if isinstance(value, str) else value


def _outcome(last: Attempt, count: int, acted: int) -> Outcome:
    if not acted:
        return "not met"
    if last.state == tries.WAITS or "AirflowSensorTimeout" in last.error:
        return "waits"
    if last.state in SUCCESS:
        return "success" if count == 1 else "retried"
    return "final" if last.state == "failed" else "error"


_VISIBLE = 100


def _error_length(last: Attempt) -> int:
    return len(last.error[0]) + 2 + _VISIBLE


def _recorded(effects: Effects, undisturbed: Effects) -> Effects:
    """Return what does not depend on time: which of several files were complete when another one failed does."""
    kept = {key: each for key, each in effects.items() if key != "new xorbs" and not key.startswith("out ")}
    return {**kept, "files on the worker": "all" if _out(effects) == _out(undisturbed) else "some"}


def _out(effects: Effects) -> Effects:
    return {key: each for key, each in effects.items() if key.startswith("out ")}


def _effects(before: Effects, after: Effects, undisturbed: Effects) -> str:
    """Return what a task has changed: ``done`` if as without faults, ``none``, or which facts are other ones."""
    if after == before != undisturbed:
        return "none"
    if after == undisturbed:
        return "done"
    return "; ".join(differences(undisturbed, after))


def differences(expected: Effects, found: Effects) -> list[str]:
    """Return where two worlds differ."""
    keys = sorted({*expected, *found})
    return [
        f"{key}: {found.get(key, 'missing')} instead of {expected.get(key, 'missing')}"
        for key in keys
        if expected.get(key) != found.get(key)
    ]
