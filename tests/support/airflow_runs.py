"""Real Airflow task runs: one task against an Execution API in memory, or a whole DAG through ``dag.test()``."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import signal
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

import airflow
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import DagRun as DagRunFields
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time import context as sdk_context
from airflow.sdk.execution_time import supervisor, task_runner
from pydantic import TypeAdapter

RUN_ID = "manual__2026"
_START = datetime(2026, 11, 20, tzinfo=timezone.utc)

# The client's HTTP library differs between versions of Airflow.
_http: Any = importlib.import_module(Client.__mro__[1].__module__.partition(".")[0])

# For each task of ``dag.test()`` Airflow builds the Execution API anew, which takes a second. These runs share one, as
# all tasks share the API server outside of tests.
supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
# Airflow builds the validator of a rendered field anew for each field of each task: a third of the processor time of a
# small task. It is always the same one.
_task_runner: Any = task_runner
_task_runner.TypeAdapter = functools.cache(TypeAdapter)

HAS_STATE_STORE = hasattr(sdk_context, "TaskStateStoreAccessor")
"""Whether this Airflow lets a task remember something for its retries: since 3.3."""

Key = tuple[str, str, int]
"""Task id, XCom key, map index."""


@dataclass
class TaskRun:
    """What became of one task: ``xcoms`` by key, template fields as Airflow stores them for its UI in ``rendered``."""

    state: str
    error: BaseException | None
    xcoms: dict[str, Any]
    rendered: dict[str, Any]
    message: Any

    @property
    def value(self) -> Any:
        """The return value of a task that succeeded."""
        if self.error:
            raise self.error
        assert self.state == "success", (self.state, self.message)
        return self.xcoms.get("return_value")

    @property
    def text(self) -> str:
        """The error's message."""
        assert self.error is not None, f"the task ended as {self.state}"
        return str(self.error)

    @property
    def is_final(self) -> bool:
        """Whether Airflow does not retry it, though it has retries left."""
        return self.state == "failed"


@dataclass
class ExecutionApi:
    """As much of the Execution API as a task run needs; keeps XComs, rendered fields, and the task's own state."""

    should_retry: bool = True
    xcoms: dict[Key, Any] = field(default_factory=dict)
    mapped: dict[str, int] = field(default_factory=dict)
    rendered: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    def client(self) -> Client:
        return Client(base_url=None, dry_run=True, token="", transport=_http.MockTransport(self._answer))

    def _answer(self, request: Any) -> Any:
        parts = [unquote(part) for part in request.url.raw_path.decode().partition("?")[0].strip("/").split("/")]
        if parts[0] == "xcoms":
            return self._xcom(request, parts)
        if parts[:2] == ["task-instances", "count"]:
            asked = request.url.params.get_list("task_ids")
            return _http.Response(200, json=sum(self.mapped.get(task, 1) for task in asked))
        if parts[0] == "store":
            return self._state(request, parts[-1])
        if parts[-1] == "run":
            return _http.Response(200, json=self._context())
        if parts[-1] == "rtif":
            self.rendered = json.loads(request.content)
        if parts[0] in ("connections", "variables"):
            return _http.Response(404, json={"detail": {"reason": "not_found", "message": "not here"}})
        return _http.Response(200, json={})

    def _state(self, request: Any, key: str) -> Any:
        if request.method == "PUT":
            self.state[key] = json.loads(request.content)["value"]
        elif request.method == "DELETE":
            del self.state[key]
        elif key not in self.state:
            return _missing()
        else:
            return _http.Response(200, json={"value": self.state[key]})
        return _http.Response(200, json={})

    def _context(self) -> dict[str, Any]:
        date = _START.isoformat()
        dag_run: dict[str, Any] = {
            "dag_id": "test",
            "run_id": RUN_ID,
            "logical_date": date,
            "start_date": date,
            "run_after": date,
            "run_type": "manual",
            "state": "running",
            "data_interval_start": None,
            "data_interval_end": None,
            "end_date": None,
            "partition_key": None,
            "consumed_asset_events": [],
        }
        return {
            # Each Airflow refuses the fields that it does not know.
            "dag_run": {name: value for name, value in dag_run.items() if name in DagRunFields.model_fields},
            "max_tries": 3,
            "should_retry": self.should_retry,
        }

    def _xcom(self, request: Any, parts: list[str]) -> Any:
        task, key = parts[3], parts[4]
        rows = {index: value for (t, k, index), value in sorted(self.xcoms.items()) if (t, k) == (task, key)}
        index = int(request.url.params.get("map_index", -1))
        if request.method == "POST":
            self.xcoms[task, key, index] = json.loads(request.content)
        elif request.method == "DELETE":
            self.xcoms.pop((task, key, index), None)
        elif request.method == "HEAD":
            return _http.Response(200, headers={"Content-Range": f"map_indexes {len(rows)}"})
        elif parts[5:] == ["slice"]:
            return _http.Response(200, json=list(rows.values()))
        elif len(parts) > 6:
            found = list(rows.values())[int(parts[6]) : int(parts[6]) + 1]
            return _http.Response(200, json=found[0]) if found else _missing()
        elif index in rows:
            return _http.Response(200, json={"key": key, "value": rows[index]})
        else:
            return _missing()
        return _http.Response(201, json={})


def _missing() -> Any:
    return _http.Response(404, json={"detail": {"reason": "not_found", "message": "no such XCom"}})


def _run_in_process(ti: TaskInstance, operator: Any, client: Client) -> Any:
    if "client" in inspect.signature(supervisor.run_task_in_process).parameters:
        return supervisor.run_task_in_process(ti=ti, task=operator, client=client)

    class Supervisor(supervisor.InProcessTestSupervisor):
        """Airflow before 3.3 takes no client: this one brings it."""

        @staticmethod
        def _api_client(dag: Any = None) -> Client:
            return client

    return Supervisor.start(what=ti, task=operator)


def run_one(operator: Any, *, map_index: int = -1, api: ExecutionApi | None = None, try_number: int = 1) -> TaskRun:
    """Run one operator of a DAG as Airflow's worker does; ``api`` carries XComs from one run to the next."""
    api = api or ExecutionApi()
    ti = TaskInstance(
        id=uuid.uuid4(),
        task_id=operator.task_id,
        dag_id=operator.dag_id,
        run_id=RUN_ID,
        try_number=try_number,
        dag_version_id=uuid.uuid4(),
        map_index=map_index,
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        result = _run_in_process(ti, operator, api.client())
    finally:
        signal.signal(signal.SIGTERM, before)
    xcoms = {
        key: value for (task, key, index), value in api.xcoms.items() if (task, index) == (operator.task_id, map_index)
    }
    return TaskRun(result.state.value, result.error, xcoms, api.rendered, result.msg)


def run_task(operator: Any, /, **arguments: Any) -> TaskRun:
    """Run one operator as a task: one that is in a DAG already, or, given its class and arguments, in a DAG of its own.

    It has two retries left; ``try_number=2`` runs it as Airflow runs the first of them.
    ``api=ExecutionApi(xcoms={("task id", "key", -1): …})`` presets XComs of other tasks. Arguments that the constructor
    refuses are a failure like those that are refused later.
    """
    if not isinstance(operator, type):
        return run_one(operator, **arguments)
    api, try_number = arguments.pop("api", None), arguments.pop("try_number", 1)
    with DAG(dag_id="test", schedule=None, start_date=_START):
        try:
            task = operator(**{"task_id": "task", "retries": 2, **arguments})
        except AirflowFailException as error:
            return TaskRun("failed", error, {}, {}, None)
    return run_one(task, api=api, try_number=try_number)


@dataclass
class DagRun:
    """What became of a DAG: states by task id, or by task id and map index where that is not -1."""

    dag_id: str
    run_id: str
    state: str
    states: dict[Any, str]

    def xcoms(self, task_id: str, key: str = "return_value") -> list[Any]:
        """The XComs of a task as the metadata database has them, by map index."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            rows = session.query(XComModel).filter_by(dag_id=self.dag_id, run_id=self.run_id, task_id=task_id, key=key)
            return [XComModel.deserialize_value(row) for row in rows.order_by(XComModel.map_index)]

    def rendered(self, task_id: str) -> list[dict[str, Any]]:
        """The rendered template fields of a task, as the metadata database has them."""
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.models.taskinstance import TaskInstance as StoredTaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            rows = session.query(RenderedTaskInstanceFields)
            if not hasattr(RenderedTaskInstanceFields, "dag_id"):  # since Airflow 3.4, the task instance has it
                rows = rows.join(RenderedTaskInstanceFields.task_instance)
                of_this = StoredTaskInstance.dag_id == self.dag_id, StoredTaskInstance.run_id == self.run_id
                rows = rows.filter(*of_this, StoredTaskInstance.task_id == task_id)
            else:
                rows = rows.filter_by(dag_id=self.dag_id, run_id=self.run_id, task_id=task_id)
            return [row.rendered_fields for row in rows]


def store_dag(dag: DAG) -> None:
    """Put a DAG into the metadata database, as the DAG processor of this Airflow does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    if airflow.__version__.startswith("3.0."):
        from airflow.models.dagbag import DagBag as Dags

        early = Dags(dag_folder="/dev/null", collect_dags=False, include_examples=False)
        early.bag_dag(dag)
        dag.relative_fileloc = "tested.py"
        early.sync_to_db("dags-folder", None)
        return
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="dags-folder")
    except ImportError:  # before 3.2
        from airflow.models.dagbag import DagBag, sync_bag_to_db

        options: dict[str, Any] = {"include_examples": False}
        bag = DagBag(dag_folder="/dev/null", collect_dags=False, **options)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


def run_dag(dag: DAG, conf: dict[str, Any] | None = None) -> DagRun:
    """Run a whole DAG: the scheduler's decisions, mapping, setup and teardown, XComs in a database.

    :param conf: values for its params.
    """
    store_dag(dag)
    before = signal.getsignal(signal.SIGTERM)
    try:
        result = dag.test(run_conf=conf)
    finally:
        signal.signal(signal.SIGTERM, before)
    states = {
        (ti.task_id if ti.map_index < 0 else (ti.task_id, ti.map_index)): str(ti.state)
        for ti in result.get_task_instances()
    }
    return DagRun(dag.dag_id, result.run_id, str(result.state), states)


def new_dag(name: str = "test") -> DAG:
    """Return a DAG whose id no other test uses."""
    return DAG(dag_id=f"{name}_{uuid.uuid4().hex[:8]}", schedule=None, start_date=_START)
