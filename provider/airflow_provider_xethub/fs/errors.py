"""Errors as the users of a filesystem expect them: what is not there is a ``FileNotFoundError``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from airflow_provider_xethub.exceptions import XetNotFoundError


@cache
def _missing(kind: type[XetNotFoundError]) -> type[XetNotFoundError]:
    names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind, FileNotFoundError), names)


@contextmanager
def missing_files() -> Iterator[None]:
    """Make a :class:`XetNotFoundError` also a ``FileNotFoundError``; the other errors have their built-ins already."""
    try:
        yield
    except XetNotFoundError as error:
        if isinstance(error, FileNotFoundError):
            raise
        kind = _missing(type(error))  # type: ignore[arg-type]  # mypy sees Exception.__hash__ as unbound
        missing = OSError.__new__(kind, *error.args)
        missing.args = error.args
        missing.__dict__.update(error.__dict__)
        raise missing.with_traceback(error.__traceback__) from error.__cause__


def not_found(name: str) -> XetNotFoundError:
    """Return the error for a path that is not there.

    Not one that fails the task at once: whoever waits for the file may let the task retry.
    """
    kind = _missing(XetNotFoundError)
    return kind(f"hf://{name} does not exist.", status=404)
