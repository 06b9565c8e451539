"""The files found for an upload, by their paths in the repository: in memory, or on disk if there are many."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from airflow_provider_xethub.exceptions import XetInputError, XetSourceError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files.digest_memory import FileState
from airflow_provider_xethub.xet.files.object_sources import SAMPLE_BYTES, StoredFile
from airflow_provider_xethub.xet.message_text import counted, os_reason
from airflow_provider_xethub.xet.process.path_table import PathTable, Row


@dataclass(frozen=True)
class LocalFile:
    """A file to upload, in the state in which it was found.

    :param name: its path on the worker.
    :param path_in_repo: its path in the repository.
    :param state: what it is recognised by.
    """

    name: str
    path_in_repo: str
    state: FileState

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> Path:
        """Its path on the worker."""
        return Path(self.name)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.state.size

    @cached_property
    def sample(self) -> bytes:
        """Its first :data:`SAMPLE_BYTES` bytes. They are read when they are first needed.

        A file that has not changed since the last upload needs none: on a disk, reading the beginning of many files
        takes longer than all else.

        :raises XetSourceError: it can no longer be read.
        """
        try:
            descriptor, _ = _open(self.name)
            try:
                return os.read(descriptor, SAMPLE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            reason = str(error) if isinstance(error, XetSourceError) else f"{self.name}: {os_reason(error)}"
            raise XetSourceError(f"A source can no longer be read. Nothing was published: {reason}") from error


SourceFile: TypeAlias = "LocalFile | StoredFile"


def open_local(path: str | os.PathLike[str], path_in_repo: str) -> LocalFile:
    """Open a file as the upload will, and return its facts.

    :raises OSError: it cannot be read.
    :raises XetSourceError: it is not a regular file.
    """
    name = os.fspath(path)
    descriptor, status = _open(name)
    os.close(descriptor)
    return LocalFile(name, path_in_repo, FileState.of(status))


def _open(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file, and return its descriptor and what the system says about it."""
    # Opening a pipe could block forever, and the file may have been replaced by one since it was found.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise XetSourceError(f"{path}: is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


class FoundFiles(Collection[SourceFile]):
    """Files with different paths in the repository, which are read in the order of these paths.

    Up to :data:`~airflow_provider_xethub.xet.records.IN_MEMORY` of them are in memory.
    """

    def __init__(self) -> None:
        self._most = records.IN_MEMORY
        self._few: dict[str, SourceFile] = {}
        # Objects of an object storage share their listing, which is in memory anyway.
        self._stored: list[StoredFile] = []
        self._many: PathTable | None = None

    def add(self, file: SourceFile) -> None:
        """Add a file.

        :raises XetInputError: another one has the same path in the repository.
        """
        target = file.path_in_repo
        if self._many is None:
            if target in self._few and str(self._few[target]) != str(file):
                raise _twice(self._few[target], file)
            self._few[target] = file
            if len(self._few) > self._most:
                self._move_to_disk()
        elif not self._many.add(self._row(file)):
            known = self._file(target, self._many.get(target) or "")
            if str(known) != str(file):
                raise _twice(known, file)

    def __len__(self) -> int:
        return len(self._few) if self._many is None else len(self._many)

    def __contains__(self, file: object) -> bool:
        return isinstance(file, (LocalFile, StoredFile)) and self.has(file.path_in_repo)

    def has(self, path: str) -> bool:
        """Return whether a file has this path in the repository."""
        return path in self._few if self._many is None else self._many.get(path) is not None

    def __iter__(self) -> Iterator[SourceFile]:
        """Yield the files in the order of their paths."""
        if self._many is None:
            yield from (file for _, file in sorted(self._few.items()))
        else:
            yield from (self._file(row.path, row.value) for row in self._many.by_path())

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield path in the repository and size of each file, in the order of these paths."""
        if self._many is None:
            yield from ((path, file.size) for path, file in sorted(self._few.items()))
        else:
            yield from ((row.path, row.size or 0) for row in self._many.by_path())

    def get(self, path: str) -> SourceFile | None:
        """Return the file with this path in the repository."""
        if self._many is None:
            return self._few.get(path)
        value = self._many.get(path)
        return None if value is None else self._file(path, value)

    def paths(self) -> Iterator[str]:
        """Yield the paths in the repository, in their order."""
        return iter(sorted(self._few)) if self._many is None else (row.path for row in self._many.by_path())

    @property
    def are_on_disk(self) -> bool:
        """Whether there are so many that they are kept on disk."""
        return self._many is not None

    def _move_to_disk(self) -> None:
        self._many = PathTable()
        for file in self._few.values():
            self._many.add(self._row(file))
        self._few = {}

    def _row(self, file: SourceFile) -> Row:
        if isinstance(file, StoredFile):
            self._stored.append(file)
            return Row(file.path_in_repo, str(len(self._stored) - 1), file.size)
        return Row(file.path_in_repo, json.dumps([file.name, *file.state]), file.size)

    def _file(self, target: str, value: str) -> SourceFile:
        known = json.loads(value)
        if isinstance(known, int):
            return self._stored[known]
        name, *state = known
        return LocalFile(name, target, FileState(*state))

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'file')}>"


def _twice(one: SourceFile, other: SourceFile) -> XetInputError:
    return XetInputError(f"{one} and {other} would both become {other.path_in_repo} in the repository.")


def check_no_folder(found: FoundFiles) -> None:
    """Refuse a file that would also be the folder of another file.

    :raises XetInputError: there is one; the message names both files.
    """
    checked = ""
    for path in found.paths():
        folder = path.rpartition("/")[0]
        if folder == checked:
            continue
        checked = folder
        while folder:
            if found.has(folder):
                raise XetInputError(
                    f"{folder} would be both a file and the folder of {path} in the repository. Nothing was uploaded. "
                    "Exclude one of them, or upload them to different folders."
                )
            folder = folder.rpartition("/")[0]
