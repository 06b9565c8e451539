"""Run one task in a process of its own, as a worker does, and tell what it took: seconds and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT = "task-process: "


@dataclass
class Took:
    """How a task in a process of its own ended.

    :param peak_mb: the most memory that the process ever had, in MB; ``before_mb`` of it before the task began.
    """

    state: str
    error: str
    files: int
    transfer: dict[str, Any]
    seconds: float
    before_mb: float
    peak_mb: float

    def __str__(self) -> str:
        rate = self.transfer["bytes"] / self.seconds / 1e6
        return (
            f"{self.files} files, {self.transfer['bytes'] / 1e6:.0f} MB in {self.seconds:.1f} s: "
            f"{self.files / self.seconds:.0f} files/s, {rate:.0f} MB/s; peak {self.peak_mb:.0f} MB, of which "
            f"{self.before_mb:.0f} MB before the task began"
        )


def run(operator: str, timeout: float = 1800, **arguments: Any) -> Took:
    """Run an operator, by the name of its class; connections come from the environment."""
    done = subprocess.run(
        [sys.executable, __file__, operator, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        timeout=timeout,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    assert lines, done.stdout[-2000:]
    took = Took(**json.loads(lines[-1].removeprefix(RESULT)))
    assert took.state == "success", took.error
    return took


def memory_mb(what: str) -> float:
    """Return a figure of ``/proc/self/status`` in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    from airflow_provider_xethub.operators import xethub
    from airflow_runs import run_task

    operator, arguments = sys.argv[1], json.loads(sys.argv[2])
    before, began = memory_mb("VmHWM"), time.monotonic()
    run = run_task(getattr(xethub, operator), **arguments)
    seconds = time.monotonic() - began
    value = run.xcoms.get("return_value", [])
    result = {
        "state": run.state,
        "error": f"{type(run.error).__name__}: {run.error}",
        "files": len(value["files"] if isinstance(value, dict) else value),
        "transfer": run.xcoms.get("transfer", {}),
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": memory_mb("VmHWM"),
    }
    print(RESULT + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
