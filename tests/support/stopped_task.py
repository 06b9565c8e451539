"""Run one task in a process of its own, for a test to stop: with the signal handler that Airflow itself installs."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_provider_xethub.operators import xethub
from support.airflow_runs import ExecutionApi, run_task


@dataclass
class _KeptApi(ExecutionApi):
    """Airflow's side outlives a task that is killed: its state is in a file."""

    file: Path = Path()

    def _state(self, request: Any, key: str) -> Any:
        answer = super()._state(request, key)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.state))
        new.replace(self.file)
        return answer


def main() -> None:
    """Read operator, arguments and ``execution_timeout`` from the command line, and print how the task ended."""
    spec = json.loads(sys.argv[1])
    began: list[float] = []

    def begin(_: Any) -> None:
        began.append(time.monotonic())

    arguments: dict[str, Any] = {**spec["arguments"], "pre_execute": begin}
    if spec.get("state"):
        arguments["api"] = _KeptApi(file=Path(spec["state"]))
    if spec["timeout"]:
        arguments["execution_timeout"] = timedelta(seconds=spec["timeout"])
    run = run_task(getattr(xethub, spec["operator"]), **arguments)
    now = time.monotonic()
    result: dict[str, Any] = {"state": run.state, "error": type(run.error).__name__, "text": str(run.error)}
    result["transfer"] = run.xcoms.get("transfer")
    print(json.dumps({**result, "seconds": now - began[0], "ended": now, "peak": _peak_memory()}), flush=True)


def _peak_memory() -> int | None:
    """Return the most memory this process ever had, in bytes; not ``ru_maxrss``, which starts with the parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
