"""The retry policy, where Airflow has such a thing."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from airflow.sdk import __version__ as sdk_version

_VERSION = tuple(map(int, sdk_version.split(".")[:2]))
HAS_POLICIES = _VERSION >= (1, 3)
CAN_RESCHEDULE = _VERSION >= (1, 4)
MODULE = "airflow_provider_xethub.retry_policy"

rescheduling = pytest.mark.skipif(not CAN_RESCHEDULE, reason="a retry policy can reschedule from Airflow 3.4 on")
with_policies = pytest.mark.skipif(not HAS_POLICIES, reason="Airflow has retry policies from 3.3 on")


def policy(**arguments: Any) -> Any:
    return importlib.import_module(MODULE).XetRetryPolicy(**arguments)
