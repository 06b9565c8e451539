"""What remembers digests in these tests."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.xet.files import digest_memory, file_systems
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.transfer import remembered


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A memory that trusts this disk, keeps what it is given at once, and of which nothing is verified."""
    device = tmp_path.stat().st_dev
    monkeypatch.setattr(file_systems, "by_device", lambda: {device: "ext4"})
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 0.0)
    for name in ("MIN_BYTES", "VERIFIED_BYTES", "VERIFIED_SHARE"):
        monkeypatch.setattr(remembered, name, 0)
    (tmp_path / "cache").mkdir()
    return DigestMemory(lambda: tmp_path / "cache")
