"""What users' patterns mean, the same for uploads, downloads, copies, listings and sensors. Pure, no I/O.

Two kinds: ``patterns`` and ``exclude`` are compared with whole paths, as ``huggingface_hub`` does it; a glob that names
a source is compared part by part, as :mod:`glob` does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase, translate
from typing import Any

from airflow_provider_xethub.xet.arguments import selection

_MAGIC = re.compile(r"[*?[]")


def expanded(pattern: str) -> str:
    """Return the pattern for what a pattern means: with a slash at its end it is a folder with all that is in it."""
    return pattern + "*" if pattern.endswith("/") else pattern


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns: ``*`` matches ``/`` as well, ``dir/`` is all that is in ``dir``."""
    return any(fnmatchcase(path, expanded(pattern)) for pattern in patterns)


class Selection:
    """Chooses among the files of a source.

    :param patterns: only paths that match one of these; all where ``None``.
    :param exclude: of these, not those that match one of these.
    :raises XetInputError: one of them is empty, or not a string or a list of strings.
    """

    def __init__(self, patterns: Any = None, exclude: Any = None) -> None:
        self.patterns = selection("patterns", patterns)
        self.exclude = selection("exclude", exclude, remedy="leave exclude out to exclude nothing") or []
        self._wanted = [(each, re.compile(translate(expanded(each))).match) for each in self.patterns or ()]
        self._unwanted = [re.compile(translate(expanded(each))).match for each in self.exclude]
        # A star at the end matches whatever follows, so that what matches "folder/" matches all that is in it.
        self._folders = [re.compile(translate(p)).match for each in self.exclude if (p := expanded(each)).endswith("*")]
        self._beginnings = [_literal(each) for each in self.patterns or ()]
        self._used: set[str] = set()

    @property
    def is_limited(self) -> bool:
        """Whether some files may not be meant."""
        return bool(self._wanted or self._unwanted)

    def takes(self, path: str) -> bool:
        """Whether a file with this path below the source is meant."""
        if any(match(path) for match in self._unwanted):
            return False
        if not self._wanted:
            return True
        used = [pattern for pattern, match in self._wanted if match(path)]
        self._used.update(used)
        return bool(used)

    def may_take_below(self, folder: str) -> bool:
        """Whether anything in this folder can be meant; only where not, the folder need not be listed."""
        below = f"{folder}/"
        if any(match(below) for match in self._folders):
            return False
        return not self._wanted or any(below.startswith(each) or each.startswith(below) for each in self._beginnings)

    def takes_link(self, path: str) -> bool:
        """Whether a link to a folder is meant: its own name may be excluded too."""
        return self.may_take_below(path) and not any(match(path) for match in self._unwanted)

    def unused(self) -> list[str]:
        """Return the patterns that no path has matched so far."""
        return [each for each in self.patterns or () if each not in self._used]


class Glob:
    """A glob pattern below the folder before its first wildcard: ``**`` is any number of folders.

    As in :mod:`glob`, wildcards leave hidden names out.

    :param pattern: what comes after that folder.
    """

    def __init__(self, pattern: str) -> None:
        parts: list[str] = []
        for part in pattern.split("/"):
            if part and not (part == "**" and parts[-1:] == ["**"]):
                parts.append(part)
        self._parts = parts

    @property
    def depth(self) -> int | None:
        """How many levels it reaches; ``None`` where there is no limit."""
        return None if "**" in self._parts else len(self._parts)

    def takes(self, path: str) -> bool:
        """Whether a file with this path below the folder matches."""
        return _matches(path.split("/"), self._parts)

    def may_take_below(self, folder: str) -> bool:
        """Whether a file somewhere in this folder can match."""
        return _may_match_below(folder.split("/"), self._parts)


def has_wildcard(text: str) -> bool:
    """Whether a text has one of the characters in it that patterns are made of."""
    return _MAGIC.search(text) is not None


def _literal(pattern: str) -> str:
    """Return a pattern's beginning, before its first wildcard."""
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
