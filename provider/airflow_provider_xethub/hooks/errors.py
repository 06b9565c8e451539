"""Convert errors for Airflow: an error that retrying cannot fix must not use up retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub.exceptions import XetCancelledError, XetHubError


@cache
def _final(kind: type[XetHubError]) -> type[XetHubError]:
    """Return the class of final errors of a kind. It is made at run time, so that pickle cannot find it by its name."""

    def reduce(error: XetHubError) -> tuple[Any, ...]:
        return _final_error, (kind, error.args, vars(error))

    members = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    return type(kind.__name__, (kind, AirflowFailException), members)


def _final_error(kind: type[XetHubError], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> XetHubError:
    """Build a final error; unpickling calls this in another process."""
    final_kind = _final(kind)  # type: ignore[arg-type]  # mypy sees Exception.__hash__ as unbound
    final = final_kind.__new__(final_kind, *args)
    final.args = args
    final.__dict__.update(attributes)
    return final


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """Make errors that retrying cannot fix an ``AirflowFailException`` too, so that Airflow does not retry the task."""
    try:
        yield
    except XetHubError as error:
        if error.retryable or isinstance(error, AirflowFailException):
            raise
        final = _final_error(type(error), error.args, vars(error))
        raise final.with_traceback(error.__traceback__) from error.__cause__


@contextmanager
def log_and_continue(log: logging.Logger, what: str) -> Iterator[None]:
    """Log an error instead of raising it, where the work is done and only its report fails: it must not be repeated.

    :param what: what is missing because of the error. Its text is logged at debug level only, as it may quote anything.
    """
    try:
        yield
    except XetCancelledError:
        raise
    except Exception as error:
        log.warning("%s: %s.", what, type(error).__name__)
        log.debug("The error was:", exc_info=True)
