"""Find the files of a folder that ``xethub-local put`` stores: those that an upload of the provider takes, too.

* What belongs to git, to ``huggingface_hub`` or to unfinished and mirrored downloads is left out at any level.
* A link to a file in the folder is stored as that file. A link to a folder in it is left out, because its files are
  found in the folder itself. A link that leads out of the folder is refused.
* With ``follow_links``, all links are followed, except those that lead back to a folder above them.

``tests/unit/local/cli/test_source_files.py`` compares both. One thing differs: a snapshot of a Hugging Face cache,
whose files are links, needs ``--follow-links``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from xethub_local.cli.arguments import CommandError

_CLIENT_FILES = "files of git and of clients"
_FOLDER_LINKS = "links to folders"
_LOOPS = "links back to a folder that they are in"

# Matched with the path below the folder, and the folder's own name before it.
_OF_CLIENTS = re.compile(
    r".*/(?:(?i:\.git)|\.cache/huggingface|\.locks/(?:models|datasets|spaces)--[^/]+|\.xethub-mirror\.json"
    r"|\.[^/]*\.xetpart|(?:[^/]+\.)?[0-9a-f]{40,64}(?:\.[0-9a-f]{8})?\.incomplete)",
    re.DOTALL,
)
_MOST_NAMED = 20
_MOST_LEFT_OUT_NAMED = 5


@dataclass
class LeftOut:
    """Names of the files, folders and links that are not stored, by reason."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Record one of them."""
        self.names.setdefault(reason, []).append(name)

    def __str__(self) -> str:
        return "; ".join(
            f"{reason} ({len(names)}): {_shortened(names, _MOST_LEFT_OUT_NAMED)}"
            for reason, names in sorted(self.names.items())
        )


@dataclass(frozen=True)
class _Todo:
    """A folder to be listed; ``above`` are the real paths of the folders on the way to it."""

    folder: str
    prefix: str
    above: frozenset[str]


class SourceFolder:
    """A folder whose files are to be stored.

    :param exclude: leave out files whose path below the folder matches one of these; ``*`` also matches ``/``, and a
        slash at the end means a folder with all its content.
    :param left_out: collects what is left out, except by ``exclude``.
    :param follow_links: whether to follow links to folders, and links that lead out of the folder.
    """

    def __init__(self, folder: Path, exclude: Sequence[str], left_out: LeftOut, *, follow_links: bool = False) -> None:
        self._folder = folder
        self._exclude = [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in exclude]
        self._left_out = left_out
        self._follow_links = follow_links
        self._real = Path(os.path.realpath(folder))
        self._todo = [_Todo(str(folder), "", frozenset())]
        self._leaving: list[str] = []

    def files(self) -> list[tuple[Path, str]]:
        """Return the files with their paths below the folder, sorted.

        :raises CommandError: an entry cannot be read, or links lead out of the folder.
        """
        found = []
        while self._todo:
            found += list(self._listed(self._todo.pop()))
        if self._leaving:
            many = len(self._leaving) > 1
            raise CommandError(
                f"{len(self._leaving)} link{'s' if many else ''} in the source lead{'' if many else 's'} out of it: "
                f"{_shortened(sorted(self._leaving), _MOST_NAMED)}. Nothing was stored. Add --follow-links to store "
                "what such links point to, or skip them with --exclude."
            )
        return sorted(found, key=lambda file: file[1].split("/"))

    def _listed(self, todo: _Todo) -> Iterator[tuple[Path, str]]:
        above = todo.above | {os.path.realpath(todo.folder)} if self._follow_links else todo.above
        try:
            entries = sorted(os.scandir(todo.folder), key=lambda entry: entry.name)
        except OSError as error:
            raise _unreadable(todo.folder, error) from error
        for entry in entries:
            path = todo.prefix + entry.name
            is_excluded, is_skipped_folder = self._matches(path), self._matches_all_below(path)
            if _OF_CLIENTS.fullmatch(f"/{self._real.name}/{path}"):
                if not (is_excluded or is_skipped_folder):
                    self._left_out.add(_CLIENT_FILES, path)
                continue
            try:
                status = Path(entry.path).stat() if entry.is_symlink() else entry.stat(follow_symlinks=False)
            except OSError as error:
                if is_excluded:
                    continue
                raise _unreadable(entry.path, error) from error
            is_folder = stat.S_ISDIR(status.st_mode)
            if (is_skipped_folder if is_folder else is_excluded) or (entry.is_symlink() and is_excluded):
                continue
            target = os.path.realpath(entry.path) if entry.is_symlink() or self._follow_links else ""
            if target and not self._follow_links and not Path(target).is_relative_to(self._real):
                self._leaving.append(f"{entry.path} -> {target}")
            elif is_folder and target and not self._follow_links:
                self._left_out.add(_FOLDER_LINKS, path)
            elif is_folder and target in above:
                self._left_out.add(_LOOPS, path)
            elif is_folder:
                self._todo.append(_Todo(entry.path, f"{path}/", above))
            elif stat.S_ISREG(status.st_mode):
                yield Path(entry.path), path
            else:
                raise CommandError(f"cannot read {entry.path}: is not a regular file.")

    def _matches(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self._exclude)

    def _matches_all_below(self, folder: str) -> bool:
        """Whether a pattern excludes all files of a folder, which need not be readable then."""
        return any(pattern.endswith("*") and fnmatchcase(f"{folder}/", pattern) for pattern in self._exclude)


def _unreadable(path: str, error: OSError) -> CommandError:
    return CommandError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.")


def _shortened(names: list[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
