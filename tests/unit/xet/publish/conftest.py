"""The Hub of these tests is in memory, and is asked again at once."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.xet.hub import client
from support.memory_hub import MemoryHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> MemoryHub:
    monkeypatch.setattr(client, "FIRST_DELAY", 0.0)
    return MemoryHub()
