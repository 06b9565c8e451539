"""Run the DAGs of the cases and the example DAGs, and send webhooks; note what is not as it should be."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from demo import services
from leaks.cases import Case, answer, page
from leaks.search import Piece
from leaks.stage import Stage
from leaks.visitors import Visitor
from leaks.world import WEBHOOK_SECRET, World
from support.builders import TEXT, binary, write
from support.celery_airflow import FINISHED
from support.webhook_bodies import pushed
from xethub_local.control.faults import Fault

PATIENCE = 420.0
"""Seconds that one DAG run may take."""

QUICK_EXAMPLES = ("xethub_quickstart", "xethub_keyless", "xethub_hand_over", "xethub_recipient")


class Play:
    """What happens in a run.

    :ivar runs: the runs of each DAG.
    :ivar problems: what did not happen as it should.
    :ivar states: how many tasks ended in which state.
    """

    def __init__(self, stage: Stage, world: World, admin: Visitor, say: Callable[[str], None]) -> None:
        self.stage = stage
        self.world = world
        self.admin = admin
        self.say = say
        self.runs: dict[str, list[str]] = {}
        self.problems: list[str] = []
        self.states: dict[str, int] = {}
        self.webhook_answers: list[Piece] = []

    # -- the cases

    def start_cases(self) -> None:
        """Start the DAGs of all cases."""
        for case in self.world.cases:
            self.start(case.dag_id, {})

    def finish_cases(self) -> None:
        """Wait until all of them have ended; meanwhile, let go wrong what waits in the triggerer."""
        for case in self.world.cases:
            if case.tasks == "waiting":
                self._fail_while_waiting(case)
        for case in self.world.cases:
            states = self.wait(case.dag_id)
            failed = sum(state == "failed" for state in states.values())
            self.say(f"{case.dag_id}: {len(states)} tasks, {failed} failed")
            if case.fails != bool(failed):
                wrong = [f"{name} {state}" for name, state in states.items() if (state == "failed") != case.fails]
                self.problems.append(f"{case.dag_id} should {'' if case.fails else 'not '}fail: {', '.join(wrong)}")
            if case.faults and case.tasks != "waiting" and not self.world.faults_acted(case):
                self.problems.append(f"No request of {case.dag_id} met its fault.")

    def _fail_while_waiting(self, case: Case) -> None:
        def deferred() -> bool:
            states = self.states_of(case.dag_id)
            return bool(states) and set(states.values()) <= {"deferred", "failed"}

        self._until(deferred, f"{case.dag_id}: everything waits")
        self.world.go_wrong(case)
        self._until(lambda: self.world.faults_acted(case) >= 3, f"{case.dag_id} meets its fault")
        if case.ends:
            ended = {"failed", "success"}
            self._until(lambda: ended >= set(self.states_of(case.dag_id).values()), f"{case.dag_id} ends")
        self.world.let_it_happen(case)

    def check_core_dumps(self) -> None:
        """Check what a task reported: core dumps are possible, but not while it has a token."""
        [run_id] = self.runs["leaks_healthy"]
        told = self.admin.xcom("leaks_healthy", run_id, "core_dumps")
        if not told or told["during"] != {"limit": 0, "dumpable": 0}:
            self.problems.append(f"Core dumps are on while a task has a token: {told}")
        elif told["before"]["limit"] == 0 or told["after"] != told["before"]:
            self.problems.append(f"Core dumps are never on here, so that nothing is shown: {told}")
        else:
            self.say(f"core dumps: {told['before']} before a task has a token, {told['during']} with it")

    # -- the examples

    def run_examples(self, *, is_quick: bool) -> None:
        """Run the example DAGs, in the order of what they need of each other."""
        folder = self.stage.folder / "examples"
        first = write(folder / "penguins", {f"{number}.bin": binary(seed=f"penguin {number}") for number in range(2)})
        write(first, {"penguins.csv": TEXT})
        model = write(folder / "model", {"weights.bin": binary(seed="new"), "config.json": b'{"model_type": "tiny"}'})
        write(self.stage.folder / "home", {"nightly/photos/a.bin": binary(seed="photo"), "nightly/photos/b.csv": TEXT})
        back = str(folder / "back")
        (work := folder / "work").mkdir(parents=True)
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
            ]
            # Started by assets.
            for dag_id in ("xethub_nightly_consumer", "xethub_release_consumer", "xethub_watch"):
                self._until_known(dag_id)
                self.admin.patch(f"/dags/{dag_id}", {"is_paused": False})
        for dag_id, conf in confs:
            self.start(dag_id, conf)
        for dag_id, _ in confs:
            states = self.wait(dag_id)
            if wrong := [f"{task} {state}" for task, state in states.items() if state not in ("success", "skipped")]:
                self.problems.append(f"{dag_id} did not succeed: {', '.join(wrong)}")
            self.say(f"{dag_id}: {len(states)} tasks")
        if not is_quick:
            for dag_id in ("xethub_nightly_consumer", "xethub_release_consumer", "xethub_watch"):
                self._until(partial(self._run_ids, dag_id), f"a run of {dag_id}")
                self.runs[dag_id] = self._run_ids(dag_id)
                self.say(f"{dag_id}: {len(self.wait(dag_id))} tasks")

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

    def wait(self, dag_id: str) -> dict[str, str]:
        """Wait until the last run of a DAG has ended, and return the states of its tasks."""

        def over() -> bool:
            state = self.admin.get(f"/dags/{dag_id}/dagRuns/{self.runs[dag_id][-1]}")["state"]
            return state in FINISHED and set(self.states_of(dag_id).values()) <= FINISHED

        self._until(over, f"the end of {dag_id}")
        states = self.states_of(dag_id)
        for state in states.values():
            self.states[state] = self.states.get(state, 0) + 1
        return states

    def all_runs(self) -> dict[str, list[str]]:
        """Return the runs of all DAGs, also of those that assets started."""
        dags = self.admin.get("/dags", limit=100)["dags"]
        return {dag["dag_id"]: run_ids for dag in dags if (run_ids := self._run_ids(dag["dag_id"]))}

    def _run_ids(self, dag_id: str) -> list[str]:
        return [run["dag_run_id"] for run in self.admin.get(f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]]

    def _until_known(self, dag_id: str) -> None:
        self._until(lambda: self.admin.get(f"/dags/{dag_id}"), f"DAG {dag_id}")

    def _until(self, check: Callable[[], Any], what: str) -> None:
        """Wait; if it takes too long, note it as a problem, and go on."""
        deadline = time.monotonic() + PATIENCE
        while not check():
            if time.monotonic() > deadline:
                self.problems.append(f"{what}: not within {PATIENCE:.0f} s")
                return
            time.sleep(0.5)


def operators_in(database: Path) -> set[str]:
    """Return the classes of all tasks that were run."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT DISTINCT operator FROM task_instance WHERE start_date IS NOT NULL")
        return {name for (name,) in rows}
