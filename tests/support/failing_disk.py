"""A file system that fails at one path, for tests of one function; ``failing_calls`` lets a whole process fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest


def fail_at(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, path: str, error: int = errno.EIO, times: int = 1 << 30
) -> list[str]:
    """Let a function of ``os``, or a method of ``Path``, fail for paths that end with ``path``.

    :param where: ``os`` or ``Path``.
    :param times: how often it fails before it works again.
    :returns: the paths for which it has failed so far.
    """
    real: Callable[..., Any] = getattr(where, name)
    failed: list[str] = []

    def call(given: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(given, (str, os.PathLike)) and os.fspath(given).endswith(path) and len(failed) < times:
            failed.append(os.fspath(given))
            raise OSError(error, os.strerror(error), os.fspath(given))
        return real(given, *args, **kwargs)

    monkeypatch.setattr(where, name, call)
    return failed
