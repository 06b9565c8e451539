"""Which task is running, and what a token that it seals is bound to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.token_binding import Bind, RunningTask, TokenBinding, check_bind, check_consumers


def running_task() -> RunningTask | None:
    """Return the task that Airflow runs in this process; ``None`` outside of tasks.

    A process that a task starts (a script of a ``BashOperator``) is outside. So is code in the triggerer.
    """
    context = _context()
    if context is None:
        return None
    ti = context["ti"]
    return RunningTask(str(ti.dag_id), str(ti.run_id), str(ti.task_id))


def binding(bind: str | None, consumers: str | Sequence[str] | None) -> TokenBinding | None:
    """Return the binding that a task asks for; ``None`` if it asks for none.

    :param bind: ``dag`` or ``run``.
    :param consumers: the full IDs of the tasks that may use the token.
    :raises XetInputError: an argument is wrong, the DAG has no such task, or no task is running.
    """
    bind = arguments.string("bind", bind)
    tasks = arguments.selection("consumers", consumers, arguments.REMEDIES["consumers"])
    if bind is not None:
        check_bind(bind)
    if bind is None and tasks is None:
        return None
    context, task = _context(), running_task()
    if context is None or task is None:
        raise XetInputError("A token can be bound only in an Airflow task, and none is running here. Leave out bind.")
    if tasks is not None:
        check_consumers(tasks, task.dag_id, context["dag"].task_ids)
    return TokenBinding.of(task, cast("Bind | None", bind), tasks)


def _context() -> Any | None:
    from airflow.sdk import get_current_context

    try:
        context = get_current_context()
    except RuntimeError:
        return None
    return context if context and "ti" in context else None
