"""Folders for the files of one piece of work: removed afterwards, and later if the process was killed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_names import UNKNOWN, Attempt

log = logging.getLogger(__name__)


@contextlib.contextmanager
def temporary_folder(attempt: Attempt = UNKNOWN) -> Iterator[Path]:
    """Create a folder that only this user can read, in the system's folder for temporary files, and remove it.

    First remove those that killed processes of this user left there: they may hold gigabytes.

    :param attempt: the running task.
    :raises OSError: it cannot be created.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent, attempt)
    folder = parent / temporary_names.new_folder_name(attempt)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, also what is in folders that the work made read-only, as archives do."""
    for above, names, _ in os.walk(folder):
        for path in (Path(above, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path, attempt: Attempt) -> None:
    try:
        with os.scandir(parent) as entries:
            found = temporary_names.abandoned_folders((entry.name for entry in entries), attempt)
    except OSError:
        return
    for name in found:
        path = parent / name
        with contextlib.suppress(OSError):  # another process removes it, too
            state = path.lstat()
            if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid():
                _remove(path)
                log.info("Removed %s, which a process that was killed had left.", path)
