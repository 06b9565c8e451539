"""The simulation of a test: with a Hub of its own, whose requests nothing else sees or sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulation.simulate import Simulation
from xethub_local.server import LocalHub


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    log = tmp_path / "log"
    log.touch()
    with LocalHub(tmp_path / "hub") as hub:
        yield Simulation(hub, tmp_path / "worlds", log)
