"""The lock files of the Hugging Face cache: while ``huggingface_hub`` downloads a blob, nobody else does."""

from __future__ import annotations

import logging
import resource
import threading
from pathlib import Path
from typing import Any

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.xet.message_text import os_reason

log = logging.getLogger(__name__)

_MOST = 256


class Locks:
    """The locks that this process holds in one repository's folder, all released at the end of ``with``.

    Each lock is an open file, which any thread may close.

    :param folder: ``.locks/<folder of the repository>``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Any] = {}
        self._turn = threading.Lock()

    @property
    def most(self) -> int:
        """How many locks a process may hold: the client needs files too."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _MOST if limit == resource.RLIM_INFINITY else max(1, min(_MOST, limit // 4))

    def __enter__(self) -> Locks:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._held):
            self.release(name)

    def acquire(self, name: str) -> bool:
        """Take the lock of a blob if it is free; return whether this process now holds it.

        :raises XetDestinationError: the lock file cannot be opened.
        """
        from filelock import FileLock, SoftFileLock, Timeout

        path = self._folder / f"{name}.lock"
        try:
            is_link = path.is_symlink()
        except OSError as error:
            raise XetDestinationError(f"{path} cannot be locked on this worker: {os_reason(error)}.") from error
        if is_link:
            raise XetDestinationError(f"{path} is a symbolic link instead of a lock file. Remove it.")
        # The mode is that of huggingface_hub: other users of a shared cache wait for it too.
        for kind in (FileLock, SoftFileLock):
            lock = kind(str(path), mode=0o664, thread_local=False)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return False
            except NotImplementedError:  # the filesystem has no flock
                continue
            except OSError as error:
                raise XetDestinationError(f"{path} cannot be locked on this worker: {os_reason(error)}.") from error
            with self._turn:
                self._held[name] = lock
            return True
        return True

    def release(self, name: str) -> None:
        """Release the lock of a blob, if this process holds it."""
        with self._turn:
            lock = self._held.pop(name, None)
        if lock is not None:
            try:
                lock.release()
            except OSError as error:  # the system closes the file, and so releases the lock, even then
                log.debug("The lock file of %s could not be closed: %s", name, error)
