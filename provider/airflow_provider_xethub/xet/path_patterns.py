"""Patterns of users, with the same meaning in uploads, downloads, copies, listings and sensors. Pure: no I/O.

There are two kinds: ``patterns`` and ``exclude`` match whole paths, as in ``huggingface_hub``; a glob that names a
source matches part by part, as in :mod:`glob`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase, translate
from typing import Any

from airflow_provider_xethub.xet.arguments import selection

_MAGIC = re.compile(r"[*?[]")


def expanded(pattern: str) -> str:
    """Return a pattern in full: with a slash at its end, it means a folder with all its content."""
    return pattern + "*" if pattern.endswith("/") else pattern


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns: ``*`` also matches ``/``; ``dir/`` matches all content of ``dir``."""
    return any(fnmatchcase(path, expanded(pattern)) for pattern in patterns)


class Selection:
    """Selects among the files of a source.

    :param patterns: only paths that match one of these. ``None``: all.
    :param exclude: of these, not those that match one of these.
    :raises XetInputError: one of them is empty, or not a string or a list of strings.
    """

    def __init__(self, patterns: Any = None, exclude: Any = None) -> None:
        self.patterns = selection("patterns", patterns)
        self.exclude = selection("exclude", exclude, remedy="leave exclude out to exclude nothing") or []
        self._wanted = [(each, re.compile(translate(expanded(each))).match) for each in self.patterns or ()]
        self._unwanted = [re.compile(translate(expanded(each))).match for each in self.exclude]
        # A star at the end matches any rest, so that a match of "folder/" is a match of all its content.
        self._folders = [re.compile(translate(p)).match for each in self.exclude if (p := expanded(each)).endswith("*")]
        self._beginnings = [_literal(each) for each in self.patterns or ()]
        self._used: set[str] = set()

    @property
    def is_limited(self) -> bool:
        """Whether it may leave files out."""
        return bool(self._wanted or self._unwanted)

    def takes(self, path: str) -> bool:
        """Return whether it selects a file with this path below the source."""
        if any(match(path) for match in self._unwanted):
            return False
        if not self._wanted:
            return True
        used = [pattern for pattern, match in self._wanted if match(path)]
        self._used.update(used)
        return bool(used)

    def may_take_below(self, folder: str) -> bool:
        """Return whether it may select a file in this folder; otherwise the folder need not be listed."""
        below = f"{folder}/"
        if any(match(below) for match in self._folders):
            return False
        return not self._wanted or any(below.startswith(each) or each.startswith(below) for each in self._beginnings)

    def takes_link(self, path: str) -> bool:
        """Return whether it selects a link to a folder, whose own name may be excluded."""
        return self.may_take_below(path) and not any(match(path) for match in self._unwanted)

    def unused(self) -> list[str]:
        """Return the patterns that no path has matched so far."""
        return [each for each in self.patterns or () if each not in self._used]


class Glob:
    """A glob pattern, relative to the folder before its first wildcard; ``**`` matches any number of folders.

    As in :mod:`glob`, wildcards do not match hidden names.

    :param pattern: the part of the pattern after that folder.
    """

    def __init__(self, pattern: str) -> None:
        parts: list[str] = []
        for part in pattern.split("/"):
            if part and not (part == "**" and parts[-1:] == ["**"]):
                parts.append(part)
        self._parts = parts

    @property
    def depth(self) -> int | None:
        """The number of levels that it can match; ``None`` where there is no limit."""
        return None if "**" in self._parts else len(self._parts)

    def takes(self, path: str) -> bool:
        """Return whether a file with this path below the folder matches."""
        return _matches(path.split("/"), self._parts)

    def may_take_below(self, folder: str) -> bool:
        """Return whether a file somewhere in this folder can match."""
        return _may_match_below(folder.split("/"), self._parts)


def has_wildcard(text: str) -> bool:
    """Return whether a string contains a wildcard."""
    return _MAGIC.search(text) is not None


def _literal(pattern: str) -> str:
    """Return the part of a pattern before its first wildcard."""
    found = _MAGIC.search(pattern)
    return pattern[: found.start()] if found else pattern


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        if pattern[1:] and _matches(path, pattern[1:]):
            return True
        return (
            bool(path)
            and not path[0].startswith(".")
            and (_matches(path[1:], pattern) or len(path) == 1 == len(pattern))
        )
    return bool(path) and _matches_part(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _may_match_below(folder: Sequence[str], pattern: Sequence[str]) -> bool:
    if not folder or not pattern:
        return bool(pattern)
    if pattern[0] == "**":
        return _may_match_below(folder, pattern[1:]) or (
            not folder[0].startswith(".") and _may_match_below(folder[1:], pattern)
        )
    return _matches_part(folder[0], pattern[0]) and _may_match_below(folder[1:], pattern[1:])


def _matches_part(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (name.startswith(".") <= pattern.startswith("."))
