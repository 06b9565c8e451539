"""A real triggerer with 1,100 deferred sensors: what it costs the Hub, counted by the Hub."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_xethub.sensors.xethub import XetFileSensor
from support.airflow_runs import new_dag
from support.builders import binary, publish
from support.stored_runs import StoredRun
from support.triggerer_process import TriggererProcess, stored_connection
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

MANY, SOME = 1000, 100
INTERVAL = 2.0
ARRIVES = 7


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: every request counts here."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


def test_eleven_hundred_deferred_sensors_cost_one_request_for_each_repository_and_interval(
    hub, make_repo, connection, airflow_db, tmp_path
):
    repos = {"first": make_repo(), "second": make_repo()}
    number = {"first": MANY, "second": SOME}
    everybody = {(task, index) for task in repos for index in range(number[task])}

    def asked(task: str, route: str = "") -> int:
        return len(hub.log.requests(f".* /api/datasets/{repos[task].repo_id}/{route}.*"))

    with stored_connection("stored", host=hub.url, password=hub.token()), new_dag("many") as dag:
        for task, repo in repos.items():
            XetFileSensor.partial(
                task_id=task,
                repo_id=repo.repo_id,
                repo_type="dataset",
                xethub_conn_id="stored",
                deferrable=True,
                poke_interval=INTERVAL,
            ).expand(path=[f"part-{index}.bin" for index in range(number[task])])
        run = StoredRun(dag)
        run.expand()
        assert set(run.states()) == everybody
        for task in repos:
            run.run((task, 0))
            run.defer_like(
                (task, 0), {(task, index): {"paths": [f"part-{index}.bin"]} for index in range(1, number[task])}
            )
        assert run.count() == Counter({"deferred": MANY + SOME})

        hub.log.clear()
        # More than the 1,000 that a triggerer takes by default. It takes 50 each second.
        with TriggererProcess(tmp_path / "triggerer.log", AIRFLOW__TRIGGERER__CAPACITY="1200") as triggerer:
            triggerer.until(lambda: started(dag.dag_id) == MANY + SOME)
            for task in repos:  # while they came, too
                assert asked(task, "paths-info/") <= asked(task, "commits/")
                assert asked(task) == asked(task, "paths-info/") + asked(task, "commits/")
            # The last of them are asked for at the next look.
            looks = {task: asked(task, "commits/") for task in repos}
            triggerer.until(lambda: all(asked(task, "commits/") > looks[task] + 1 for task in repos))

            hub.log.clear()
            began = time.monotonic()
            triggerer.until(lambda: all(asked(task) >= 5 for task in repos))
            intervals = (time.monotonic() - began) / INTERVAL
            for task in repos:
                assert asked(task) == asked(task, "commits/") <= intervals + 1

            publish(repos["first"], tmp_path, {f"part-{ARRIVES}.bin": binary()})
            triggerer.until(lambda: run.states()["first", ARRIVES] == "scheduled")
            looks = {task: asked(task, "commits/") for task in repos}
            triggerer.until(lambda: all(asked(task, "commits/") > looks[task] + 1 for task in repos))
            states = run.states()
            assert {key for key in everybody if states[key] != "deferred"} == {("first", ARRIVES)}
            # Tasks that a user ends leave no poll behind.
            after_arrival = list(hub.log.requests(f".* /api/datasets/{repos['first'].repo_id}/.*"))
            run.mark_failed(*[("second", index) for index in range(SOME)])

            def has_ended() -> bool:
                """No look at the second repository during three at the first."""
                begin = asked("first"), asked("second")
                triggerer.until(lambda: asked("first") >= begin[0] + 3)
                return asked("second") == begin[1]

            triggerer.until(has_ended)
            assert run.count()["deferred"] == MANY - 1
            print(f"\n{MANY + SOME} deferred sensors: {triggerer.use()}")

        # The first look after the commit asked for all paths that are waited for, in one request, and none after it.
        asked_after = [request.route.partition("{name}/")[2].partition("/")[0] for request in after_arrival]
        asked_after = asked_after[asked_after.index("commit") + 1 :]
        assert asked_after[:2] == ["commits", "paths-info"]
        assert set(asked_after[2:]) == {"commits"}
        assert not asked("second", "paths-info/")

        run.run(("first", ARRIVES))
        assert run.states()["first", ARRIVES] == "success"
        assert run.xcom(("first", ARRIVES))["path"] == f"part-{ARRIVES}.bin"
        assert hub.token() not in (tmp_path / "triggerer.log").read_text()


def started(dag_id: str) -> int:
    """How many of its triggers have started: each writes to the log of its task."""
    return len(list(Path(os.environ["AIRFLOW_HOME"], "logs", f"dag_id={dag_id}").rglob("*.trigger.*.log")))
