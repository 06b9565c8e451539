"""Run the DAGs of the cases and the example DAGs, and send webhooks; note what is not as it should be."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from demo import services
from leaks.cases import Case, answer, page
from leaks.search import Piece
from leaks.stage import Stage
from leaks.visitors import Visitor
from leaks.watch import Watch
from leaks.world import WEBHOOK_SECRET, World
from support.builders import TEXT, binary, write
from support.celery_airflow import FINISHED
from support.webhook_bodies import pushed
from xethub_local.control.faults import Fault

PATIENCE = 420.0
"""Seconds within which some task must end."""
_AT_ONCE = 5
"""DAG runs at a time: the scheduler examines each of them in each of its rounds."""
_UNFINISHED = {"state": ["queued", "running"], "limit": 100}

QUICK_EXAMPLES = ("xethub_quickstart", "xethub_keyless", "xethub_hand_over", "xethub_recipient")
PLANTED = "leaks_planted"
"""The DAG that leaks on purpose."""
BY_ASSETS = ("xethub_nightly_consumer", "xethub_release_consumer", "xethub_watch")
"""Examples that others start."""


class StandsStillError(Exception):
    """No task ends any more."""


@dataclass(frozen=True)
class _Run:
    dag_id: str
    conf: dict[str, Any]
    judge: Callable[[], object]
    waits: bool = False


class Play:
    """What happens in a run.

    :ivar problems: what did not happen as it should.
    :ivar states: how many tasks ended in which state.
    :ivar reached: the cases whose tasks all ended, after they met the faults of the case.
    :ivar examples: the example DAGs that ended as they should.
    """

    def __init__(self, stage: Stage, world: World, watch: Watch, admin: Visitor, say: Callable[[str], None]) -> None:
        self.stage = stage
        self.watch = watch
        self.world = world
        self.admin = admin
        self.say = say
        self.runs: dict[str, list[str]] = {}
        self.problems: list[str] = []
        self.states: Counter[str] = Counter()
        self.reached: list[str] = []
        self.examples: list[str] = []
        self.webhook_answers: list[Piece] = []
        self._next: deque[_Run] = deque()
        self._running: list[_Run] = []
        self._ended = (0, time.monotonic())

    # -- everything, a few DAGs at a time

    def run(self, *, is_quick: bool) -> None:
        """Run the DAGs of all cases and the examples; meanwhile, let go wrong what waits in the triggerer."""
        by_assets = () if is_quick else BY_ASSETS
        try:
            self._run(self._examples(is_quick=is_quick), by_assets)
        except StandsStillError as error:
            self.problems.append(str(error))
        if missed := [case.name for case in self.world.cases if case.name not in self.reached]:
            self.problems.append(f"These cases were not reached: {', '.join(missed)}.")

    def _run(self, examples: list[tuple[str, dict[str, Any]]], by_assets: Sequence[str]) -> None:
        cases = [
            _Run(case.dag_id, {}, partial(self._judge_case, case), case.tasks == "waiting") for case in self.world.cases
        ]
        others = [run for run in cases if not run.waits]
        self._next.append(_Run(PLANTED, {"planted": self.world.planted}, partial(self._count, PLANTED), True))
        self._next.extend(run for run in cases if run.waits)
        self._start(len(self._next))
        for dag_id in by_assets:
            self._until_known(dag_id)
            self.admin.patch(f"/dags/{dag_id}", {"is_paused": False})
        # The examples do not have to wait for all of the cases.
        self._next.extend(others[:2])
        self._next.extend(_Run(dag_id, conf, partial(self._judge_example, dag_id)) for dag_id, conf in examples)
        self._next.extend(others[2:])
        self._plant()
        self._fail_while_waiting([case for case in self.world.cases if case.tasks == "waiting"])
        self._until(lambda: not self._running, "the end of all DAGs")
        for dag_id in by_assets:
            self._until(partial(self._run_ids, dag_id), f"a run of {dag_id}")
            self.runs[dag_id] = self._run_ids(dag_id)
            self._until(partial(self._is_over, dag_id), f"the end of {dag_id}")
            self._judge_example(dag_id)
        if unknown := self.all_examples() - set(self.examples):
            self.problems.append(f"These example DAGs did not succeed: {', '.join(sorted(unknown))}.")
        self._until(
            lambda: not self.admin.get("/dags/~/dagRuns", **_UNFINISHED)["total_entries"], "what assets started"
        )

    def _turn(self) -> None:
        """Judge the DAGs that have ended, and start the next ones."""
        active = {run["dag_id"] for run in self.admin.get("/dags/~/dagRuns", **_UNFINISHED)["dag_runs"]}
        for run in [run for run in self._running if run.dag_id not in active and self._is_over(run.dag_id)]:
            self._running.remove(run)
            run.judge()
        self._start(_AT_ONCE - sum(not run.waits for run in self._running))

    def _start(self, count: int) -> None:
        for _ in range(min(count, len(self._next))):
            run = self._next.popleft()
            self.start(run.dag_id, run.conf)
            self._running.append(run)

    def _judge_case(self, case: Case) -> None:
        states = self._count(case.dag_id)
        failed = sum(state == "failed" for state in states.values())
        before = len(self.problems)
        if case.fails != bool(failed):
            wrong = [f"{name} {state}" for name, state in states.items() if (state == "failed") != case.fails]
            self.problems.append(f"{case.dag_id} should {'' if case.fails else 'not '}fail: {', '.join(wrong)}")
        if case.faults and case.tasks != "waiting" and not self.world.faults_acted(case):
            self.problems.append(f"No request of {case.dag_id} met its fault.")
        if len(self.problems) == before and states:
            self.reached.append(case.name)

    def _judge_example(self, dag_id: str) -> None:
        states = self._count(dag_id)
        if wrong := [f"{task} {state}" for task, state in states.items() if state not in ("success", "skipped")]:
            self.problems.append(f"{dag_id} did not succeed: {', '.join(wrong)}")
        else:
            self.examples.append(dag_id)

    def _count(self, dag_id: str) -> dict[str, str]:
        states = self.states_of(dag_id)
        self.states.update(states.values())
        found = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items()))
        self.say(f"{dag_id}: {found or 'no task'}")
        return states

    def _plant(self) -> None:
        """Let the credential that a DAG planted be seen where it is only for a while."""
        planted, plan = self.world.planted, plan_of_planted(self.stage, self.world)
        self.admin.ask("GET", f"/api/v2/version?planted={planted}")  # for the log of the API server
        for place in ("environments", "command lines"):
            self._until(partial(self.watch.has_seen, place, planted.encode()), f"{PLANTED} in {place}")
        Path(plan["seen"]).touch()
        self._until(lambda: set(self.states_of(PLANTED).values()) == {"deferred"}, f"{PLANTED} waits")
        rounds = self.watch.rounds
        self._until(lambda: self.watch.rounds > rounds + 1, "another look at the triggers")
        Path(plan["triggers"], planted).touch()

    def _fail_while_waiting(self, cases: list[Case]) -> None:
        def states(case: Case) -> set[str]:
            return set(self.states_of(case.dag_id).values())

        def waits(case: Case) -> bool:
            return states(case) == {"deferred"} or bool(states(case) & FINISHED)

        def met(case: Case) -> bool:
            return self.world.faults_acted(case) >= 3 or "deferred" not in states(case)

        for case in cases:
            self._until(partial(waits, case), f"{case.dag_id}: everything waits")
            if states(case) != {"deferred"}:
                self.problems.append(f"{case.dag_id} ended before anything failed.")
            self.world.go_wrong(case)
        for case in cases:
            self._until(partial(met, case), f"faults of {case.name}")
            if not self.world.faults_acted(case):
                self.problems.append(f"No request of {case.dag_id} met its fault.")
        for case in cases:
            if case.ends:
                self._until(partial(self._is_over, case.dag_id), f"{case.dag_id} ends")
            self.world.let_it_happen(case)

    def check_core_dumps(self) -> str:
        """Check what a task reported: core dumps are possible, but not while it has a token. Return what was shown."""
        runs = self.runs.get("leaks_healthy", [])
        told = self.admin.xcom("leaks_healthy", runs[0], "core_dumps") if runs else None
        if not told or told["during"] != {"limit": 0, "dumpable": 0}:
            self.problems.append(f"Core dumps are on while a task has a token: {told}")
        elif told["before"]["limit"] == 0 and resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
            return "Core dumps: this machine forbids them, so nothing is shown."
        elif told["before"]["limit"] == 0 or told["after"] != told["before"]:
            self.problems.append(f"Core dumps are never on here, so that nothing is shown: {told}")
        else:
            return "Core dumps: possible, but not while a task has a token."
        return "Core dumps: see above."

    # -- the examples

    def _examples(self, *, is_quick: bool) -> list[tuple[str, dict[str, Any]]]:
        """Return the example DAGs with their parameters, in the order of what they need of each other."""
        folder = self.stage.folder / "examples"
        first = write(folder / "penguins", {f"{number}.bin": binary(seed=f"penguin {number}") for number in range(2)})
        write(first, {"penguins.csv": TEXT})
        model = write(folder / "model", {"weights.bin": binary(seed="new"), "config.json": b'{"model_type": "tiny"}'})
        write(self.stage.folder / "home", {"nightly/photos/a.bin": binary(seed="photo"), "nightly/photos/b.csv": TEXT})
        back = str(folder / "back")
        (work := folder / "handed").mkdir(parents=True)
        confs: list[tuple[str, dict[str, Any]]] = [
            ("xethub_quickstart", {"folder": str(first), "destination": f"{back}/quickstart"}),
            ("xethub_keyless", {"source": str(first), "destination": f"{back}/keyless"}),
            (
                "xethub_hand_over",
                {
                    "python": sys.executable,
                    "program": str(services.ROOT / "docs/examples/hand_over/transfer.py"),
                    "file": str(first / "0.bin"),
                    "path_in_repo": "handed.bin",
                },
            ),
            (
                "xethub_recipient",
                {"repo_id": "local/corpus", "file": str(first / "1.bin"), "work": str(work), "bin": self._bin()},
            ),
        ]
        if not is_quick:
            confs += [
                ("xethub_upload", {"folder": str(model)}),
                ("xethub_download", {"destination": f"{back}/download"}),
                ("xethub_cache", {"cache": f"{back}/cache"}),
                ("xethub_sensor", {"destination": f"{back}/sensor/"}),
                ("xethub_token", {"file": str(model / "weights.bin")}),
                ("xethub_token_only", {"repo_id": "local/model", "destination": f"{back}/token-only"}),
                ("xethub_commit", {"folder": str(model)}),
                ("xethub_mirror", {"source": str(first), "destination": f"{back}/mirror"}),
                ("xethub_nightly", {}),
                ("xethub_release", {"folder": str(first), "version": "v1"}),
                ("xethub_repositories", {"folder": str(first)}),
                ("xethub_retention", {"folder": str(first)}),
                ("xethub_transform", {}),
                ("xethub_object_storage", {"inbox": f"file://{first}/", "outbox": f"file://{back}/outbox/"}),
            ]
        return confs

    def _bin(self) -> str:
        """Make what the example of a recipient has in its container; each new private key is noted."""
        folder = self.stage.folder / "bin"
        folder.mkdir()
        keys = self.world.recipient_keys
        keys.mkdir()
        (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (folder / "transfer.py").symlink_to(services.ROOT / "docs/examples/hand_over/transfer.py")
        # The key is noted where nothing is searched.
        (folder / "xethub-token").write_text(
            f'#!/bin/sh\n{services.BIN}/xethub-token "$@" || exit\n[ "$1" != new-key ] || cp "$3" {keys}/$$.json\n'
        )
        for name in ("python", "xethub-token"):
            (folder / name).chmod(0o755)
        return str(folder)

    # -- webhooks and the connection test

    def send_webhooks(self) -> None:
        """Send webhooks with the right and with a wrong secret, while the Hub answers and while it fails."""
        hub = self.world.hubs["webhooks"]
        before, after = self.world.pushed
        faults = (None, answer(401), answer(500), page(), Fault(".*", drop=True), Fault("GET .*", truncate=10))
        for number, fault in enumerate(faults):
            hub.faults.clear()
            if fault:
                hub.faults.add(fault)
            body = pushed(self.world.pushed_repo, before, after if not number else f"{number}" * 40)
            bodies = {"json": body}, {"data": b"{not json " + WEBHOOK_SECRET.encode()}
            for secret in (WEBHOOK_SECRET, WEBHOOK_SECRET[:-1] + "x"):
                for content in bodies:
                    headers = {"X-Webhook-Secret": secret, "Content-Type": "application/json"}
                    piece = self.admin.ask("POST", "/xethub/webhook", headers=headers, **content)
                    self.webhook_answers.append(Piece("webhooks", piece.name, piece.content))
        hub.faults.clear()

    def test_connections(self) -> list[Piece]:
        """Press the Test button of each connection."""
        return [self.admin.ask("POST", "/api/v2/connections/test", json=fields) for fields in self.world.connections()]

    # -- runs of DAGs

    def start(self, dag_id: str, conf: dict[str, Any]) -> None:
        """Start a run, as soon as the DAG is known."""
        self._until_known(dag_id)
        self.runs.setdefault(dag_id, []).append(self.admin.start_run(dag_id, conf))

    def states_of(self, dag_id: str) -> dict[str, str]:
        """Return the states of the tasks of the last run."""
        path = f"/dags/{dag_id}/dagRuns/{self.runs[dag_id][-1]}/taskInstances"
        tasks = self.admin.get(path, limit=1000)["task_instances"]
        return {f"{task['task_id']}[{task['map_index']}]".replace("[-1]", ""): task["state"] or "" for task in tasks}

    def _is_over(self, dag_id: str) -> bool:
        state = self.admin.get(f"/dags/{dag_id}/dagRuns/{self.runs[dag_id][-1]}")["state"]
        return state in FINISHED and set(self.states_of(dag_id).values()) <= FINISHED

    def all_examples(self) -> set[str]:
        """Return the example DAGs that Airflow knows."""
        dags = self.admin.get("/dags", limit=100)["dags"]
        return {dag["dag_id"] for dag in dags if dag["dag_id"].startswith("xethub_")}

    def all_runs(self) -> dict[str, list[str]]:
        """Return the runs of all DAGs, also of those that assets started."""
        dags = self.admin.get("/dags", limit=100)["dags"]
        return {dag["dag_id"]: run_ids for dag in dags if (run_ids := self._run_ids(dag["dag_id"]))}

    def _run_ids(self, dag_id: str) -> list[str]:
        return [run["dag_run_id"] for run in self.admin.get(f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]]

    def _until_known(self, dag_id: str) -> None:
        self._until(lambda: self.admin.get(f"/dags/{dag_id}"), f"DAG {dag_id}", turns=False)

    def _until(self, check: Callable[[], Any], what: str, *, turns: bool = True) -> None:
        """Wait, and let the other DAGs go on.

        :param turns: whether DAGs may start meanwhile.
        :raises StandsStillError: nothing ended for too long.
        """
        self._ended = (-1, time.monotonic())
        examined = time.monotonic()
        while not check():
            if turns:
                self._turn()
            if time.monotonic() > examined + 10:
                self._require_progress(what)
                examined = time.monotonic()
            time.sleep(1)

    def _require_progress(self, what: str) -> None:
        path = "/dags/~/dagRuns/~/taskInstances"
        ended = self.admin.get(path, state=sorted(FINISHED), limit=1)["total_entries"]
        if ended != self._ended[0]:
            self._ended = (ended, time.monotonic())
        elif time.monotonic() - self._ended[1] > PATIENCE:
            running = ", ".join(run.dag_id for run in self._running)
            raise StandsStillError(
                f"Nothing has ended for {PATIENCE:.0f} s, while waiting for: {what}. "
                f"{len(self._next)} DAGs were not started; these have not ended: {running}."
            )


def plan_of_planted(stage: Stage, world: World) -> dict[str, Any]:
    """Return what the DAG that plants a credential has to know."""
    folder = stage.folder
    names = ("temporary", "home", "manifests", "downloads", "logs/hf_xet")
    return {
        "credential": world.planted,
        "folders": [*(str(folder / name) for name in names), str(world.identity_files)],
        "seen": str(folder / "planted-seen"),
        "triggers": str(folder),
    }


def operators_in(database: Path) -> set[str]:
    """Return the classes of all tasks that were run, and the names of their decorators."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT DISTINCT operator, custom_operator_name FROM task_instance WHERE start_date IS NOT NULL"
        )
        return {name for names in rows for name in names}
