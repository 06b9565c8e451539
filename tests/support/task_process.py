"""What a task takes that runs in a process of its own, as on a worker: seconds and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass
class Took:
    """The figures of a task that succeeded.

    :param transfer: its XCom ``transfer``.
    :param seconds: in ``execute``.
    :param peak: the most memory that its process ever had, in bytes.
    """

    transfer: dict[str, Any]
    seconds: float
    peak: int

    def __str__(self) -> str:
        files, size = self.transfer["files"], self.transfer["bytes"] / 1e6
        return (
            f"{files} files, {size:.0f} MB in {self.seconds:.1f} s: {files / self.seconds:.0f} files/s, "
            f"{size / self.seconds:.0f} MB/s; peak {self.peak / 1e6:.0f} MB"
        )


def run(operator: str, **arguments: Any) -> Took:
    """Run an operator, by the name of its class; connections come from the environment."""
    spec = {"operator": operator, "arguments": arguments, "timeout": None}
    done = subprocess.run(
        [sys.executable, "-m", "support.stopped_task", json.dumps(spec)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["state"] == "success", result
    return Took(result["transfer"], result["seconds"], result["peak"])
