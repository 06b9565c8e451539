"""Which local files ``put`` takes: the same rule as for every upload."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.xet.files.source_rules import MOST_NAMED, Findings, shown
from airflow_provider_xethub.xet.files.source_scan import Scan
from airflow_provider_xethub.xet.path_patterns import Selection, has_wildcard

log = logging.getLogger(__name__)

_REMEDY = "Put what they lead to under its own name, or remove the links."


class Taken:
    """The local files that one ``put`` takes.

    fsspec finds them and decides where each goes; this says which of them are meant.

    :param given: what ``put`` was given: a path or a glob pattern, or several.
    :param recursive: whether it was given folders with all that is in them.
    :raises XetInputError: a link leads out of its source.
    :raises XetSourceError: something is unreadable.
    """

    def __init__(self, given: Any, *, recursive: bool) -> None:
        each_given = [given] if isinstance(given, (str, os.PathLike)) else list(given)
        self._searched: list[str] = []
        self._paths: set[str] = set()
        findings = Findings()
        for each in each_given:
            path = LocalFileSystem._strip_protocol(os.fspath(each))
            if has_wildcard(path) and not os.path.lexists(path):
                base, pattern = _divided(path)
                # "**/" is no folder at all as well, and a match may be a folder with all that is below it.
                wanted = [pattern, pattern.replace("**/", "")]
                wanted += [f"{each}/*" for each in wanted] if recursive else []
                self._search(base, Selection(wanted), findings)
            elif recursive and os.path.isdir(path):  # noqa: PTH112 - the paths of fsspec are strings
                self._search(path, Selection(), findings)
        findings.check(_REMEDY)
        if findings.problems:
            raise XetSourceError(f"Nothing was uploaded: {'; '.join(map(shown, findings.problems[:MOST_NAMED]))}.")
        if text := findings.left_out_text():
            log.info("Left out of the upload: %s.", text)

    def takes(self, path: str) -> bool:
        """Whether a file or folder that fsspec found is meant; what was named itself always is."""
        plain = path.rstrip("/")
        return plain in self._paths or not any(plain.startswith(f"{each}/") for each in self._searched)

    def _search(self, folder: str, selection: Selection, findings: Findings) -> None:
        plain = folder.rstrip("/")
        scan = Scan(plain or "/", selection, findings)
        self._paths.update(path for path, _ in scan.files())
        self._paths.update(scan.listed)
        self._searched.append(plain)


def _divided(pattern: str) -> tuple[str, str]:
    """Return the folder before the first wildcard, and the rest."""
    parts = PurePosixPath(pattern).parts
    first = next(number for number, part in enumerate(parts) if has_wildcard(part))
    return str(PurePosixPath(*parts[:first])), "/".join(parts[first:])


_TAKEN: ContextVar[Taken | None] = ContextVar("xethub_taken", default=None)


@contextmanager
def only_taken(lpath: Any, rpath: Any, *, recursive: bool) -> Iterator[None]:
    """Let :func:`is_taken` answer for one ``put``; where each file is named with its place, all are taken.

    :raises XetHubError: as for :class:`Taken`.
    """
    each_is_named = isinstance(lpath, list) and isinstance(rpath, list)
    reset = _TAKEN.set(None if each_is_named else Taken(lpath, recursive=recursive))
    try:
        yield
    finally:
        _TAKEN.reset(reset)


def is_taken(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder that fsspec found is uploaded."""
    files = _TAKEN.get()
    return files is None or files.takes(os.fspath(path))
