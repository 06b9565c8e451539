"""Folders that only this user can read, for a short-lived secret: in memory where possible, and always removed.

The name of each folder identifies the process that uses it, so a later process removes the folder of one that was
killed: see :mod:`airflow_provider_xethub.xet.process.temporary_names`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.xet.files import file_systems, path_kinds
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_names import Attempt

log = logging.getLogger(__name__)

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - for a folder that nobody else can read
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 5
_ROOM = 16_384
"""Bytes that must fit into a new folder; a secret has fewer."""


class PrivateFolder:
    """A folder with mode 0700, whose files have mode 0600 and are replaced as a whole.

    All its files are reached through the open folder: whoever can rename the folder does not get at what is written.

    :param parent: an existing folder.
    :param purpose: names of folders for different purposes differ.
    :param attempt: the running task.
    :ivar path: where it is.
    :raises OSError: it cannot be created.
    """

    def __init__(self, parent: Path, purpose: str, attempt: Attempt) -> None:
        self.path = parent / temporary_names.new_name(purpose, attempt)
        self._owner = os.getpid()
        # A handle that is closed while another thread writes may soon mean another folder. A signal handler may
        # interrupt the thread that has the lock, and remove the folder itself.
        self._turn = threading.RLock()
        self._names: set[str] = set()
        self.path.mkdir(mode=0o700)
        self._handle: int | None = None
        try:
            self._handle = os.open(self.path, _OPEN_FOLDER)
            # The umask may have taken permissions away.
            os.fchmod(self._handle, 0o700)
            found = os.fstat(self._handle)
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise PermissionError("the file system does not keep a folder private")
        except BaseException:
            self.remove()
            raise

    def write(self, name: str, content: bytes) -> Path:
        """Create or replace a file, so that a reader sees either the old or the new content, and return its path.

        :raises OSError: it cannot be written; an earlier content is still there.
        """
        with self._turn:
            return self._write(name, content)

    def _write(self, name: str, content: bytes) -> Path:
        if (folder := self._handle) is None:
            raise FileNotFoundError("the folder was removed")
        part = f".{name}.new"
        self._names |= {name, part}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        handle = os.open(part, _OPEN_NEW, 0o600, dir_fd=folder)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - an open file
                os.fchmod(handle, 0o600)
                file.write(content)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=folder)
            raise
        return self.path / name

    def remove(self) -> None:
        """Remove the folder and its files; a second call does nothing, nor does one in a process forked meanwhile."""
        if os.getpid() != self._owner:
            return
        with self._turn:
            handle, self._handle = self._handle, None
            if handle is None:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
                return
            try:
                _remove(self.path, handle, self._names)
            finally:
                os.close(handle)


def _remove(path: Path, handle: int, known: Collection[str] = ()) -> None:
    """Remove the files of an open folder, then the folder; log it if it stays.

    :param known: names of files that may be in it, should the folder not be listed.
    """
    failure: OSError
    for _ in range(_TRIES):  # another thread may be writing, and a disk may fail once
        try:
            try:
                found: Collection[str] = os.listdir(handle)
            except OSError:
                found = known
            for name in found:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=handle)
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            failure = error
            continue
        return
    log.warning("Remove %s: this task could not (%s), and it may still contain a secret.", path, os_reason(failure))


def create(folder: str | os.PathLike[str] | None, purpose: str, attempt: Attempt) -> PrivateFolder:
    """Create a private folder, after removing those that dead processes left for the same purpose.

    :param folder: where. ``None``: in memory (``/dev/shm`` or ``XDG_RUNTIME_DIR``), otherwise in the system's folder
        for temporary files, if it is on this machine.
    :raises XetInputError: ``folder`` is not the path of a folder, or is a link.
    :raises XetDestinationError: nothing can be written there.
    """
    if folder is not None:
        parent = _checked(folder)
        remove_abandoned(parent, purpose, attempt)
        try:
            return _with_room(parent, purpose, attempt)
        except OSError as error:
            raise XetDestinationError(
                f"Folder {parent} cannot hold a private file: {os_reason(error)}. Choose another folder."
            ) from error
    reasons = []
    for parent in _candidates():
        if (why := _unfit(parent)) is None:
            remove_abandoned(parent, purpose, attempt)
            try:
                return _with_room(parent, purpose, attempt)
            except OSError as error:
                why = os_reason(error)
        reasons.append(f"{parent}: {why}")
    raise XetDestinationError(
        "No folder on this machine can hold a private file. Name one with folder=, on a local file system. Tried "
        + "; ".join(reasons)
        + "."
    )


def _with_room(parent: Path, purpose: str, attempt: Attempt) -> PrivateFolder:
    """Create a private folder that a secret fits into: the memory of a container is often full."""
    made = PrivateFolder(parent, purpose, attempt)
    try:
        made.write("room", bytes(_ROOM)).unlink()
    except BaseException:
        made.remove()
        raise
    return made


def remove_abandoned(parent: Path, purpose: str, attempt: Attempt) -> None:
    """Remove the private folders of this user in ``parent`` whose process has certainly ended."""
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return
    for name in temporary_names.abandoned(names, [purpose], attempt):
        path = parent / name
        with contextlib.suppress(OSError):  # another process removes it, too
            handle = os.open(path, _OPEN_FOLDER)
            try:
                if os.fstat(handle).st_uid == os.geteuid():
                    _remove(path, handle)
                    log.info("Removed %s, which a process that was killed had left.", path)
            finally:
                os.close(handle)


def _checked(folder: str | os.PathLike[str]) -> Path:
    if not isinstance(folder, (str, os.PathLike)):
        raise XetInputError(f"folder must be a path, not {type(folder).__name__}.")
    if not str(folder).strip() or "\0" in str(folder):
        raise XetInputError("folder is empty. Leave it out for a folder in memory, or name an existing folder.")
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - Path.absolute() keeps ".."
    try:
        is_link = path.is_symlink()
        is_folder = path_kinds.is_folder(path)
    except OSError as error:
        raise XetDestinationError(
            f"Folder {path} cannot hold a private file: {os_reason(error)}. Choose another folder."
        ) from error
    if is_link:
        raise XetInputError(f"folder {path} is a symbolic link. Name the folder that it points to.")
    if not is_folder:
        raise XetInputError(f"folder {path} is not an existing folder on this worker. Create it, with mode 0700.")
    if (kind := file_systems.of_path(path)) not in file_systems.LOCAL and kind is not None:
        log.warning("Folder %s is on a file system (%s) that other machines may read.", path, kind)
    if (why := _exposed(path)) is not None:
        log.warning("Folder %s: %s, and can put another file in the place of a private one.", path, why)
    return path


def _candidates() -> list[Path]:
    """Return the folders to try, those in memory first."""
    named = [_SHARED_MEMORY, os.environ.get("XDG_RUNTIME_DIR")]
    real = map(os.path.realpath, filter(None, named))
    in_memory = [path for path in real if file_systems.of_path(Path(path)) in file_systems.MEMORY]
    return [Path(path) for path in dict.fromkeys([*in_memory, os.path.realpath(tempfile.gettempdir())])]


def _unfit(parent: Path) -> str | None:
    """Return why nobody asked for a secret in this folder; ``None`` where it is fit."""
    kind = file_systems.of_path(parent)
    if kind is not None and kind not in file_systems.LOCAL:
        return f"other machines may read its file system ({kind})"
    return _exposed(parent)


def _exposed(parent: Path) -> str | None:
    """Return who else can rename what is in a folder; ``None`` where only this user and root can."""
    try:
        found = parent.stat()
    except OSError as error:
        return os_reason(error)
    if found.st_uid not in (0, os.geteuid()):
        return "it belongs to another user, who can rename what is in it"
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        return "it has no sticky bit, so other users can rename what is in it"
    return None
