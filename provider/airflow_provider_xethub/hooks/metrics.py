"""Airflow metrics of transfers: to StatsD or OpenTelemetry, wherever Airflow sends its own.

They are totals of what succeeded. Spans, which also show what failed and when, are in
:mod:`airflow_provider_xethub.xet.tracing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Direction = Literal["upload", "download"]


def count_transfer(direction: Direction, transfer: Mapping[str, Any], repo_type: str) -> None:
    """Count a transfer's figures as ``xethub.<direction>.<figure>``, and time it as ``xethub.<direction>.duration``.

    :param transfer: :class:`~airflow_provider_xethub.xet.records.XetTransfer` or
        :class:`~airflow_provider_xethub.xet.records.XetReceived`.
    :param repo_type: the only tag, because tags with many values, such as a repository, make metrics expensive.
    """
    stats = _stats()
    tags = {"repo_type": repo_type}
    for figure, value in transfer.items():
        if figure == "seconds":
            stats.timing(f"xethub.{direction}.duration", value * 1000, tags=tags)
        else:
            stats.incr(f"xethub.{direction}.{figure}", value, tags=tags)


def _stats() -> Any:
    try:
        from airflow.sdk.observability import stats
    except ImportError:  # Airflow 3.0 and 3.1
        from airflow.stats import Stats

        return Stats
    # Airflow 3.3 has the functions in the module, 3.2 on a class in it.
    return stats if hasattr(stats, "incr") else stats.Stats
