"""The trigger that waits until a pull request is merged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_xethub.triggers.xethub import _reject_arguments, _XetTrigger
from airflow_provider_xethub.xet.wait.conditions import check_condition
from airflow_provider_xethub.xet.wait.details import MergedCondition


class XetPullRequestTrigger(_XetTrigger):
    """Wait until a pull request is merged, or closed without being merged.

    The trigger of :class:`~airflow_provider_xethub.sensors.pull_requests.XetPullRequestSensor`.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset`` or ``space``. Default: ``model``.
    :param revision: the pull request, ``refs/pr/N``.
    :param xethub_conn_id: Airflow connection ID.
    :param poke_interval: seconds between two polls, or a ``timedelta``. If several triggers share a poll, the shortest
        interval applies. Default: 60.
    :param exponential_backoff: lengthen the interval after each poll, as Airflow's sensors do with this argument.
    :param max_wait: longest interval with ``exponential_backoff``: seconds or a ``timedelta``. ``None``: no limit.
    :param may_be_missing: ``repo``: wait for a pull request that does not exist yet.
    :raises XetTriggerArgumentError: an argument is wrong.
    """

    @_reject_arguments()
    def __init__(self, *, revision: str, **kwargs: Any) -> None:
        super().__init__(revision=revision, **kwargs)
        check_condition(MergedCondition(), self.repo)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return self._classpath(), self._arguments()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        async for event in self._wait(MergedCondition()):
            yield event
