"""No child process inherits the password of a proxy, whoever starts it and how, while a transfer begins."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.network import child_processes

SECRET = "door-9b2e47d1"
VARIABLES = {"HTTPS_PROXY": f"http://anna:{SECRET}@127.0.0.1:1", "NO_PROXY": None}


def by_run(path):
    with path.open("ab") as file:
        subprocess.run(["/usr/bin/env"], stdout=file, check=True)


def by_shell(path):
    os.system(f"env >> {path}")  # noqa: S605


def by_popen(path):
    with os.popen("env") as output:  # noqa: S605
        path.write_text(output.read())


def by_fork(path):
    child = os.fork()
    if not child:
        os.execv("/bin/sh", ["sh", "-c", f"env >> {path}"])  # noqa: S606
    os.waitpid(child, 0)


@pytest.mark.parametrize("start", [by_run, by_shell, by_popen, by_fork])
def test_a_child_that_another_thread_starts_meanwhile_does_not_know_the_secret(tmp_path, start):
    path, over, started = tmp_path / "environments", threading.Event(), []

    def children():
        while not over.is_set():
            start(path)
            started.append(1)
            assert SECRET not in path.read_text()

    failures = []

    def watched():
        try:
            children()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=watched) for _ in range(2)]
    for thread in threads:
        thread.start()
    held = 0
    for _ in range(12):
        time.sleep(0.01)
        with cas_session._environment(VARIABLES):
            held += 1
            time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(started) > 2
    assert held == 12


def test_native_code_sees_the_variables_and_nothing_else_does():
    with cas_session._environment(VARIABLES):
        assert SECRET not in str(os.environ)
        shown = Path("/proc/self/environ")
        assert not shown.exists() or SECRET not in shown.read_text()


def test_a_child_that_runs_for_long_does_not_hold_a_transfer_back_for_long():
    thread = threading.Thread(target=lambda: os.system("sleep 2"))  # noqa: S605
    thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    with child_processes.blocked():
        assert time.monotonic() - started < 1.8
    thread.join()


def test_a_fork_meanwhile_may_start_processes_of_its_own():
    """As Airflow forks, or the pool of a task: the thread that holds the others back is not in the child."""
    code = """
import os, subprocess, sys, threading, time
from airflow_provider_xethub.xet.network import child_processes
inside, over = threading.Event(), threading.Event()
def hold():
    with child_processes.blocked():
        inside.set()
        over.wait()
child_processes.MAX_BLOCKED_SECONDS = 0.1
thread = threading.Thread(target=hold); thread.start(); inside.wait()
child = os.fork()
if not child:
    subprocess.run(["true"], check=True, timeout=20)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
over.set(); thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "7"
