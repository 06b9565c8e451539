"""Runs tasks as Airflow's supervisor does: each in a fork of a process that has imported Airflow and no client yet.

The parent half is :class:`Forks`. The other reads one task on each line, and answers with the process id of its fork,
the time at which it began, and, when it is gone, how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any


class Forks:
    """A process that forks one task after the other."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forked_tasks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.pid = 0

    def start(self, operator: str, arguments: Mapping[str, Any], timeout: float | None = None) -> None:
        """Start a task; returns when ``execute`` is about to be called."""
        spec = {"operator": operator, "arguments": arguments, "timeout": timeout}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(spec) + "\n")
        self._process.stdin.flush()
        self.pid = self._answer()["pid"]
        assert self._answer()["began"]

    def kill(self, sent: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal, and return when: on one clock for all processes."""
        os.kill(self.pid, sent)
        return time.monotonic()

    def end(self) -> dict[str, Any]:
        """Wait until the process is gone: ``state``, ``error``, ``text``, and the times ``ended`` and ``gone``."""
        found: dict[str, Any] = {}
        while "gone" not in found:
            found |= self._answer()
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            assert line, f"ended with {self._process.wait()}"
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer


def main() -> None:
    from airflow_provider_xethub.operators import xethub
    from support.airflow_runs import run_task

    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)

    def tell(**what: Any) -> None:
        os.write(out, (json.dumps(what) + "\n").encode())

    # Forks share what they do not look at for garbage.
    gc.freeze()
    for line in sys.stdin:
        spec = json.loads(line)
        child = os.fork()
        if not child:
            # As Airflow's own fork: it ends without taking leave of what was imported before.
            import atexit

            atexit._clear()
            arguments = {**spec["arguments"], "pre_execute": lambda _: tell(began=time.monotonic())}
            if spec["timeout"]:
                arguments["execution_timeout"] = timedelta(seconds=spec["timeout"])
            run = run_task(getattr(xethub, spec["operator"]), **arguments)
            error = type(run.error).__name__ if run.error else None
            tell(state=run.state, error=error, text=str(run.error), ended=time.monotonic())
            atexit._run_exitfuncs()
            os._exit(0)
        tell(pid=child)
        _, status = os.waitpid(child, 0)
        tell(gone=time.monotonic(), status=status)


if __name__ == "__main__":
    main()
