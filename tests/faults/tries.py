"""One try of a row: an operator or sensor as Airflow's worker runs it, or a trigger as a triggerer does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG
from airflow.triggers.base import BaseTrigger

from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.events import value_of
from simulation import attempts
from simulation.attempts import Attempt
from support.airflow_runs import ExecutionApi
from support.trigger_runs import Triggerer

RETRIES = 2
"""Of each task, as Airflow counts them."""

MOST_SECONDS = 60
"""Until Airflow ends a task: far more than any fault here may cost."""

WAITS = "waits"
"""The state of a trigger whose polls fail, and that goes on."""

_FIRE_SECONDS = 60.0


def run_operator(make: Callable[[], object], api: ExecutionApi, number: int) -> Attempt:
    """Run a try of a task that is made anew for it, with the XComs that ``api`` has of other tasks."""
    limits = {"retries": RETRIES, "execution_timeout": timedelta(seconds=MOST_SECONDS)}
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    with DAG("faults", schedule=None, start_date=start, default_args=limits) as dag:
        make()
    task = dag.get_task("it")
    for key in [key for key in api.xcoms if key[0] == task.task_id]:
        del api.xcoms[key]  # as Airflow does before each try
    return attempts.run(task, api, number)


def run_trigger(
    trigger: BaseTrigger, failures: Callable[[], int], end_fault: Callable[[], None], is_lasting: bool
) -> tuple[Attempt, Any]:
    """Run a trigger until it fires; if it does not while its requests fail, end the fault, and it must.

    :param failures: returns how many requests have failed.
    :returns: how it ended, and the value of its event.
    """

    async def run() -> tuple[bool, list[Any]]:
        triggerer = Triggerer()
        triggerer.start({"it": trigger})
        waits = False
        deadline = time.monotonic() + _FIRE_SECONDS
        while not triggerer.fired and not triggerer.ended:
            if is_lasting and not waits and failures() > RETRIES:
                waits = True
                end_fault()
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        await triggerer.stop()
        if error := triggerer.errors.get("it"):
            raise error
        return waits, triggerer.events["it"]

    waits, events = asyncio.run(run())
    if not events:
        return Attempt("lost", ["Lost"], "The trigger neither fired nor failed.", ""), None
    shown = json.dumps(events, default=str)
    if "status" not in events[0]:  # a watcher has nothing but values
        return Attempt(WAITS if waits else "success", [], "", shown), events[0]
    try:
        with fail_without_retry():
            value = value_of(events[0])
    except Exception as error:
        state = "failed" if isinstance(error, AirflowFailException) else "up_for_retry"
        names = [each.__name__ for each in type(error).__mro__]
        return Attempt(state, names, str(error), shown), None
    return Attempt(WAITS if waits else "success", [], "", shown), value
