"""A process that keeps few records in memory."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.xet import records


@pytest.fixture
def three_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files are already many."""
    monkeypatch.setattr(records, "IN_MEMORY", 3)
