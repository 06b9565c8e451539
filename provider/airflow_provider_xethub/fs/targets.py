"""Where several files go: each to a place of its own, and none to a place that nobody named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.arguments import selection


def named(argument: str, value: Any) -> None:
    """Refuse an empty path, which ``fsspec`` takes for the current folder, and an empty list.

    :raises XetInputError: names the argument.
    """
    if value is None:
        raise XetInputError(f"{argument} is None. Name a path.")
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    if isinstance(paths, (list, tuple)):
        selection(argument, [os.fspath(path) if isinstance(path, os.PathLike) else path for path in paths])


_SOURCES: ContextVar[dict[str, str] | None] = ContextVar("xethub_targets", default=None)


@contextmanager
def collected() -> Iterator[None]:
    """Only collect in this block which file goes where, by :func:`collect`; nothing is transferred.

    :raises XetInputError: two files would go to the same place.
    """
    reset = _SOURCES.set({})
    try:
        yield
    finally:
        _SOURCES.reset(reset)


def collect(source: Any, target: Any, *, is_folder: bool) -> bool:
    """Note where a file goes, and say whether that is all to be done with it now."""
    sources = _SOURCES.get()
    if sources is None:
        return False
    first = str(source) if is_folder else sources.setdefault(str(target), str(source))
    if first != str(source):
        raise XetInputError(f"{first} and {source} would both become {target}. Nothing was transferred.")
    return True
