"""Processes that are killed and started again. Only those that were started here, and theirs, are signalled."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from support.celery_airflow import descendants, kill_tree, signal_to

_PR_SET_CHILD_SUBREAPER = 36
TASK = b"airflow worker -- "
"""How the process of a task calls itself."""


class Server:
    """A process that is started any number of times.

    :param name: what the report calls it.
    :param command: its command line; ``{start}`` stands for how often it was started.
    :param env: its environment.
    :param log: its output is appended there.
    :param ready: what it writes there once it is ready. ``None``: it is ready as soon as ``responds`` says so.
    :param responds: whether it is ready, where its log does not say so.
    :param data: the folder in which it stores what it needs after a restart.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        ready: str | None = None,
        responds: Callable[[], object] | None = None,
        data: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = dict(env)
        self._ready = ready
        self._responds = responds
        self._data = data
        self._log_position = 0
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._starts += 1
        with self.log.open("ab") as output:
            self._log_position = output.tell()
            self._process = subprocess.Popen(
                [part.replace("{start}", str(self._starts)) for part in self._command],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process ID, also after it has ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def is_running(self) -> bool:
        """Return whether its main process runs."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Return whether it works since its last start."""
        if not self.is_running():
            return False
        if self._responds is not None:
            with suppress(OSError):
                return bool(self._responds())
            return False
        return self._ready is None or self._ready in self.new_log()

    def new_log(self) -> str:
        """Return what it wrote since its last start."""
        with self.log.open("rb") as file:
            file.seek(self._log_position)
            return file.read().decode(errors="replace")

    def tasks(self) -> list[int]:
        """Return the processes of tasks that run below it."""
        return [pid for pid in self.below() if command_line(pid).startswith(TASK)]

    def below(self) -> list[int]:
        """Return all processes that it started, and those that they started."""
        return descendants(self.pid) if self.is_running() else []

    def kill(self) -> None:
        """Kill it and all that it started, as if its machine had lost power."""
        if self.is_running():
            kill_tree(self.pid)
            self.process.wait()

    def lose_data(self) -> None:
        """Remove what it stored. It must not run."""
        assert self._data is not None
        shutil.rmtree(self._data)
        self._data.mkdir()

    def kill_alone(self) -> None:
        """Kill its main process only."""
        if self.is_running():
            signal_to(self.pid, signal.SIGKILL)
            self.process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.is_running():
            signal_to(self.pid, signal.SIGTERM)


def wait_until_ready(servers: Iterable[Server], patience: float = 300.0) -> None:
    """Wait until all of them are ready.

    :raises SystemExit: one has ended, or is not ready in time; the end of its log is shown.
    """
    deadline = time.monotonic() + patience
    for server in servers:
        while not server.is_ready():
            if not server.is_running() or time.monotonic() > deadline:
                end = "\n".join(server.log.read_text(errors="replace").splitlines()[-20:])
                raise SystemExit(f"{server.name} did not start. The end of its log:\n{end}")
            time.sleep(0.2)


def adopt_orphans() -> None:
    """Become the parent of all processes whose parents are killed, so that each can be found and ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans(servers: Iterable[Server], others: Iterable[int] = ()) -> list[int]:
    """Return processes whose parents were killed, and forget those that have ended.

    :param others: processes that are no servers of this list, but were started here.
    """
    known = {server.pid for server in servers if server._process is not None} | set(others)
    found = []
    for pid in children():
        if pid in known:
            continue
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                found.append(pid)
    return found


def tasks_among(pids: Iterable[int]) -> list[int]:
    """Return which of these processes, and of those below them, are tasks."""
    return [each for pid in pids for each in (pid, *descendants(pid)) if command_line(each).startswith(TASK)]


def command_line(pid: int) -> bytes:
    """Return the command line of a process, or how it calls itself; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return b""


def talks_to(pid: int, port: int) -> bool:
    """Return whether a process has a connection to a port of this machine."""
    import psutil

    try:
        process = psutil.Process(pid)
        connections = process.net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(each.raddr and each.raddr[1] == port for each in connections)


def children() -> list[int]:
    """Return the processes that this one started, and those whose parents were killed."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def own_pid() -> int:
    """Return the ID of this process."""
    return os.getpid()
