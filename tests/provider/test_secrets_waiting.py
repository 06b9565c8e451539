"""Neither the Hub token nor another secret of the connection is in what sensors, triggers and watchers leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.sensors.pull_requests import XetPullRequestSensor
from airflow_provider_xethub.sensors.scans import XetScanSensor
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from airflow_provider_xethub.triggers.pull_requests import XetPullRequestTrigger
from airflow_provider_xethub.triggers.scans import XetScanTrigger
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.wait import poller
from demo import left_behind
from support.airflow_runs import ExecutionApi, new_dag
from support.builders import TEXT, publish
from support.secret_values import assert_absent
from support.stored_runs import StoredRun, store
from support.trigger_runs import Store, Triggerer, until
from support.triggerer_process import TriggererProcess, stored_connection
from xethub_local.control.faults import Fault

HEAD = "GET .*/commits/.*"
FAULTS = ["401", "403", "404", "429", "500", "login page", "not json", "redirect", "dropped"]


def fault(hub, name, route=".*/api/.*"):
    """The Hub goes wrong, and says the token while it does."""
    token = hub.token()
    echo = json.dumps({"error": f"Bearer {token} is bad", "token": token, "id": token})
    answers = {
        "login page": {"status": 200, "body": f"<html>{token}</html>", "headers": {"Content-Type": "text/html"}},
        "not json": {"status": 200, "body": f"[{{{token}", "headers": {"Content-Type": "application/json"}},
        "redirect": {"status": 302, "headers": {"Location": f"http://127.0.0.2:1/?t={token}"}},
        "dropped": {"drop": "before"},
    }
    said = {"X-Error-Message": f"bad {token}", "Retry-After": "1"}
    return Fault(route, **answers.get(name) or {"status": int(name), "body": echo, "headers": said})


@pytest.mark.parametrize("name", FAULTS)
def test_what_waits_shows_no_secret(hub, connection, secrets, seen, repo, run_task, monkeypatch, name):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": 0.2}
    api, store_of_asset = ExecutionApi(), Store()
    XetHubConnection().open_pull_request(repo, "Later")
    hub.scans.set("queued")
    for sensor, wanted in (
        (XetFileSensor, {"path": "a.bin"}),
        (XetRevisionSensor, {}),
        (XetPullRequestSensor, {"pull_request": 1}),
        (XetScanSensor, {}),
    ):
        deferred = seen.run(run_task(sensor, deferrable=True, api=api, **wanted, **where))
        assert deferred.state == "deferred"
        seen.add(deferred.message.model_dump_json())
    waiting = {
        "file": XetFileTrigger(paths=["a.bin"], **where),
        "pattern": XetFileTrigger(patterns=["*.bin"], **where),
        "commit": XetRevisionTrigger(once=True, **where),
        "pull request": XetPullRequestTrigger(revision="refs/pr/1", **where),
        "scan": XetScanTrigger(**where),
    }
    seen.add(*[each.serialize() for each in waiting.values()], *waiting.values(), api.state)

    async def wait():
        triggerer = Triggerer()
        triggerer.start(waiting)
        triggerer.start({"watcher": XetRevisionTrigger(**where)}, store=store_of_asset)
        await until(lambda: store_of_asset.values)
        hub.faults.add(wrong := fault(hub, name))
        ends = name in ("401", "403", "404", "login page", "redirect")
        await until(lambda: len(triggerer.ended) == len(waiting) if ends else hub.faults.acted(wrong) > 4)
        await until(lambda: hub.faults.acted(wrong) > 2)
        hub.faults.clear()
        await triggerer.stop()
        seen.add(triggerer.events, triggerer.errors, store_of_asset.values, dict(poller._pollers))
        for events in triggerer.events.values():
            for event in events:
                try:
                    value_of(event)
                except XetHubError as error:
                    seen.add(error)
        return triggerer

    triggerer = asyncio.run(wait())
    assert not triggerer.errors
    # The sensors' looks, in the other two modes.
    hub.faults.add(fault(hub, name))
    seen.run(run_task(XetFileSensor, path="a.bin", mode="reschedule", **where))
    seen.run(run_task(XetFileSensor, path="a.bin", deferrable=True, soft_fail=True, **where))
    text = seen.text()
    assert "failed (1 in a row)" in text
    assert secrets.proxy.through
    assert_absent(secrets(), text)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_real_triggerer_leaves_no_secret_behind(hub, secrets, make_repo, airflow_db, tmp_path):
    """Its log, the logs of the tasks, and all of the metadata database: triggers, events, states, XComs."""
    repos = {f"t{number}": make_repo() for number, _ in enumerate(FAULTS)}
    watched = make_repo()
    log = tmp_path / "triggerer.log"
    fields = {"host": hub.url, "password": hub.token(), "extra": json.dumps(secrets.extra)}
    with stored_connection("stored_secrets", **fields) as conn_id:
        where = {"repo_type": "dataset", "xethub_conn_id": conn_id, "poke_interval": 1}
        with new_dag("secrets") as dag:
            for task, repo in repos.items():
                XetFileSensor(task_id=task, repo_id=repo.repo_id, path="a.bin", deferrable=True, retries=2, **where)
        trigger = XetRevisionTrigger(repo_id=watched.repo_id, **where)
        asset = Asset(f"hf://datasets/{watched.repo_id}", watchers=[AssetWatcher(name="commits", trigger=trigger)])
        store(DAG(f"watch_{dag.dag_id}", schedule=[asset], is_paused_upon_creation=False), times=2)
        run = StoredRun(dag)
        run.expand()
        run.run(*[(task, -1) for task in repos])
        assert set(run.states().values()) == {"deferred"}

        def looks(repo):
            return len(hub.log.requests(f"GET .*{repo.repo_id}/commits/.*"))

        wrong = [fault(hub, name, f".*{repo.repo_id}/.*") for repo, name in zip(repos.values(), FAULTS, strict=True)]
        wrong.append(fault(hub, "500", f".*{watched.repo_id}/.*"))
        with TriggererProcess(log) as triggerer:
            triggerer.until(lambda: all(looks(repo) > 1 for repo in (*repos.values(), watched)))
            for each in wrong:
                hub.faults.add(each)
            triggerer.until(lambda: all(map(hub.faults.acted, wrong)))
            final = {(task, -1) for task, name in zip(repos, FAULTS, strict=True) if name in ("401", "403", "404")}
            triggerer.until(lambda: {key for key, state in run.states().items() if state == "scheduled"} >= final)
            arguments = trigger_arguments()
            hub.faults.clear()
            publish(watched, tmp_path, {"a.txt": TEXT})
            triggerer.until(lambda: watched.repo_id in str(asset_events()))
        # A wrong credential, and a repository that is not there: no retry is burnt, though it comes from the trigger.
        run.run(*final)
        states = run.states()
        assert {states[key] for key in final} == {"failed"}
        still = {(task, -1) for task, name in zip(repos, FAULTS, strict=True) if name in ("429", "500", "dropped")}
        assert {states[key] for key in still} == {"deferred"}
        assert_absent(secrets(), log.read_text() + arguments + str(asset_events()))
        assert "paths" in arguments
        logs = Path(os.environ["AIRFLOW_HOME"], "logs")
        written = [path for path in left_behind.files(logs) if dag.dag_id in str(path)]
        assert len(written) >= len(FAULTS)
        assert "Still waiting" in "".join(path.read_text() for path in written)
        database = copy_of_database(tmp_path / "copy.db")
        named = {str(number): secret for number, secret in enumerate(sorted(secrets()))}
        assert left_behind.find({"a path": watched.repo_id}, database, [logs])
        assert not left_behind.find(named, database, [logs])


def copy_of_database(path):
    """All pages of the metadata database in another file.

    To read the file itself would end this process's locks on it: SQLite then deletes the log that it still writes to.
    """
    database = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    return path


def trigger_arguments():
    """What the rows of triggers have encrypted, but whoever may read the database may show."""
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session

    with create_session() as session:
        return str([trigger.kwargs for trigger in session.query(Trigger)])


def asset_events():
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        return [event.extra for event in session.query(AssetEvent)]
