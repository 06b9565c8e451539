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
    r"\.(?P<file>[0-9a-f]{16})-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)(?:_(?P<began>\d+))?-[0-9a-f]{32}" + re.escape(SUFFIX)
)
_TRY = "AIRFLOW_CTX_TRY_NUMBER"
_TASK = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID")


def new(path: Path) -> Path:
    """Return a temporary name beside ``path`` that says for which file, task and process it is, and that is new."""
    return path.with_name(new_name(path.name))


def new_name(name: str) -> str:
    """Return such a name for a file called ``name``, in any kind of folder."""
    began = _began(os.getpid())
    process = f"{os.getpid()}" if began is None else f"{os.getpid()}_{began}"
    return f".{_file(name, os.environ)}-{_host()}-{process}-{uuid.uuid4().hex}{SUFFIX}"


def clear_left(paths: Iterable[Path]) -> list[Path]:
    """Remove temporary files for ``paths`` that an earlier try of this task has left, and return them."""
    wanted: dict[Path, list[str]] = {}
    for path in paths:
        wanted.setdefault(path.parent, []).append(path.name)
    removed = []
    for folder, names in wanted.items():
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries]
        for name in left(found, names):
            (folder / name).unlink(missing_ok=True)
            removed.append(folder / name)
    return removed


def left(found: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return which of the names ``found`` in a folder are temporary files that an earlier try of this task has left.

    Airflow runs one try of a task at a time. Those of a process that is still there are another map index's.

    :param names: the files for which they are.
    """
    parts = [(name, match) for name in found if (match := _NAME.fullmatch(name))]
    wanted = {_file(name, os.environ) for name in names} if parts else set()
    return [name for name, match in parts if match["file"] in wanted and not _is_in_use(match)]


def is_first_try() -> bool:
    """Whether this is known to be the first try of a task: then no earlier one has left anything."""
    return os.environ.get(_TRY) == "1"


def _file(name: str, environment: Mapping[str, str]) -> str:
    """Return what a file's temporary names begin with in all tries of one task; elsewhere it is new each time."""
    task = [environment.get(variable) or uuid.uuid4().hex for variable in _TASK]
    return hashlib.sha256("\0".join([*task, name]).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_in_use(part: re.Match[str]) -> bool:
    pid, began = int(part["pid"]), part["began"]
    if part["host"] != _host() or not _runs(pid):
        return False
    # A container that is started again gives the same numbers to other processes, even to this one.
    now = _began(pid)
    return began is None or now is None or int(began) == now


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _began(pid: int) -> int | None:
    """Return when a process began, in ticks since the start of the machine; ``None`` where nobody tells (no Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
