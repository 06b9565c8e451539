"""The retry policy, where Airflow has such a thing."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from airflow.sdk import __version__ as sdk_version

HAS_POLICIES = tuple(map(int, sdk_version.split(".")[:2])) >= (1, 3)
MODULE = "airflow_provider_xethub.retry_policy"

with_policies = pytest.mark.skipif(not HAS_POLICIES, reason="Airflow has retry policies from 3.3 on")


def policy(**arguments: Any) -> Any:
    return importlib.import_module(MODULE).XetRetryPolicy(**arguments)
