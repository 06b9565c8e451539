"""Names of temporary files: so that a retry finds and removes what a try that was killed has left behind."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIX = ".xetpart"

_NAME = re.compile(
    rf"\.(?P<file>[0-9a-f]{{16}})-(?P<host>[0-9a-f]{{8}})-(?P<pid>\d+)-[0-9a-f]{{32}}{re.escape(SUFFIX)}"
)
_TASK = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID")


def new(path: Path) -> Path:
    """Return a temporary name beside ``path`` that says for which file, task and process it is, and that is new."""
    name = f".{_file(path, os.environ)}-{_host()}-{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"
    return path.with_name(name)


def clear_left(paths: Iterable[Path]) -> list[Path]:
    """Remove temporary files for ``paths`` that an earlier try of this task has left, and return them.

    Airflow runs one try of a task at a time. Those of a process that is still there are another map index's.
    """
    wanted = {(path.parent, _file(path, os.environ)) for path in paths}
    removed = []
    for folder in {folder for folder, _ in wanted}:
        with os.scandir(folder) as entries:
            found = [(folder / entry.name, _NAME.fullmatch(entry.name)) for entry in entries]
        for path, name in found:
            if name and (folder, name["file"]) in wanted and not (name["host"] == _host() and _runs(int(name["pid"]))):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _file(path: Path, environment: Mapping[str, str]) -> str:
    """Return what a file's temporary names begin with in all tries of one task; elsewhere it is new each time."""
    task = [environment.get(name) or uuid.uuid4().hex for name in _TASK]
    return hashlib.sha256("\0".join([*task, path.name]).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
