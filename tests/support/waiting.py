"""Waiting for what a running Airflow does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T | None], *logs: Path, patience: float = 300.0) -> T:
    """Wait until the condition returns something true, and return it.

    :param logs: what the failure shows the ends of.
    :param patience: seconds.
    """
    deadline = time.monotonic() + patience
    pause = 0.01
    while not (value := condition()):
        assert time.monotonic() < deadline, "".join(log.read_text(errors="replace")[-4000:] for log in logs)
        time.sleep(pause)
        pause = min(1.5 * pause, 0.5)
    return value
