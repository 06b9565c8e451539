"""What the administrator has set for all tasks: section ``[xethub]`` of Airflow's configuration."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import conf

SECTION = "xethub"


def cache_folder() -> str:
    """Return the folder for the cache of the transfer client; empty for the client's default."""
    return str(conf.get(SECTION, "cache_folder", fallback="") or "")


def telemetry() -> bool:
    """Whether the client libraries may send telemetry to the Hub's operator."""
    return bool(conf.getboolean(SECTION, "telemetry", fallback=False))
