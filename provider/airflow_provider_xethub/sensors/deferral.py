"""Give a deferred sensor the semantics of the other modes: polls, timeouts and skips before and after the deferral."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_xethub.exceptions import XetHubError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def poll(sensor: BaseSensorOperator, context: Context) -> PokeReturnValue:
    """Poke once, and apply ``soft_fail``, ``never_fail`` and ``silent_fail`` as in the other modes."""
    try:
        return cast("PokeReturnValue", sensor.poke(context))
    except AirflowFailException as error:
        if sensor.soft_fail or sensor.never_fail:
            raise AirflowSkipException(f"Skipped instead of failed: {error}") from error
        raise
    except XetHubError as error:
        if sensor.never_fail:
            raise AirflowSkipException(f"Skipped instead of failed: {error}") from error
        if not sensor.silent_fail:
            raise
        sensor.log.error("The poll on the worker failed. %s", error)
        return PokeReturnValue(False)


def time_left(sensor: BaseSensorOperator, elapsed: float) -> timedelta:
    """Return how long a sensor may stay deferred: until ``timeout`` or ``execution_timeout``, whichever comes first.

    Airflow itself enforces ``execution_timeout`` only while a task runs on a worker.

    :param elapsed: seconds since the task started.
    """
    limit = sensor.timeout
    if sensor.execution_timeout is not None:
        limit = min(limit, sensor.execution_timeout.total_seconds())
    return timedelta(seconds=max(0.0, limit - elapsed))


def finish_interrupted(
    sensor: BaseSensorOperator, context: Context, error: AirflowSensorTimeout | AirflowSkipException
) -> Any:
    """Return the value of a sensor whose deferral ended with ``error``, or raise the error.

    After ``timeout``, poke one last time, as the other modes do. ``execution_timeout`` interrupts the other modes
    instead, and Airflow's retries apply; so it does here.

    :param error: the timeout, or the skip that ``soft_fail`` and ``never_fail`` turn a timeout into.
    :raises AirflowSensorTimeout: ``timeout`` has passed.
    :raises AirflowTaskTimeout: ``execution_timeout`` has passed.
    :raises AirflowSkipException: one of them has passed and the sensor skips on timeouts, or the task was skipped for
        another reason.
    """
    is_skip = isinstance(error, AirflowSkipException)
    if is_skip and not isinstance(error.__cause__, AirflowSensorTimeout):
        raise error
    limit = sensor.execution_timeout
    if limit is not None and limit.total_seconds() < sensor.timeout:
        if is_skip:
            raise error
        raise AirflowTaskTimeout(
            f"{sensor.task_id} waited longer than its execution_timeout of {limit}. Raise it, or remove it: timeout "
            "already limits how long a sensor waits."
        ) from error
    last = poll(sensor, context)
    if not last:
        raise error
    return last.xcom_value
