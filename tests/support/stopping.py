"""Tasks that a test stops, each in a process of its own, and the routes at which it stops them.

Most processes are forks, as Airflow's supervisor makes them; an interpreter of its own takes leave of Airflow as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.fork_server import Fork, ForkServer

MOST_SECONDS = 1.0
"""What a busy machine may take from the signal to the end of the task."""

UPLOADS = "POST /cas/.*/v1/xorb(s|-grants)/.*"
SHARDS = "POST /cas/.*/v2/shards"
READS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"


_FORKED = "from support import stopped_task; stopped_task.main()"


class Stopped:
    """A task in a process of its own; its temporary files have a folder of their own.

    :param server: what forks the process; ``None`` starts an interpreter.
    """

    process: Fork | subprocess.Popen[bytes]

    def __init__(
        self,
        server: ForkServer | None,
        tmp_path: Path,
        operator: type,
        arguments: dict[str, Any],
        timeout: float | None = None,
    ) -> None:
        self.temporary = tmp_path / "temporary"
        self.temporary.mkdir()
        # A file, because nobody empties a pipe before the end, and a traceback may fill one.
        self.output = tmp_path / "output"
        spec = json.dumps({"operator": operator.__name__, "arguments": arguments, "timeout": timeout})
        environment = {"TMPDIR": str(self.temporary)}
        if server:
            self.process = server.start(_FORKED, spec, output=self.output, environment=environment)
            return
        path = os.pathsep.join(filter(None, sys.path))
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "support.stopped_task", spec],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONPATH": path},
            )

    def wait_until(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)

    def terminate(self):
        """Send SIGTERM, and return how the task ended and the seconds until it ended and its process was gone."""
        self.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        self.process.wait(30)
        gone = time.monotonic()
        result = self.result()
        # One clock for all processes.
        return result, (result["ended"] - started, gone - result["ended"])

    def result(self):
        self.process.wait(60)
        output = self.output.read_text()
        assert self.process.returncode == 0, output
        return json.loads(output.splitlines()[-1])

    def opens(self, path):
        def is_open():
            with contextlib.suppress(FileNotFoundError):  # some are closed meanwhile
                return path in [link.readlink() for link in Path(f"/proc/{self.process.pid}/fd").iterdir()]

        return is_open


def report(seconds, request, *, is_forked=True):
    stop, leave = seconds
    print(f"{request.node.name}: stopped after {stop:.2f} s, gone {leave:.2f} s later")
    assert stop < MOST_SECONDS
    assert leave < (3 if is_forked else 10) * MOST_SECONDS  # an interpreter takes leave of Airflow
