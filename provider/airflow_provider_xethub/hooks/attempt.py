"""Which attempt of which task instance this process is running."""

from __future__ import annotations

from airflow_provider_xethub.xet.temporary_names import UNKNOWN, Attempt


def current_attempt() -> Attempt:
    """Return the attempt that is running; outside of a task, ``UNKNOWN``.

    A process that a task starts (a script of a ``BashOperator``) is outside: Airflow does not pass the map index on.
    """
    from airflow.sdk import get_current_context

    try:
        context = get_current_context()
        ti, run = context["ti"], context["dag_run"]
        # Another Airflow may run the same DAG and write to the same folder: its run has a different start date.
        instance = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, run.start_date)
        return Attempt.of(int(ti.try_number), *instance)
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError):
        return UNKNOWN
