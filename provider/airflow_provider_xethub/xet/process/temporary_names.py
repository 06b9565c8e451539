"""Names of temporary files, and which of these files are abandoned, so that they can be removed.

Several writers may share a folder: other hosts, other map indexes of a task, other DAG runs, or another Airflow whose
DAGs have the same names. Each name therefore identifies the final file, the attempt of the task instance, and the
process and system that write it.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".xetpart"
FOLDER_PREFIX = "xethub-"
"""Folders are not hidden: many libraries skip hidden ones, and tasks read and write in them."""

_NAME = re.compile(
    r"\.(?P<file>[0-9a-f]{12})-(?P<instance>[0-9a-f]{12}|0)-(?P<attempt>\d{1,9})-"
    r"(?P<system>[0-9a-f]{12}|0)-(?P<pid>\d{1,7})_(?P<began>\d{1,20})-[0-9a-f]{32}" + re.escape(SUFFIX)
)
_UNKNOWN = "0"


@dataclass(frozen=True)
class Attempt:
    """One attempt of one task instance. Airflow runs one at a time: while a later one runs, an earlier one is dead.

    :param instance: the task instance: the same in all of its attempts, and in nothing else anywhere.
    :param number: Airflow's ``try_number``; 0 where it is unknown.
    """

    instance: str = _UNKNOWN
    number: int = 0

    @classmethod
    def of(cls, number: int, *instance: object) -> Attempt:
        """Return the attempt ``number`` of the task instance that the values of ``instance`` identify together."""
        return cls(_short(*map(str, instance)), number)


UNKNOWN = Attempt()
"""Outside of a task, or where the task instance is unknown: never removes files of other task instances."""


def new(path: Path, attempt: Attempt = UNKNOWN) -> Path:
    """Return a new temporary path beside ``path`` that no one can guess."""
    return path.with_name(new_name(path.name, attempt))


def new_name(name: str, attempt: Attempt = UNKNOWN) -> str:
    """Return a new temporary name for the file ``name``, in any kind of folder."""
    pid = os.getpid()
    began = _start_ticks(pid)
    system = _UNKNOWN if began is None else _system()
    return f".{_short(name)}-{attempt.instance}-{attempt.number}-{system}-{pid}_{began or 0}-{uuid.uuid4().hex}{SUFFIX}"


def new_folder_name(attempt: Attempt = UNKNOWN) -> str:
    """Return a new name for a temporary folder."""
    return FOLDER_PREFIX + new_name(FOLDER_PREFIX, attempt)[1:].removesuffix(SUFFIX)


def another(part: Path) -> Path:
    """Return another temporary path for the same file and writer as ``part``.

    Anyone who can guess a name could create a symbolic link there, and redirect the content.
    """
    before, _, _ = part.name.rpartition("-")
    return part.with_name(f"{before or '.'}-{uuid.uuid4().hex}{SUFFIX}")


def remove_abandoned(paths: Iterable[Path], attempt: Attempt = UNKNOWN) -> list[Path]:
    """Remove the abandoned temporary files of ``paths``, and return them."""
    wanted: dict[Path, list[str]] = {}
    for path in paths:
        wanted.setdefault(path.parent, []).append(path.name)
    removed = []
    for folder, names in wanted.items():
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            # One name at a time: the folder may have millions.
            found = abandoned((entry.name for entry in entries), names, attempt)
        for name in found:
            (folder / name).unlink(missing_ok=True)
            removed.append(folder / name)
    return removed


def abandoned(found: Iterable[str], names: Iterable[str], attempt: Attempt = UNKNOWN) -> list[str]:
    """Return which of the names ``found`` in a folder are temporary files of a writer that has certainly ended.

    That is an earlier attempt of this task instance, on whatever host, or a process of this system that has exited.
    Any other temporary file may still be in use.

    :param names: the names of the final files.
    """
    parts = [(name, match) for name in found if (match := _NAME.fullmatch(name))]
    wanted = {_short(name) for name in names} if parts else set()
    return [name for name, match in parts if match["file"] in wanted and _is_abandoned(match, attempt)]


def abandoned_folders(found: Iterable[str], attempt: Attempt = UNKNOWN) -> list[str]:
    """Return which of the names ``found`` are temporary folders of a process that has certainly ended."""
    as_files = {
        f".{name.removeprefix(FOLDER_PREFIX)}{SUFFIX}": name for name in found if name.startswith(FOLDER_PREFIX)
    }
    return [as_files[name] for name in abandoned(as_files, [FOLDER_PREFIX], attempt)]


def _is_abandoned(part: re.Match[str], attempt: Attempt) -> bool:
    is_own = part["instance"] != _UNKNOWN and part["instance"] == attempt.instance
    if is_own and 0 < int(part["attempt"]) < attempt.number:
        return True
    if part["system"] == _UNKNOWN or part["system"] != _system():
        return False
    pid = int(part["pid"])
    if not _is_running(pid):
        return True
    # A restarted container reuses the process ids, possibly even for this process.
    now = _start_ticks(pid)
    return now is not None and now != int(part["began"])


def _short(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _system() -> str:
    """Return an id that is the same for all processes that can see each other; ``0`` where it is unknown (not Linux).

    A host name does not suffice: containers on different hosts may share one, and do not see each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return _short(boot, str(Path("/proc/self/ns/pid").stat().st_ino), socket.gethostname())
    except OSError:
        return _UNKNOWN


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot of the machine; ``None`` where that cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
