"""Tasks that a test stops, each in a process of its own, and the routes at which it stops them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MOST_SECONDS = 1.0
"""What a busy machine may take from the signal to the end of the task."""

UPLOADS = "POST /cas/.*/v1/xorb(s|-grants)/.*"
SHARDS = "POST /cas/.*/v2/shards"
READS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"


class Stopped:
    """A task in a process of its own; its temporary files have a folder of their own."""

    def __init__(self, tmp_path, operator, arguments, timeout=None):
        self.temporary = tmp_path / "temporary"
        self.temporary.mkdir()
        # A file, because nobody empties a pipe before the end, and a traceback may fill one.
        self.output = tmp_path / "output"
        spec = json.dumps({"operator": operator.__name__, "arguments": arguments, "timeout": timeout})
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "support.stopped_task", spec],
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "TMPDIR": str(self.temporary),
                },
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


def report(seconds, request):
    stop, leave = seconds
    print(f"{request.node.name}: stopped after {stop:.2f} s, gone {leave:.2f} s later")
    assert stop < MOST_SECONDS
    assert leave < 3 * MOST_SECONDS  # the interpreter takes leave of Airflow
