"""Which attempt of which task instance this process is running."""

from __future__ import annotations

from airflow_provider_xethub.xet import temporary_names as part_files


def current_attempt() -> part_files.Attempt:
    """Return the attempt that is running, or :data:`part_files.UNKNOWN` outside of a task.

    A process that a task starts (a script of a ``BashOperator``) is outside: Airflow does not hand its map index on.
    """
    from airflow.sdk import get_current_context

    try:
        context = get_current_context()
        ti, run = context["ti"], context["dag_run"]
        # Another Airflow may have the same DAG and write into the same folder: its run has begun at another moment.
        instance = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, run.start_date)
        return part_files.Attempt.of(int(ti.try_number), *instance)
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError):
        return part_files.UNKNOWN
