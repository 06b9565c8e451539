"""A real triggerer: ``airflow triggerer``, a process of its own with the metadata database of the tests."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from support.fork_server import ForkServer

BIN = Path(sys.executable).parent
PATIENCE = 480.0
"""Seconds until a test gives up; nothing is measured with it."""

QUICK = {
    # A triggerer that was killed holds its triggers until its heartbeat is this old.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}


@cache
def _forks() -> ForkServer:
    """A process that has imported what a triggerer does, and has not met the database."""
    server = ForkServer("import airflow.__main__, airflow.cli.commands.triggerer_command")
    atexit.register(server.close)
    return server


@contextmanager
def stored_connection(conn_id: str, **fields: Any) -> Iterator[str]:
    """A connection that only the metadata database has, so that the triggerer has to ask its supervisor for it."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id=conn_id, conn_type="xethub", **fields))
    try:
        yield conn_id
    finally:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id=conn_id).delete()


class TriggererProcess:
    """A triggerer, from the beginning of the ``with`` to its end, unless it is killed before.

    :param log: its output goes there, behind what is there already.
    :param queues: it serves only these; without, only triggers without a queue.
    :param settings: environment variables.
    """

    def __init__(self, log: Path, queues: str | None = None, **settings: str) -> None:
        self.log = log
        self._process = _forks().start(
            "from airflow.__main__ import main; main()",
            *("triggerer", "--skip-serve-logs", *(["--queues", queues] if queues else [])),
            output=log,
            environment={"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **QUICK, **settings},
        )

    def __enter__(self) -> TriggererProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        finally:
            if self._process.returncode is None:
                self.kill()

    @property
    def pid(self) -> int:
        """The process that has the database; its children run the triggers."""
        return self._process.pid

    def kill(self) -> None:
        """End it and all its children at once, as if its machine had lost power."""
        for process in [self.pid, *_children(self.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until it is so, and return what it gave."""
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert self._process.poll() is None, self.log.read_text()[-6000:]
            assert time.monotonic() < deadline, self.log.read_text()[-6000:]
            time.sleep(0.05)
        return value

    def use(self) -> str:
        """What its processes have used so far: memory at most, and processor time."""
        told = []
        for process in [self.pid, *_children(self.pid)]:
            status = Path(f"/proc/{process}/status").read_text()
            memory = int(status.partition("VmHWM:")[2].split()[0]) // 1024
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            told.append(f"{memory} MiB, {seconds:.1f} s")
        return "; ".join(told)


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:  # it has ended
        return []
    children = [int(each) for each in text.split()]
    return children + [grandchild for child in children for grandchild in _children(child)]
