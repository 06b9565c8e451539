"""Destinations that treat different names as equal: ``Data.csv`` and ``data.csv``, or two Unicode forms of one name.

Such destinations are SMB shares, macOS, FAT, some NFS and some container volumes. There, two files would silently
become one. Only a test shows how a destination compares names: with empty files in a folder that is removed at once,
and only where there are names that some filesystem treats as equal.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

from airflow_provider_xethub.exceptions import XetDestinationError, XetHubError, XetInputError
from airflow_provider_xethub.xet.files import path_kinds
from airflow_provider_xethub.xet.message_text import os_reason, shortened
from airflow_provider_xethub.xet.process import temporary_names

_MAX_NAMED = 5

_FOLDERS = 64
"""Folders of the destination whose names are in memory at a time."""


class Trial(Protocol):
    """An empty folder to try names in."""

    def has(self, name: str) -> bool:
        """Return whether a name leads to something."""

    def create(self, name: str) -> None:
        """Create an empty file."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def listed(self) -> list[str]:
        """Return the names as the destination stores them."""


class Destination(Protocol):
    """The operations that the check needs of a destination. Paths have slashes on every system."""

    def shown(self, folder: str) -> str:
        """Return the name of a folder for messages."""

    def listed(self, folders: Sequence[str]) -> list[list[str]]:
        """Return the names in each folder; empty where a folder does not exist."""

    def has(self, path: str) -> bool:
        """Return whether a path leads to something."""

    def trial(self, folder: str) -> AbstractContextManager[Trial]:
        """Create a folder that compares names as ``folder`` does or will; remove it at the end."""


def key(name: str) -> str:
    """Return a key that is equal for names that any known filesystem may treat as equal."""
    if name.isascii():
        return name.lower().rstrip(". ")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    # HFS+ ignores characters that have no width; FAT drops dots and spaces at the end.
    return "".join(each for each in folded if unicodedata.category(each) != "Cf").rstrip(". ")


def check(destination: Destination, root: str, paths: Iterable[str], repo: str, *, on_disk: bool = False) -> None:
    """Refuse files that would become one file there, or replace a file with another spelling of its name.

    :param root: the folder that the files go into.
    :param paths: of the files, relative to it.
    :param on_disk: for paths that may be too many for memory: they are kept on this worker's disk, one folder of them
        at a time in memory, and a path that occurs twice is refused, too.
    :param repo: the repository of the files, for the message.
    :raises XetInputError: there are such files; the message names two. Nothing was written.
    :raises XetDestinationError: the test failed.
    """
    if on_disk:
        with _TreeOnDisk(paths) as tree:
            if twice := tree.twice():
                raise XetInputError(
                    f"two of the files would be written to {_below(destination.shown(root), twice)}. Download them to "
                    "different folders."
                )
            _check(destination, root, tree, repo)
        return
    tree_in_memory: dict[str, dict[str, str]] = {}
    for path in paths:
        for folder, name in _steps(path):
            tree_in_memory.setdefault(folder, {}).setdefault(name, path)
    _check(destination, root, tree_in_memory, repo)


def _check(destination: Destination, root: str, tree: _Tree, repo: str) -> None:
    merged: list[_Merged] = []
    for folder, children in tree.items():
        if groups := _alike(children):
            files = {name for name, path in children.items() if path == posixpath.join(folder, name)}
            merged += _merged(destination, _below(root, folder), groups, children, files)
    if merged:
        raise _refusal(sorted(merged), repo)
    level = [""]
    while level:
        below: list[str] = []
        for start in range(0, len(level), _FOLDERS):
            some = level[start : start + _FOLDERS]
            folders = [_below(root, folder) for folder in some]
            for folder, full, there in zip(some, folders, destination.listed(folders), strict=True):
                known, children = set(there), tree[folder]
                _check_what_is_there(destination, full, known, children, repo)
                found = (posixpath.join(folder, name) for name in children if name in known)
                below += [each for each in found if each in tree]
        level = below


def _steps(path: str) -> Iterator[tuple[str, str]]:
    """Yield each folder on the way to a file with the name in it that leads on."""
    folder = ""
    for name in path.split("/"):
        yield folder, name
        folder = posixpath.join(folder, name)


class _Tree(Protocol):
    """The files, by the folders on their way: for each name in a folder, a path that it leads to."""

    def items(self) -> Iterable[tuple[str, dict[str, str]]]: ...

    def __getitem__(self, folder: str, /) -> dict[str, str]: ...

    def __contains__(self, folder: object, /) -> bool: ...


class _TreeOnDisk:
    """A tree in a database in a temporary file, which is gone when the process ends."""

    def __init__(self, paths: Iterable[str]) -> None:
        import sqlite3

        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute(
            "CREATE TABLE names (folder TEXT, name TEXT, path TEXT, files INTEGER, PRIMARY KEY (folder, name)) "
            "WITHOUT ROWID"
        )
        self._database.execute("BEGIN")
        above = ""
        for path in paths:
            folder = posixpath.dirname(path)
            if folder != above:
                steps = [(*step, path) for step in _steps(path)][:-1]
                self._database.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?, 0)", steps)
                above = folder
            self._database.execute(
                "INSERT INTO names VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET files = files + 1",
                (folder, posixpath.basename(path), path),
            )
        self._database.execute("COMMIT")

    def __enter__(self) -> _TreeOnDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def twice(self) -> str | None:
        """Return a path that occurs twice."""
        found = self._database.execute("SELECT path FROM names WHERE files > 1 LIMIT 1").fetchone()
        return str(found[0]) if found else None

    def items(self) -> Iterator[tuple[str, dict[str, str]]]:
        rows = self._database.execute("SELECT folder, name, path FROM names ORDER BY folder")
        for folder, group in groupby(rows, key=lambda row: str(row[0])):
            yield folder, {name: path for _, name, path in group}

    def __getitem__(self, folder: str) -> dict[str, str]:
        return dict(self._database.execute("SELECT name, path FROM names WHERE folder = ?", (folder,)))

    def __contains__(self, folder: object) -> bool:
        found = self._database.execute("SELECT 1 FROM names WHERE folder = ? LIMIT 1", (folder,))
        return found.fetchone() is not None


def _below(root: str, folder: str) -> str:
    return posixpath.join(root, folder) if folder else root


def _alike(names: Collection[str]) -> list[list[str]]:
    """Return the groups of names that some filesystem treats as equal."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


class _Merged(NamedTuple):
    """Two names that the destination treats as equal; names of files sort first."""

    what: str
    paths: tuple[str, str]
    names: tuple[str, str]
    folder: str


def _merged(
    destination: Destination,
    folder: str,
    groups: Sequence[Sequence[str]],
    paths: Mapping[str, str],
    files: Collection[str],
) -> list[_Merged]:
    found: list[_Merged] = []
    with destination.trial(folder) as trial:
        for group in groups:
            created: list[str] = []
            for name in group:
                if trial.has(name):
                    other = _taken_for(trial, name, created)
                    what = ("folder", "name", "file")[(name in files) + (other in files)]
                    found.append(_Merged(what, (paths[other], paths[name]), (other, name), destination.shown(folder)))
                    break
                trial.create(name)
                created.append(name)
    return found


def _refusal(merged: Sequence[_Merged], repo: str) -> XetInputError:
    first, *others = merged
    same = shortened([" and ".join(each.paths) for each in others], _MAX_NAMED)
    return XetInputError(
        f"{first.paths[0]} and {first.paths[1]} would share one {first.what}: {first.folder} treats "
        f"{first.names[0]!a} and {first.names[1]!a} as equal. Nothing of {repo} was written. Download them into "
        f"different folders, or select one of them.{f' The same applies to {same}.' if others else ''}"
    )


def _taken_for(trial: Trial, name: str, created: Sequence[str]) -> str:
    for other in created[:-1]:
        trial.remove(other)
        if not trial.has(name):
            return other
    return created[-1]


def _check_what_is_there(
    destination: Destination, folder: str, there: set[str], children: Mapping[str, str], repo: str
) -> None:
    new = [name for name in children if name not in there]
    if not new or not there:
        return
    spelled: dict[str, list[str]] = {}
    for name in there:
        spelled.setdefault(key(name), []).append(name)
    for name in new:
        alike = spelled.get(key(name))
        if not alike or not destination.has(posixpath.join(folder, name)):
            continue
        with destination.trial(folder) as trial:
            trial.create(name)
            as_stored = trial.listed()
        # Some store another form of a name than the given one: then it may be the same file, downloaded before.
        if there.isdisjoint(as_stored) and name not in destination.listed([folder])[0]:
            raise XetInputError(
                f"{children[name]} would replace {alike[0]!a}: {destination.shown(folder)} treats it and {name!a} as "
                f"equal. Nothing of {repo} was written. Move {alike[0]!a} away, or choose another destination."
            )


class Local:
    """A folder on this worker."""

    def shown(self, folder: str) -> str:
        """Return the path as it is."""
        return folder

    def listed(self, folders: Sequence[str]) -> list[list[str]]:
        """Return the names in each folder."""
        return [self._listed(folder) for folder in folders]

    def _listed(self, folder: str) -> list[str]:
        try:
            return [each.name for each in os.scandir(folder)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unusable(folder, error) from error

    def has(self, path: str) -> bool:
        """Return whether a path leads to something."""
        try:
            return path_kinds.is_there(path)
        except OSError as error:
            raise _unusable(path, error) from error

    @contextmanager
    def trial(self, folder: str) -> Iterator[Trial]:
        """Create the folder in ``folder``, or in the nearest existing folder above it."""
        above = Path(folder)
        try:
            while not path_kinds.is_folder(above) and above != above.parent:
                above = above.parent
            place = above / temporary_names.new_name("/")
            place.mkdir(0o700)
        except OSError as error:
            raise _unusable(above, error) from error
        try:
            try:
                yield _LocalTrial(place)
            finally:
                for each in place.iterdir():
                    each.unlink(missing_ok=True)
                place.rmdir()
        except XetHubError:
            raise
        except OSError as error:
            raise _unusable(above, error) from error


class _LocalTrial:
    def __init__(self, place: Path) -> None:
        self._place = place

    def has(self, name: str) -> bool:
        return path_kinds.is_there(self._place / name)

    def create(self, name: str) -> None:
        (self._place / name).touch(exist_ok=False)

    def remove(self, name: str) -> None:
        (self._place / name).unlink()

    def listed(self) -> list[str]:
        return [each.name for each in self._place.iterdir()]


def _unusable(folder: object, error: OSError) -> XetDestinationError:
    reason = os_reason(error)
    return XetDestinationError(f"{folder} cannot be written on this worker: {reason}. Nothing was written there.")
