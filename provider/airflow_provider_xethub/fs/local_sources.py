"""Which local files ``put`` uploads: the same rules as for every upload."""

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

_REMEDY = "Upload their targets under their own names, or remove the links."


class SelectedSources:
    """The local files that one ``put`` uploads.

    fsspec finds files and decides where each goes; this class decides which of them are uploaded.

    :param given: the argument of ``put``: a path or a glob pattern, or several.
    :param recursive: whether folders are uploaded with everything in them.
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
                base, pattern = _split_at_wildcard(path)
                # "**/" also matches no folder at all, and a match may be a folder with everything below it.
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

    def includes(self, path: str) -> bool:
        """Return whether a file or folder that fsspec found is uploaded; one that was named itself always is."""
        plain = path.rstrip("/")
        return plain in self._paths or not any(plain.startswith(f"{each}/") for each in self._searched)

    def _search(self, folder: str, selection: Selection, findings: Findings) -> None:
        plain = folder.rstrip("/")
        scan = Scan(plain or "/", selection, findings)
        self._paths.update(path for path, _ in scan.files())
        self._paths.update(scan.listed)
        self._searched.append(plain)


def _split_at_wildcard(pattern: str) -> tuple[str, str]:
    """Return the folder before the first wildcard, and the rest."""
    parts = PurePosixPath(pattern).parts
    first = next(number for number, part in enumerate(parts) if has_wildcard(part))
    return str(PurePosixPath(*parts[:first])), "/".join(parts[first:])


_SELECTED: ContextVar[SelectedSources | None] = ContextVar("xethub_selected_sources", default=None)


@contextmanager
def selecting(lpath: Any, rpath: Any, *, recursive: bool) -> Iterator[None]:
    """Make :func:`is_selected` apply to one ``put``. If both arguments are lists, all files are selected.

    :raises XetHubError: as for :class:`SelectedSources`.
    """
    are_pairs = isinstance(lpath, list) and isinstance(rpath, list)
    reset = _SELECTED.set(None if are_pairs else SelectedSources(lpath, recursive=recursive))
    try:
        yield
    finally:
        _SELECTED.reset(reset)


def is_selected(path: str | os.PathLike[str]) -> bool:
    """Return whether a file or folder that fsspec found is uploaded."""
    sources = _SELECTED.get()
    return sources is None or sources.includes(os.fspath(path))
