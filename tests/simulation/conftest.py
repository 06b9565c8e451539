"""The simulation of a test: with a Hub of its own, whose requests nothing else sees or sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_xethub.fs.xethub import XetHubFileSystem
from simulation.simulate import Simulation
from support.object_stores import forget_filesystems
from xethub_local.server import LocalHub


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    log = tmp_path / "log"
    log.touch()
    # One of an earlier test may have the same connection ID, and a proxy that is gone.
    XetHubFileSystem.clear_instance_cache()
    forget_filesystems()
    with LocalHub(tmp_path / "hub") as hub:
        yield Simulation(hub, tmp_path / "worlds", log)
