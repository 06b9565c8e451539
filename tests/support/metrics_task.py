"""Runs an upload and a download with Airflow's metrics switched on by the environment, as Airflow starts a task."""

from __future__ import annotations

import json
import sys

from support.airflow_runs import run_task


def switch_on():
    """Begin to send metrics, as Airflow's worker does; Airflow 3.0 and 3.1 do so by themselves."""
    try:
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils
    except ImportError:
        return
    if hasattr(stats, "initialize"):
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    else:  # 3.2
        stats.Stats.initialize(factory=stats_utils.get_stats_factory(stats.Stats))


def main() -> None:
    from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator

    switch_on()
    spec = json.loads(sys.argv[1])
    where = spec["where"]
    run_task(XetUploadOperator, source=spec["source"], **where).value  # noqa: B018 - raises what failed
    run_task(XetDownloadOperator, destination=spec["destination"], patterns="*.bin", **where).value  # noqa: B018


if __name__ == "__main__":
    main()
