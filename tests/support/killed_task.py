"""A task in a process of its own that is killed with SIGKILL, as the kernel does it where memory runs out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MOST_SECONDS = 240


def kill_when(
    operator: str, arguments: Mapping[str, Any], condition: Callable[[], object], state: Path | None = None
) -> None:
    """Start a task, and kill it once ``condition`` holds: neither it nor the client gets to clean anything up.

    :param state: where what the task remembers for its retries is kept, as JSON.
    """
    spec = json.dumps({"operator": operator, "arguments": arguments, "timeout": None, "state": str(state or "")})
    process = subprocess.Popen(
        [sys.executable, "-m", "support.stopped_task", spec],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    deadline = time.monotonic() + MOST_SECONDS
    try:
        while not condition():
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
