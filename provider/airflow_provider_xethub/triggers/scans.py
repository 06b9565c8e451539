"""The trigger that waits for the Hub's security scan of files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_xethub.triggers.xethub import _reject_arguments, _XetTrigger
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.wait.conditions import check_condition
from airflow_provider_xethub.xet.wait.details import MissingScan, ScannedCondition


class XetScanTrigger(_XetTrigger):
    """Wait until the Hub's security scan has found files safe, or an issue in one.

    The trigger of :class:`~airflow_provider_xethub.sensors.scans.XetScanSensor`.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset`` or ``space``. Default: ``model``.
    :param revision: branch, tag, commit or ``refs/pr/N``. Default: ``main``.
    :param xethub_conn_id: Airflow connection ID.
    :param poke_interval: seconds between two polls, or a ``timedelta``. If several triggers share a poll, the shortest
        interval applies. Default: 60.
    :param exponential_backoff: lengthen the interval after each poll, as Airflow's sensors do with this argument.
    :param max_wait: longest interval with ``exponential_backoff``: seconds or a ``timedelta``. ``None``: no limit.
    :param may_be_missing: ``revision`` or ``repo``: wait for what does not exist yet.
    :param paths: only these files.
    :param patterns: only files that match one of these patterns (``*`` matches ``/`` as well).
    :param exclude: leave out files whose path matches one of these.
    :param missing_scan: ``fail``, ``wait`` or ``accept``, where the Hub reports no scan of a file.
    :raises XetTriggerArgumentError: an argument is wrong.
    """

    @_reject_arguments()
    def __init__(
        self,
        *,
        paths: Sequence[str] = (),
        patterns: Sequence[str] = (),
        exclude: Sequence[str] = (),
        missing_scan: MissingScan = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Stored triggers have an empty list for an argument that was not given.
        named = (("paths", paths), ("patterns", patterns), ("exclude", exclude))
        given = [tuple(arguments.selection(name, value or None) or ()) for name, value in named]
        self.condition = ScannedCondition(given[0], given[1], given[2], missing_scan)
        check_condition(self.condition, self.repo)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return self._classpath(), {
            **self._arguments(),
            "paths": list(self.condition.paths),
            "patterns": list(self.condition.patterns),
            "exclude": list(self.condition.exclude),
            "missing_scan": self.condition.missing_scan,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        async for event in self._wait(self.condition):
            yield event
