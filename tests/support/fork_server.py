"""Runs code in forks of a process that has imported Airflow and no client yet, as Airflow's supervisor runs tasks.

A fork starts at once; an interpreter takes seconds to import Airflow. The parent half is :class:`ForkServer`.
The other half reads what to run, one line for each fork, and answers with its process id and, when it is gone, its
status.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.waiting import until

_SECONDS = 60.0
_IMPORTED = ("airflow_provider_xethub.hooks.xethub", "airflow_provider_xethub.operators.xethub", "support.airflow_runs")


class Fork:
    """One fork: what :class:`subprocess.Popen` offers of a process.

    :ivar returncode: ``None`` while it runs; the negative number of the signal that ended it.
    """

    def __init__(self, pid: int, line: Callable[[float], str | None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._line = line

    def poll(self) -> int | None:
        """Return how it ended, if it has."""
        return self._wait(0.0)

    def wait(self, seconds: float = _SECONDS) -> int:
        """Wait until it is gone, and return how it ended."""
        status = self._wait(seconds)
        assert status is not None, f"process {self.pid} still runs after {seconds:.0f} s"
        return status

    def send_signal(self, sent: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, sent)

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def kill_when(self, condition: Callable[[], object]) -> None:
        """Kill it once ``condition`` holds, which must be before it ends by itself."""
        try:
            until(lambda: self.poll() is not None or condition())
            assert self.poll() is None
        finally:
            self.kill()

    def _wait(self, seconds: float) -> int | None:
        if self.returncode is None and (line := self._line(seconds)):
            self.returncode = os.waitstatus_to_exitcode(int(line))
        return self.returncode


class ForkServer:
    """A process that forks, one at a time.

    :param preload: code that it runs before, beside the imports of a worker.
    """

    def __init__(self, preload: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.fork_server", preload],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdout
        # Not select: the process of the tests may have more than 1,024 files open.
        self._answers = selectors.DefaultSelector()
        self._answers.register(self._process.stdout, selectors.EVENT_READ)

    def start(
        self, code: str, *arguments: str, output: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Fork:
        """Run code in a fork with the environment that this process has now.

        :param arguments: its ``sys.argv[1:]``.
        :param output: a file for all that it prints, behind what is there.
        :param environment: variables that it has besides.
        """
        spec = {
            "code": code,
            "arguments": arguments,
            "output": str(output or os.devnull),
            "environment": {**os.environ, **(environment or {})},
        }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(spec).encode() + b"\n")
        # The first one waits for the imports.
        pid = self._line(_SECONDS)
        assert pid, "the process that forks does not answer"
        return Fork(int(pid), self._line)

    def run(self, code: str, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run code in a fork as :meth:`start` does; return how it ended, and what it printed."""
        with tempfile.NamedTemporaryFile() as output:
            status = self.start(code, *arguments, output=Path(output.name), environment=environment).wait(120)
            return status, Path(output.name).read_text()

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(_SECONDS)
        self._answers.close()
        self._process.stdout.close()

    def _line(self, seconds: float) -> str | None:
        assert self._process.stdout
        if not self._answers.select(seconds):
            return None
        line = self._process.stdout.readline().decode()
        assert line, f"the process that forks ended with {self._process.wait()}"
        return line


def _main() -> None:
    """Import what a worker does, and fork for each line of standard input."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Airflow logs to standard output
    for module in _IMPORTED:
        importlib.import_module(module)
    assert not {"huggingface_hub", "hf_xet"} & sys.modules.keys()
    exec(sys.argv[1], {"__name__": "preload"})  # noqa: S102 - a test's own code
    # Forks share what they do not look at for garbage.
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _run(json.loads(line))
        print(pid, file=answers)
        _, status = os.waitpid(pid, 0)
        print(status, file=answers)


def _run(spec: Mapping[str, Any]) -> None:
    status = 1
    # As Airflow's own fork: it ends without taking leave of what was imported before.
    atexit._clear()
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(spec["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(spec["environment"])
        tempfile.tempdir = None
        sys.argv[1:] = spec["arguments"]
        exec(compile(spec["code"], "<forked>", "exec"), {"__name__": "__main__"})  # noqa: S102
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _main()
