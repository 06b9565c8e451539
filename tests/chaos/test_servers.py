"""Servers are ended with what they started, or alone, and start again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import servers
from chaos.servers import Server
from support.celery_airflow import signal_to, until

_PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print("ready", os.environ["NUMBER"], sys.argv[1], flush=True)
time.sleep(600)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    command = [sys.executable, "-c", _PARENT, "start-{start}"]
    made = Server("server", command, {"NUMBER": "7", "PATH": os.environ["PATH"]}, tmp_path / "log", ready="ready 7")
    made.start()
    servers.wait_until_ready([made], 30)
    below = made.below()
    yield made
    made.kill()
    for pid in below:
        signal_to(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    # A process whose parent has not asked for its status has ended, too.
    return not servers.command_line(pid)


def test_a_killed_server_takes_with_it_what_it_started(server: Server) -> None:
    [child] = server.below()
    server.kill()
    assert not server.is_running()
    assert not server.is_ready()
    until(lambda: _has_ended(child), 30, "the end of the child")


def test_a_server_that_is_killed_alone_leaves_what_it_started(server: Server) -> None:
    [child] = server.below()
    server.kill_alone()
    assert not server.is_running()
    assert not _has_ended(child)


def test_a_server_that_starts_again_is_ready_only_when_it_says_so_again(server: Server) -> None:
    assert "start-1" in server.new_log()
    server.terminate()
    until(lambda: not server.is_running(), 30, "the end of the server")
    server.start()
    assert "start-1" not in server.new_log()
    servers.wait_until_ready([server], 30)
    assert "start-2" in server.new_log()
    for pid in server.below():
        signal_to(pid, signal.SIGKILL)


def test_a_server_that_does_not_start_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = Server("The broken one", [sys.executable, "-c", "print('no port')"], {}, tmp_path / "log", ready="never")
    broken.start()
    with pytest.raises(SystemExit, match=r"The broken one did not start\.[\s\S]*no port"):
        servers.wait_until_ready([broken], 30)
