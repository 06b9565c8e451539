"""The lowest floor: a test here needs neither a server nor Airflow's database."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(scope="session")
def running_hub() -> None:
    raise AssertionError("A test that needs a Hub belongs to tests/provider or tests/local")


@pytest.fixture(scope="session")
def airflow_db() -> None:
    raise AssertionError("A test that needs Airflow's database belongs to tests/provider")


@pytest.fixture(autouse=True)
def _usual_log_level(caplog: pytest.LogCaptureFixture) -> None:
    """Other tests of the process may have loaded Airflow, which sets its own level."""
    caplog.set_level(logging.WARNING)
