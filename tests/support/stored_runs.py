"""DAG runs in the metadata database, without a scheduler: a test says which task runs when, as the executor would.

Each task runs against Airflow's own Execution API, so that what it leaves behind (a trigger's row, an XCom, a state) is
what a worker leaves behind.
"""

from __future__ import annotations

import signal
from collections import Counter
from datetime import datetime, timezone
from functools import cache
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time.supervisor import run_task_in_process

Key = tuple[str, int]
"""Task id and map index."""


@cache
def _client() -> Client:
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI

    client = Client(base_url=None, token="", dry_run=True, transport=InProcessExecutionAPI().transport)
    client.base_url = "http://in-process.invalid./"
    return client


def store(dag: DAG, times: int = 1) -> Any:
    """Write a DAG to the metadata database, as the DAG processor does, and return it as the scheduler knows it."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.serialized_dag import SerializedDagModel

    DagBundlesManager().sync_bundles_to_db()
    for _ in range(times):
        bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="dags-folder")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
    return SerializedDagModel.get(dag.dag_id).dag


class StoredRun:
    """A run of a DAG."""

    def __init__(self, dag: DAG) -> None:
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        self._dag = dag
        self._scheduler_dag = store(dag)
        self.run_id = "by_hand"
        now = datetime.now(timezone.utc)
        with create_session() as session:
            self._scheduler_dag.create_dagrun(
                run_id=self.run_id,
                logical_date=now,
                data_interval=(now, now),
                run_after=now,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                session=session,
            )

    def _rows(self, session: Any) -> Any:
        from airflow.models.taskinstance import TaskInstance as Row

        return session.query(Row).filter_by(dag_id=self._dag.dag_id, run_id=self.run_id)

    def states(self) -> dict[Key, str | None]:
        from airflow.utils.session import create_session

        with create_session() as session:
            return {(ti.task_id, ti.map_index): ti.state and str(ti.state) for ti in self._rows(session)}

    def count(self) -> Counter[str | None]:
        return Counter(self.states().values())

    def expand(self) -> None:
        """Let the scheduler decide, which also makes the instances of mapped tasks."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session

        with create_session() as session:
            run = session.query(DagRun).filter_by(dag_id=self._dag.dag_id, run_id=self.run_id).one()
            run.dag = self._scheduler_dag
            run.task_instance_scheduling_decisions(session=session)

    def run(self, *keys: Key) -> None:
        """Run these task instances, one after the other, as the executor and its worker do."""
        from airflow.utils.session import create_session

        tasks = []
        with create_session() as session:
            for ti in self._rows(session):
                if (ti.task_id, ti.map_index) in keys:
                    ti.state = "queued"
                    if ti.next_method is None:  # not one that goes on after a deferral
                        ti.try_number += 1
                    tasks.append(
                        TaskInstance(
                            id=ti.id,
                            task_id=ti.task_id,
                            dag_id=ti.dag_id,
                            run_id=ti.run_id,
                            try_number=ti.try_number,
                            dag_version_id=ti.dag_version_id,
                            map_index=ti.map_index,
                        )
                    )
        assert len(tasks) == len(keys)
        before = signal.getsignal(signal.SIGTERM)
        try:
            for ti in tasks:
                run_task_in_process(ti=ti, task=self._dag.get_task(ti.task_id), client=_client())
        finally:
            signal.signal(signal.SIGTERM, before)

    def defer_like(self, example: Key, others: dict[Key, dict[str, Any]]) -> None:
        """Defer many as this one is, that was deferred by running it; each with trigger arguments of its own.

        Running each of a thousand takes minutes; this writes the same rows.
        """
        from airflow.models.trigger import Trigger
        from airflow.utils.session import create_session

        with create_session() as session:
            rows = {(ti.task_id, ti.map_index): ti for ti in self._rows(session)}
            ready = rows[example]
            for key, arguments in others.items():
                trigger = Trigger(ready.trigger.classpath, {**ready.trigger.kwargs, **arguments})
                session.add(trigger)
                session.flush()
                rows[key].trigger_id = trigger.id
                for name in ("state", "next_method", "next_kwargs", "trigger_timeout", "start_date", "try_number"):
                    setattr(rows[key], name, getattr(ready, name))

    def mark_failed(self, *keys: Key) -> None:
        """Mark task instances as failed, as a user does."""
        from airflow.utils.session import create_session
        from airflow.utils.state import TaskInstanceState

        with create_session() as session:
            for ti in self._rows(session):
                if (ti.task_id, ti.map_index) in keys:
                    ti.set_state(TaskInstanceState.FAILED, session=session)

    def xcom(self, key: Key) -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            row = session.query(XComModel).filter_by(
                dag_id=self._dag.dag_id, run_id=self.run_id, task_id=key[0], map_index=key[1], key="return_value"
            )
            return XComModel.deserialize_value(row.one())
