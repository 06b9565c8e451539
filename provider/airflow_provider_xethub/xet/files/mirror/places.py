"""Destinations of mirrors: local folders and object storage, with the record of what was put there.

A file is removed only where its content is the recorded one, at the moment of its removal. No symbolic link below the
destination is followed.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from airflow_provider_xethub.exceptions import XetDestinationError, XetHubError, XetInputError
from airflow_provider_xethub.xet.files import path_kinds
from airflow_provider_xethub.xet.files.content_identity import Identity, content_digest
from airflow_provider_xethub.xet.files.mirror.record import MAX_BYTES, MirrorRecord, decode
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME, BLOCK, Storage
from airflow_provider_xethub.xet.files.source_rules import MIRROR_RECORD
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.process import temporary_names, threads
from airflow_provider_xethub.xet.repo import folders_above

Known = Mapping[str, Sequence[Identity]]
"""The contents that files may have, by their paths below the destination."""

_READERS = 4
_UNKNOWN_CONTENT = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM])
"""Errors of opening something that is certainly not, or may not be read as, what a mirror put there: it stays.

Any other error says nothing about the file, and fails the mirror."""

_NO_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Place(Protocol):
    """A destination. All paths are relative to it."""

    has_folders: bool

    def record(self) -> MirrorRecord | None:
        """Return the record of earlier mirrors; ``None`` where there was none.

        :raises XetInputError: it is not valid.
        """

    def keep(self, record: MirrorRecord) -> None:
        """Replace the record at once."""

    def present(self, paths: Collection[str]) -> set[str]:
        """Return which paths exist and are not folders."""

    def in_the_way(self, wanted: Collection[str]) -> set[str]:
        """Return the files in the place of a folder of the wanted files, or in a folder in the place of one."""

    def holding(self, known: Known) -> set[str]:
        """Return which files have one of their known contents."""

    def remove(self, known: Known) -> list[str]:
        """Remove the files that have one of their known contents, with folders that become empty; return them."""


class LocalPlace:
    """A folder on this worker.

    :param root: the folder. It may be missing, and it may be a link.
    :param attempt: the attempt of the task, for the name of the temporary file.
    """

    has_folders = True

    def __init__(self, root: Path, attempt: temporary_names.Attempt = temporary_names.UNKNOWN) -> None:
        self._root = root
        self._attempt = attempt

    def __str__(self) -> str:
        return str(self._root)

    def record(self) -> MirrorRecord | None:
        """Read the record, but not through a link."""
        try:
            file = _open_regular(self._root / MIRROR_RECORD)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable_record(error) from error
        if file is None:
            raise _not_a_record(self, "is not a regular file")
        with file:
            try:
                data = file.read(MAX_BYTES + 1)
            except OSError as error:
                raise self._unreadable_record(error) from error
        if len(data) > MAX_BYTES:
            raise _not_a_record(self, f"is larger than {MAX_BYTES >> 20} MiB")
        return decode(data, str(self))

    def _unreadable_record(self, error: OSError) -> XetHubError:
        kind = XetInputError if error.errno in _UNKNOWN_CONTENT else XetDestinationError
        return kind(
            f"{MIRROR_RECORD} in {self} cannot be read: {os_reason(error)}. Nothing was changed. Remove it to "
            "start again; the files that earlier mirrors put there then stay."
        )

    def keep(self, record: MirrorRecord) -> None:
        """Write the record beside its final name, and rename it."""
        path = self._root / MIRROR_RECORD
        part = temporary_names.new(path, self._attempt)
        data = record.encoded()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            temporary_names.remove_abandoned([path], self._attempt)
            try:
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise XetDestinationError(f"{path} cannot be written on this worker: {os_reason(error)}.") from error

    def present(self, paths: Collection[str]) -> set[str]:
        """Look at each path; a link is a file, whatever it leads to."""
        return {path for path in paths if (mode := self._mode(path)) is not None and not stat.S_ISDIR(mode)}

    def in_the_way(self, wanted: Collection[str]) -> set[str]:
        """Look at each wanted path, and at the folders above it."""
        above = {folder for path in wanted for folder in folders_above(path)}
        found = self.present(above)
        for path in wanted:
            if (mode := self._mode(path)) is not None and stat.S_ISDIR(mode):
                found |= set(self._below(path))
        return found

    def _below(self, folder: str) -> Iterator[str]:
        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise self._unreadable(folder, error) from error

        for above, folders, names in os.walk(self._root / folder, onerror=fail):
            links = [name for name in folders if Path(above, name).is_symlink()]
            for name in (*names, *links):
                yield Path(above, name).relative_to(self._root).as_posix()

    def _mode(self, path: str) -> int | None:
        try:
            return path_kinds.mode_of(self._root / path, follow_links=False)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: str, error: OSError) -> XetDestinationError:
        return XetDestinationError(
            f"{self._root / path} cannot be read on this worker: {os_reason(error)}. Correct that, and let the task "
            "retry. Nothing was removed."
        )

    def holding(self, known: Known) -> set[str]:
        """Read each file, a few at a time."""
        paths = list(known)
        found = threads.stoppable(
            lambda stopped: threads.each(lambda path: self._holds(path, known[path]), paths, _READERS, stopped)
        )
        return {path for path, is_held in zip(paths, found, strict=True) if is_held}

    def _holds(self, path: str, known: Sequence[Identity]) -> bool:
        with self._folder_of(path) as folder:
            return folder is not None and self._matches(folder, path, known)

    def _matches(self, folder: int, path: str, known: Sequence[Identity]) -> bool:
        try:
            return _matches(folder, posixpath.basename(path), known)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def remove(self, known: Known) -> list[str]:
        """Compare and remove each file in its folder, which stays open meanwhile, so that no link can redirect it."""
        removed = []
        for path, contents in known.items():
            with self._folder_of(path) as folder:
                if folder is None or not self._matches(folder, path, contents):
                    continue
                try:
                    os.unlink(posixpath.basename(path), dir_fd=folder)
                except OSError as error:
                    raise XetDestinationError(
                        f"{self._root / path} cannot be removed on this worker: {os_reason(error)}. A retry continues."
                    ) from error
            removed.append(path)
            for above in folders_above(path):
                if not self._remove_folder(above):
                    break
        return removed

    def _remove_folder(self, path: str) -> bool:
        """Remove a folder if it is empty."""
        with self._folder_of(path) as folder, suppress(OSError):
            if folder is not None:
                os.rmdir(posixpath.basename(path), dir_fd=folder)
                return True
        return False

    @contextmanager
    def _folder_of(self, path: str) -> Iterator[int | None]:
        """Open the folder of a path without following a link below the destination; ``None`` where that fails."""
        folder: int | None = None
        try:
            try:
                folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                for name in path.split("/")[:-1]:
                    above = folder
                    try:
                        folder = os.open(name, _NO_FOLLOW | os.O_DIRECTORY, dir_fd=above)
                    finally:
                        os.close(above)
            except OSError as error:
                folder = None
                if error.errno not in _UNKNOWN_CONTENT:
                    raise self._unreadable(path, error) from error
            yield folder
        finally:
            if folder is not None:
                os.close(folder)


def _matches(folder: int, name: str, known: Sequence[Identity]) -> bool:
    """Return whether a regular file in an open folder has one of the known contents.

    :raises OSError: it cannot be read.
    """
    try:
        file = _open_regular(name, folder)
    except OSError as error:
        if error.errno in _UNKNOWN_CONTENT:
            return False
        raise
    if file is None:
        return False
    with file:
        size = os.fstat(file.fileno()).st_size
        for each in known:
            if each.size == size:
                file.seek(0)
                blocks = iter(lambda: file.read(BLOCK), b"")
                if content_digest(each.kind, each.size, blocks) == each.value:
                    return True
    return False


def _open_regular(path: str | Path, folder: int | None = None) -> IO[bytes] | None:
    """Open a file without following a link or waiting for a pipe; ``None`` where it is not a regular file.

    :raises OSError: it cannot be opened, or is a link.
    """
    descriptor = os.open(path, _NO_FOLLOW, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    return None


class StoredPlace:
    """A folder in object storage.

    :param root: its path in the filesystem, without a slash at the end.
    """

    def __init__(self, storage: Storage, root: str) -> None:
        self._storage = storage
        self._root = root.rstrip("/")
        self._listed: dict[str, Entry] | None = None
        self.has_folders = storage.has_folders

    def __str__(self) -> str:
        return self._storage.uri(self._root)

    def record(self) -> MirrorRecord | None:
        """Read the record."""
        found = self._storage.stat(self._path(MIRROR_RECORD))
        if found is None:
            return None
        if not isinstance(found, Entry):
            raise _not_a_record(self, "is a folder")
        if found.size > MAX_BYTES:
            raise _not_a_record(self, f"is larger than {MAX_BYTES >> 20} MiB")
        return decode(b"".join(self._storage.blocks(found)), str(self))

    def keep(self, record: MirrorRecord) -> None:
        """Write the record, which is visible only when it is complete."""
        data = record.encoded()
        with self._storage.writing(self._path(MIRROR_RECORD), len(data), None) as writer:
            writer.write(data)
            writer.finish()

    def present(self, paths: Collection[str]) -> set[str]:
        """List the destination once."""
        return set(paths) & self._entries().keys()

    def in_the_way(self, wanted: Collection[str]) -> set[str]:
        """Compare with the listing."""
        if not self.has_folders:
            return set()
        names = set(wanted)
        above = {folder for path in wanted for folder in folders_above(path)}
        there = self._entries().keys()
        return {path for path in there if path in above or any(folder in names for folder in folders_above(path))}

    def holding(self, known: Known) -> set[str]:
        """Compare the digest that the storage keeps, or read the object."""
        there = self._entries()
        paths = [path for path in known if path in there]
        found = threads.stoppable(
            lambda stopped: threads.each(lambda path: self._holds(there[path], known[path]), paths, AT_A_TIME, stopped)
        )
        return {path for path, is_held in zip(paths, found, strict=True) if is_held}

    def _holds(self, entry: Entry, known: Sequence[Identity]) -> bool:
        same_size = [each for each in known if each.size == entry.size]
        if not same_size or entry.kind != "file" or entry.link is not None or not self._is_inside(entry.path):
            return False
        recorded = self._storage.recorded(entry.path)
        if recorded is not None:
            for each in same_size:
                if each.kind == "sha256":
                    return recorded == (each.size, each.value)
        return any(
            content_digest(each.kind, each.size, self._storage.blocks(entry)) == each.value for each in same_size
        )

    def _is_inside(self, path: str) -> bool:
        """Return whether no link leads to the folder of a path, where the storage has links and resolves them."""
        if not self.has_folders:
            return True
        folder, root = posixpath.dirname(path), self._storage.real_path(self._root)
        if root is None:
            return True
        return self._storage.real_path(folder) == (root.rstrip("/") + folder.removeprefix(self._root)).rstrip("/")

    def remove(self, known: Known) -> list[str]:
        """Compare again, and remove."""
        self._listed = None
        held = sorted(self.holding(known))
        self._listed = None
        threads.stoppable(
            lambda stopped: threads.each(lambda path: self._storage.remove(self._path(path)), held, AT_A_TIME, stopped)
        )
        if self.has_folders:
            for folder in sorted({each for path in held for each in folders_above(path)}, key=len, reverse=True):
                self._storage.remove_empty_folder(self._path(folder))
        return held

    def _path(self, relative: str) -> str:
        return f"{self._root}/{relative}"

    def _entries(self) -> dict[str, Entry]:
        if self._listed is None:
            prefix = f"{self._root}/"
            self._listed = {
                entry.path.removeprefix(prefix): entry
                for entry in self._storage.find(self._root)
                if entry.path.startswith(prefix) and entry.kind != "marker"
            }
        return self._listed


def _not_a_record(place: object, why: str) -> XetInputError:
    return XetInputError(f"{MIRROR_RECORD} in {place} {why}, so it is not the record of a mirror. Nothing was changed.")
