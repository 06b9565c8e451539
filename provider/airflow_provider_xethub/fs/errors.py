"""Errors as the users of a filesystem expect them: a missing file is a ``FileNotFoundError``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from airflow_provider_xethub.exceptions import XetNotFoundError


@cache
def _file_not_found(kind: type[XetNotFoundError]) -> type[XetNotFoundError]:
    """Return the class of errors that are also a ``FileNotFoundError``."""
    names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind, FileNotFoundError), names)


@contextmanager
def file_not_found_errors() -> Iterator[None]:
    """Make a :class:`XetNotFoundError` also a ``FileNotFoundError``; the other errors have their built-ins already."""
    try:
        yield
    except XetNotFoundError as error:
        if isinstance(error, FileNotFoundError):
            raise
        kind = _file_not_found(type(error))  # type: ignore[arg-type]  # mypy sees Exception.__hash__ as unbound
        missing = OSError.__new__(kind, *error.args)
        missing.args = error.args
        missing.__dict__.update(error.__dict__)
        raise missing.with_traceback(error.__traceback__) from error.__cause__


def not_found(path: str) -> XetNotFoundError:
    """Return the error for a path that does not exist.

    It does not fail the task at once: a task that waits for the file may retry.
    """
    kind = _file_not_found(XetNotFoundError)
    return kind(f"hf://{path} does not exist.", status=404)
