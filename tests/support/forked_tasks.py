"""Runs tasks as Airflow's supervisor does: each in a fork of a process that has imported Airflow and no client yet.

The parent half is :class:`Forks`. The other reads one task on each line, and answers with the process id of its fork,
the time at which it began, and, when it is gone, how it ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

_OPERATORS = "airflow_provider_xethub.operators.xethub"


class Forks:
    """A process that forks one task after the other.

    :param environment: what it has besides this process's.
    :param first_delay: seconds before the first retry of a request to the Hub; ``None``: as in production.
    """

    def __init__(self, environment: Mapping[str, str], first_delay: float | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forked_tasks", json.dumps(first_delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.pid = 0

    def start(
        self,
        operator: str,
        arguments: Mapping[str, Any],
        timeout: float | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a task; returns when ``execute`` is about to be called.

        :param operator: a class of ``operators.xethub``, or of another module as ``module:class``.
        :param state: what an earlier try has stored for this one.
        """
        spec = {"operator": operator, "arguments": arguments, "timeout": timeout, "state": state or {}}
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
        """Wait until the process is gone.

        ``state``, ``error`` with all ``bases`` of its class, ``text``, the return ``value``, what the task has
        ``stored`` for its retries, and the times ``ended`` and ``gone``.
        """
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
    from airflow_provider_xethub.xet.hub import client
    from support.airflow_runs import ExecutionApi, run_task

    client.FIRST_DELAY = json.loads(sys.argv[1]) or client.FIRST_DELAY
    importlib.import_module(_OPERATORS)
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
            module, _, operator = spec["operator"].rpartition(":")
            api = ExecutionApi(state=spec["state"])
            run = run_task(getattr(importlib.import_module(module or _OPERATORS), operator), api=api, **arguments)
            error = type(run.error).__name__ if run.error else None
            bases = [each.__name__ for each in type(run.error).__mro__] if run.error else []
            more = {"value": run.xcoms.get("return_value"), "stored": api.state}
            tell(state=run.state, error=error, bases=bases, text=str(run.error), ended=time.monotonic(), **more)
            atexit._run_exitfuncs()
            os._exit(0)
        tell(pid=child)
        _, status = os.waitpid(child, 0)
        tell(gone=time.monotonic(), status=status)


if __name__ == "__main__":
    main()
