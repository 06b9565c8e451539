"""Runs an upload and a download with Airflow's metrics switched on by the environment, as Airflow starts a task."""

from __future__ import annotations

import json
import sys

from airflow_runs import run_task


def main() -> None:
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils

    from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator

    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    spec = json.loads(sys.argv[1])
    where = spec["where"]
    run_task(XetUploadOperator, source=spec["source"], **where).value  # noqa: B018 - raises what failed
    run_task(XetDownloadOperator, destination=spec["destination"], patterns="*.bin", **where).value  # noqa: B018


if __name__ == "__main__":
    main()
