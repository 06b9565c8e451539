"""Find the files of a local folder, by the rule of :mod:`airflow_provider_xethub.xet.files.source_rules`.

Each folder is listed once; only links need another system call.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from airflow_provider_xethub.xet.files import source_rules
from airflow_provider_xethub.xet.files.source_rules import Findings
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.path_patterns import Glob, Selection

_Folder = tuple[int, int]

_AT_ONCE = 10_000
"""Entries of one folder that are in memory."""


@dataclass(frozen=True)
class _Todo:
    """A folder to be listed.

    :param above: the folders on the way to it, where links are followed.
    """

    path: str
    relative: str
    above: frozenset[_Folder]


class Scan:
    """One search below a folder.

    :param folder: the folder; it may be a link itself.
    :param selection: selects among its files.
    :param findings: collects what is left out, refused or unreadable.
    :param glob: selects only files that match it too.
    :param follow_links: whether to follow links to folders, and links that lead out of the folder.
    :ivar listed: the folders that were listed so far.
    """

    def __init__(
        self,
        folder: str,
        selection: Selection,
        findings: Findings,
        *,
        glob: Glob | None = None,
        follow_links: bool = False,
    ) -> None:
        self._folder = folder
        self._selection = selection
        self._findings = findings
        self._glob = glob
        self._follow_links = follow_links
        self._real = os.path.realpath(folder)
        self._cached_repo = source_rules.cached_repo(self._real)
        self._todo: list[_Todo] = []
        self.listed: list[str] = []

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield each file with its path below the folder, in no particular order."""
        self._push(self._folder, "", frozenset())
        while self._todo:
            yield from self._files_of(self._todo.pop())

    def _files_of(self, todo: _Todo) -> Iterator[tuple[str, str]]:
        above = (todo.relative or self._real).rpartition("/")[2]
        prefix = f"{todo.relative}/" if todo.relative else ""
        for entry in self._entries(todo.path):
            relative = prefix + entry.name
            if reason := source_rules.left_out(entry.name, above):
                if self._is_meant(relative):
                    self._findings.leave_out(reason, relative)
            elif entry.is_symlink():
                yield from self._link(entry.path, relative, todo.above)
            elif entry.is_dir(follow_symlinks=False):
                if self._may_hold(relative):
                    self._push(entry.path, relative, todo.above)
            elif self._takes(relative):
                if entry.is_file(follow_symlinks=False):
                    yield entry.path, relative
                else:
                    self._not_a_file(entry.path)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a folder: in order, unless there are more than memory should hold."""
        try:
            with os.scandir(folder) as entries:
                self.listed.append(folder)
                while some := list(islice(entries, _AT_ONCE)):
                    yield from sorted(some, key=lambda entry: entry.name)
        except OSError as error:
            self._cannot(folder, error)

    def _link(self, path: str, relative: str, above: frozenset[_Folder]) -> Iterator[tuple[str, str]]:
        try:
            status = Path(path).stat()
        except OSError as error:
            if self._takes(relative):
                self._cannot(path, error)
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if not (
            self._may_hold(relative) and self._selection.takes_link(relative) if is_folder else self._takes(relative)
        ):
            return
        if not (self._follow_links or self._stays(path, is_folder=is_folder)):
            self._findings.leaving.append(f"{path} -> {os.path.realpath(path)}")
        elif not is_folder:
            if stat.S_ISREG(status.st_mode):
                yield path, relative
            else:
                self._not_a_file(path)
        elif self._follow_links:
            self._push(path, relative, above)
        else:
            self._findings.leave_out(source_rules.FOLDER_LINK, relative)

    def _push(self, path: str, relative: str, above: frozenset[_Folder]) -> None:
        if self._follow_links:
            try:
                status = Path(path).stat()
            except OSError as error:
                self._cannot(path, error)
                return
            folder = (status.st_dev, status.st_ino)
            if folder in above:
                self._findings.leave_out(source_rules.LOOP, relative)
                return
            above |= {folder}
        self._todo.append(_Todo(path, relative, above))

    def _stays(self, path: str, *, is_folder: bool) -> bool:
        target = os.path.realpath(path)
        if source_rules.is_inside(target, self._real):
            return True
        return not is_folder and source_rules.is_blob(target, self._cached_repo)

    def _takes(self, relative: str) -> bool:
        return (self._glob is None or self._glob.takes(relative)) and self._selection.takes(relative)

    def _may_hold(self, relative: str) -> bool:
        return (self._glob is None or self._glob.may_take_below(relative)) and self._selection.may_take_below(relative)

    def _is_meant(self, relative: str) -> bool:
        return self._takes(relative) or self._may_hold(relative)

    def _cannot(self, path: str, error: OSError) -> None:
        self._findings.problems.append(f"{path}: {os_reason(error)}")

    def _not_a_file(self, path: str) -> None:
        self._findings.problems.append(f"{path}: is not a regular file")
