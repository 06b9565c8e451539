"""Checks before several files are transferred: each path is named, and no two files get the same target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.arguments import selection

_SOURCES: ContextVar[dict[str, str] | None] = ContextVar("xethub_targets", default=None)
"""The source of each target, in a dry run."""


def check_named(argument: str, value: Any) -> None:
    """Refuse an empty path, which ``fsspec`` takes for the current folder, and an empty list.

    :param argument: its name, for the message.
    :raises XetInputError: the value names no path.
    """
    if value is None:
        raise XetInputError(f"{argument} is None. Name a path.")
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    if isinstance(paths, (list, tuple)):
        selection(argument, [os.fspath(path) if isinstance(path, os.PathLike) else path for path in paths])


@contextmanager
def dry_run() -> Iterator[None]:
    """Make :func:`check_target` only check, in this block, that each file gets its own target.

    :raises XetInputError: two files would get the same target.
    """
    reset = _SOURCES.set({})
    try:
        yield
    finally:
        _SOURCES.reset(reset)


def check_target(source: Any, target: Any, *, is_folder: bool) -> bool:
    """Check the target of a file in a dry run; return whether this is a dry run, which transfers nothing."""
    sources = _SOURCES.get()
    if sources is None:
        return False
    first = str(source) if is_folder else sources.setdefault(str(target), str(source))
    if first != str(source):
        raise XetInputError(f"{first} and {source} would both become {target}. Nothing was transferred.")
    return True
