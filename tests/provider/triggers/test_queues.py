"""Triggerer queues: a deferred sensor waits in the queue of its task, a watcher in the one that it names."""

from __future__ import annotations

import uuid

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.sdk.execution_time.comms import DeferTask
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from support.airflow_runs import store_dag
from support.triggerer_process import TriggererProcess, stored_connection

pytestmark = pytest.mark.airflow

with_queues = pytest.mark.skipif(
    "queue" not in DeferTask.model_fields, reason="Airflow has triggerer queues from 3.2 on"
)
WATCHERS_HAVE_QUEUES = hasattr(BaseEventTrigger, "trigger_queue_inherited_from_task")
"""Since Airflow 3.4."""


@with_queues
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (XetFileSensor, {"path": "not-yet.bin"}),
        (XetRevisionSensor, {"may_be_missing": "revision", "revision": "not-yet"}),
        (XetRevisionSensor, {}),
    ],
)
def test_a_deferred_sensor_waits_in_the_queue_of_its_task(connection, repo, run_task, monkeypatch, kind, arguments):
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
    run = run_task(kind, repo_id=repo.repo_id, repo_type="dataset", deferrable=True, queue="eu", **arguments)
    assert run.state == "deferred"
    assert run.message.queue == "eu"


def stored_queues(trigger: XetRevisionTrigger) -> set[str | None]:
    """Return in which queues Airflow stores the trigger of a watcher."""
    from airflow.models.asset import AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    name = uuid.uuid4().hex
    asset = Asset(f"hf://datasets/{trigger.repo.repo_id}", watchers=[AssetWatcher(name=name, trigger=trigger)])
    dag = DAG(f"watched_{name[:8]}", schedule=[asset], is_paused_upon_creation=False)
    store_dag(dag)
    store_dag(dag)  # Airflow 3.0 stores the watchers of assets that are active already
    with create_session() as session:
        stored = session.scalar(select(AssetModel).where(AssetModel.uri == asset.uri))
        (found,) = stored.triggers
        assert found.kwargs == trigger.serialize()[1]
        return {getattr(found, "queue", None)}


@pytest.mark.parametrize("queue", [None, "eu"])
def test_a_watcher_is_stored_in_its_queue_and_before_airflow_3_4_without_one(airflow_db, queue):
    trigger = XetRevisionTrigger(repo_id=f"acme/{uuid.uuid4().hex}", repo_type="dataset", queue=queue)
    assert stored_queues(trigger) == {queue if WATCHERS_HAVE_QUEUES else None}


@pytest.mark.skipif(not WATCHERS_HAVE_QUEUES, reason="Airflow assigns watchers to queues from 3.4 on")
def test_only_a_triggerer_of_its_queue_runs_a_watcher(hub, make_repo, connection, airflow_db, tmp_path):
    """A real triggerer, and two watchers: one in the queue that it serves, one in none."""
    served, other = make_repo(), make_repo()
    with stored_connection("queued_hub", host=hub.url, password=hub.token()):
        for repo, queue in ((served, "eu"), (other, None)):
            arguments = {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": 0.2}
            stored_queues(XetRevisionTrigger(**arguments, xethub_conn_id="queued_hub", queue=queue))
        with TriggererProcess(tmp_path / "log", "eu", AIRFLOW__TRIGGERER__QUEUES_ENABLED="True") as triggerer:
            triggerer.until(lambda: len(hub.log.requests(f"GET .*{served.repo_id}/commits/.*")) > 2)
            triggerer.kill()
    assert not hub.log.requests(f"GET .*{other.repo_id}/commits/.*")
