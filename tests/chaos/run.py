"""Kill servers while the DAG runs, and start them again, until all tasks are over."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos import facts, plan
from chaos.deployment import WORKERS, Fleet
from chaos.plan import Item, Kill
from chaos.servers import command_line, orphans, talks_to, tasks_among
from chaos.verdict import Facts
from demo.services import Airflow
from support.celery_airflow import FINISHED, kill_tree, signal_to, until

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""

AIM = 8.0
"""Seconds that a kill waits for its moment."""

STUCK = 420.0
"""Seconds without any change after which the run is given up: longer than each timeout of Airflow that is involved."""

MOST_LATE = 30.0
"""Seconds that a kill waits for a task to succeed."""

_POLL = 0.2
_PROGRESS = 3.0


@dataclass
class Happened:
    """What was done to the servers.

    :param kills: how often each server was ended, by ``server how``.
    :param by_themselves: how often a server ended by itself.
    :param aimed: kills that hit the moment that they waited for.
    :param tasks_hit: tasks that ran below what was killed.
    """

    kills: Counter[str] = field(default_factory=Counter)
    by_themselves: Counter[str] = field(default_factory=Counter)
    aimed: int = 0
    tasks_hit: int = 0
    seconds: float = 0.0


class Chaos:
    """One run.

    :param fleet: what runs.
    :param seed: what the kills are drawn from.
    :param items: what the DAG uploads.
    :param minutes: no further kill after so many minutes.
    :param say: prints a line.
    """

    def __init__(
        self,
        fleet: Fleet,
        seed: int,
        items: Sequence[Item],
        minutes: float,
        say: Callable[[str], None],
    ) -> None:
        self.happened = Happened()
        self.run_id = ""
        self._fleet = fleet
        self._items = items
        self._minutes = minutes
        self._say_line = say
        self._kills: Iterator[Kill] = plan.kills(seed, WORKERS, fleet.others())
        self._chance = random.Random(f"{seed} moments")
        self._starts: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        self._notes = _Notes(fleet)
        self._done = 0
        self._began = time.monotonic()

    def run(self) -> bool:
        """Run the DAG among kills; return whether all task instances are over."""
        self.run_id = self._start()
        self._began = time.monotonic()
        until(lambda: facts.states(self._fleet, self.run_id).get("running"), 120, "the first task")
        kill = next(self._kills)
        due = time.monotonic() + kill.after
        last_change, changed = None, time.monotonic()
        told = 0.0
        while True:
            now = time.monotonic()
            self._keep_running(now)
            if now - self._began < 60 * self._minutes and now >= due and self._may_kill(now - due):
                self._execute(kill)
                kill = next(self._kills)
                due = time.monotonic() + kill.after
                self._done = self._succeeded()
            if now - told > _PROGRESS:
                told = now
                if self._is_over():
                    break
                if (change := facts.progress(self._fleet, self.run_id)) != last_change:
                    last_change, changed = change, now
                elif now - changed > STUCK:
                    self._say(f"Nothing has changed for {STUCK:.0f} s.")
                    break
            time.sleep(_POLL)
        self.happened.seconds = time.monotonic() - self._began
        return self._is_over()

    def leave(self, patience: float = 60.0) -> list[str]:
        """Wait until the processes of killed workers have ended, then end the servers; return what still ran."""
        deadline = time.monotonic() + patience
        while (left := self._tasks_of_orphans()) and time.monotonic() < deadline:
            time.sleep(0.5)
        running = [command_line(pid).decode(errors="replace") for pid in left]
        for server in self._fleet.servers.values():
            server.kill()
        for pid in self._orphans():
            kill_tree(pid)
        return running

    def _may_kill(self, late: float) -> bool:
        """Return whether any task succeeded since the last kill: on a slow machine none would, if nothing waited."""
        return late > MOST_LATE or self._succeeded() > self._done

    def _succeeded(self) -> int:
        return facts.states(self._fleet, self.run_id).get("success", 0)

    def _start(self) -> str:
        airflow = Airflow(self._fleet.api_url)
        until(lambda: airflow.get("/dags/chaos"), 120, "the DAG")
        conf: Any = plan.conf(self._items, str(self._fleet.sources), str(self._fleet.shared))
        return airflow.start_run("chaos", conf)

    def _is_over(self) -> bool:
        found = facts.states(self._fleet, self.run_id)
        return facts.run_state(self._fleet, self.run_id) in FINISHED and set(found) <= FINISHED

    def _keep_running(self, now: float) -> None:
        """Start again what is due, end what had its time, and notice what ended by itself."""
        self._orphans()
        for name, at in list(self._ends.items()):
            server = self._fleet.servers[name]
            if not server.is_running() or now >= at:
                server.kill()
                del self._ends[name]
        for name, server in self._fleet.servers.items():
            if server.is_running():
                continue
            if name not in self._starts:
                self.happened.by_themselves[name] += 1
                end = server.new_log().strip().splitlines()[-1:] or [""]
                self._say(f"{name} ended by itself with status {server.process.returncode}: {end[0][:200]}")
                self._starts[name] = now + 1.0
            if name not in self._ends and now >= self._starts[name]:
                server.start()
                del self._starts[name]

    def _execute(self, kill: Kill) -> None:
        server = self._fleet.servers[kill.target]
        if not server.is_running():
            return
        moment = self._wait_for(kill.moment) if kill.moment else ""
        tasks = server.tasks() if kill.target in WORKERS else []
        if kill.how == "task":
            if not tasks:
                return
            tasks = [self._victim(tasks)]
            signal_to(tasks[0], signal.SIGKILL)
        elif kill.how == "orphans":
            server.kill_alone()
        elif kill.how == "SIGTERM":
            server.terminate()
            self._ends[kill.target] = time.monotonic() + GRACE
        else:
            server.kill()
            if kill.how == "disk lost":
                server.lose_data()
        if kill.how != "task":
            self._starts[kill.target] = time.monotonic() + kill.down
        self.happened.kills[f"{kill.target} {kill.how}"] += 1
        self.happened.aimed += bool(moment)
        self.happened.tasks_hit += len(tasks)
        parts = [f"{kill.how} {kill.target}"]
        parts += [f"{len(tasks)} running"] if kill.target in WORKERS and kill.how != "task" else []
        parts += [f"during {moment}"] if moment else []
        parts += [f"back after {kill.down:.1f} s"] if kill.how != "task" else []
        self._say(", ".join(parts))

    def _wait_for(self, moment: str) -> str:
        """Wait for a request of this kind, and some milliseconds more; return it, or nothing if there was none."""
        self._notes.skip()
        deadline = time.monotonic() + AIM
        while time.monotonic() < deadline:
            for route in self._notes.begun():
                if re.match(moment, route):
                    time.sleep(self._chance.random() * 0.03)
                    return route[:60]
            time.sleep(0.002)
        return ""

    def _victim(self, tasks: Sequence[int]) -> int:
        """Return the task that talks to the Hub, if there is one."""
        busy = [pid for pid in tasks if talks_to(pid, self._fleet.hub_port)]
        return self._chance.choice(busy or list(tasks))

    def _orphans(self) -> list[int]:
        return orphans(self._fleet.servers.values(), self._fleet.children)

    def _tasks_of_orphans(self) -> list[int]:
        return tasks_among(self._orphans())

    def _say(self, line: str) -> None:
        found = facts.states(self._fleet, self.run_id)
        done, total = found.get("success", 0), sum(found.values())
        waiting = f", {found['deferred']} deferred" if found.get("deferred") else ""
        self._say_line(f"{time.monotonic() - self._began:6.1f} s  {done:>3}/{total} done{waiting}  {line}")


class _Notes:
    """The requests that the local Hub notes in a file, which begins anew with each start."""

    def __init__(self, fleet: Fleet) -> None:
        self._path = fleet.requests_of_hub
        self._position = 0

    def skip(self) -> None:
        """Forget all requests so far."""
        self._position = self._path.stat().st_size if self._path.exists() else 0

    def begun(self) -> list[str]:
        """Return the requests that have begun since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._position:
                self._position = 0
            file.seek(self._position)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._position += len(data)
        lines = (line.split(" ", 2) for line in data.decode("latin-1").splitlines())
        return [parts[2] for parts in lines if len(parts) == 3 and parts[1] == "begins"]


def retries_by_task(found: Facts) -> dict[str, tuple[int, int]]:
    """Return the retries of each task: of all its instances together, and the most of one."""
    retries: dict[str, list[int]] = {}
    for each in found.tasks:
        retries.setdefault(each.task, []).append(max(0, each.tries - 1))
    return {task: (sum(each), max(each)) for task, each in sorted(retries.items()) if any(each)}
