"""Errors at the border to Airflow: what no retry can mend must not burn retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub.exceptions import XetCancelledError, XetHubError


@cache
def _final(kind: type[XetHubError]) -> type[XetHubError]:
    return type(kind.__name__, (kind, AirflowFailException), {"__module__": kind.__module__, "__doc__": kind.__doc__})


@contextmanager
def final_errors() -> Iterator[None]:
    """Make errors that no retry can mend also an ``AirflowFailException``, so that they do not burn retries."""
    try:
        yield
    except XetHubError as error:
        if error.retryable or isinstance(error, AirflowFailException):
            raise
        kind = _final(type(error))  # type: ignore[arg-type]  # mypy sees Exception.__hash__ as unbound
        final = kind.__new__(kind, *error.args)
        final.args = error.args
        final.__dict__.update(error.__dict__)
        raise final.with_traceback(error.__traceback__) from error.__cause__


@contextmanager
def only_logged(log: logging.Logger, what: str) -> Iterator[None]:
    """Log an error instead of raising it: for what only tells of work that is done, and must not make it be repeated.

    :param what: what goes without it. The error's own text is not logged, as it may quote anything.
    """
    try:
        yield
    except XetCancelledError:
        raise
    except Exception as error:
        log.warning("%s: %s.", what, type(error).__name__)
        log.debug("The error was:", exc_info=True)
