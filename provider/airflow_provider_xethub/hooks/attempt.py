"""Which task instance this process is running, and which attempt of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.xet.process.temporary_names import UNKNOWN, Attempt

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def current_attempt() -> Attempt:
    """Return the attempt that is running; outside of a task, ``UNKNOWN``.

    A process that a task starts (a script of a ``BashOperator``) is outside: Airflow does not pass the map index on.
    """
    from airflow.sdk import get_current_context

    try:
        context = get_current_context()
        ti, run = context["ti"], context["dag_run"]
        # Another Airflow may run the same DAG and write to the same folder: its run has a different start date.
        instance = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, run.start_date, *_iteration(context))
        return Attempt.of(int(ti.try_number), *instance)
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError):
        return UNKNOWN


def instance_key(context: Context) -> str:
    """Return what identifies the task instance: the same in all of its attempts, and in no other task instance."""
    ti = context["ti"]
    return "/".join(map(str, (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, *_iteration(context))))


def is_first_start(context: Context) -> bool:
    """Return whether this task instance has certainly not run before, so that it cannot have done anything yet.

    Airflow counts every start as an attempt, also after a lost worker, except one: since 3.4 a retry policy can
    reschedule a failed task (``RetryAction.RESCHEDULE``), which keeps the number of the attempt.
    """
    return bool(context["ti"].try_number == 1 and not context.get("task_reschedule_count"))


def loop_index(context: Context) -> int | None:
    """Return the number of the iteration of the task loop that this task instance is part of; ``None`` outside."""
    # A task may have an argument of that name, which the context of a decorated task contains.
    index = getattr(context.get("loop"), "index", None)
    return index if isinstance(index, int) and getattr(context["ti"], "region_id", None) else None


def _iteration(context: Context) -> tuple[object, ...]:
    """Return what else identifies a task instance in a task loop, whose iterations share everything else.

    Airflow names the execution of a loop (``region_id``) and the place in it (``region_index``). The number of the
    iteration alone would not do: one loop may run inside another one day.
    """
    ti: Any = context["ti"]
    return () if loop_index(context) is None else (ti.region_id, ti.region_index)
