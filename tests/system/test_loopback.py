"""The servers that the project starts listen to this machine only; the kernel is asked.

Those of Airflow are asked wherever a test or the demonstration starts them, in ``demo/services.py``.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from demo import services

_LISTEN = "import socket, sys; s = socket.create_server((sys.argv[1], 0)); print(flush=True); sys.stdin.read()"
_BELOW = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_LISTEN!r}, sys.argv[1]])"


@pytest.mark.parametrize("program", [_LISTEN, _BELOW])
@pytest.mark.parametrize(("address", "is_open"), [("127.0.0.1", False), ("0.0.0.0", True), ("", True)])  # noqa: S104
def test_a_server_that_others_reach_is_found(program, address, is_open):
    command = [sys.executable, "-c", program, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = services.open_to_others(process.pid)
        process.stdin.close()
    assert bool(found) is is_open
    assert not found or ", port " in found[0]


def test_the_local_hub_of_the_command_line_listens_to_this_machine_only(tmp_path):
    env = services.environment(tmp_path)
    with services.local_hub(tmp_path / "hub", env, tmp_path / "log") as url:
        assert url.startswith("http://127.0.0.1:")
