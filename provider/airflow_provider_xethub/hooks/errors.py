"""Convert errors for Airflow: errors that retrying cannot fix use up no retries, and their tracebacks are short."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub.exceptions import XetCancelledError, XetHubError
from airflow_provider_xethub.hooks.help_pages import help_page

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_PASSED_THROUGH = frozenset({"airflow", "airflow_provider_xethub", "concurrent", "contextlib", "tenacity", "threading"})
"""Top-level packages through which an error passes between the code of a DAG author and where it is raised."""


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


class _Boundary:
    """Where errors leave the provider. As a decorator, it does not add frames of ``contextlib`` to tracebacks.

    :param task_log: log of the task that fails with the error; ``None`` if a caller may still catch the error.
    """

    def __init__(self, task_log: Any = None) -> None:
        self._task_log = task_log

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except XetHubError as error:
                raise self._prepare(error) from error.__cause__

        return call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, XetHubError):
            raise self._prepare(error) from error.__cause__

    def _prepare(self, error: XetHubError) -> XetHubError:
        """Return the error to raise instead: final if retrying cannot fix it, and with a short traceback."""
        log.debug("The full traceback of %s:", type(error).__name__, exc_info=error)
        keeps_class = error.retryable or isinstance(error, AirflowFailException)
        raised = error if keeps_class else _final_error(type(error), error.args, vars(error))
        cause = error.__cause__
        while cause is not None:
            cause.__traceback__ = _of_frames(_entries(cause)[-1:])
            cause = cause.__cause__
        if self._task_log is not None:
            self._task_log.error("%s", error)
            page = help_page(error)
            if page is not None:
                self._task_log.info("Help: %s", page)
        return raised.with_traceback(_of_frames(_shown(_entries(error))))


def fail_without_retry() -> _Boundary:
    """Make errors that retrying cannot fix an ``AirflowFailException`` too, so that Airflow does not retry the task.

    For methods and blocks that DAG authors call; they may still catch the error. Its traceback shows their code and
    where it was raised, but none of the steps in between; these are logged at debug level.
    """
    return _Boundary()


def fail_task(task_log: Any) -> _Boundary:
    """Do the same where nobody but Airflow catches the error, and log its message first.

    Airflow's page opens at the end of a log, and shows some 24 lines of it. Of these, the traceback takes as many as it
    has frames, and shows the message behind an indentation that leaves little room for it. So the message is also in a
    line of its own, directly above. A link to its section in the documentation follows, if that has an address.
    """
    return _Boundary(task_log)


def _entries(error: BaseException) -> list[TracebackType]:
    """Return the entries of a traceback, outermost first."""
    entries, entry = [], error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    return entries


def _shown(entries: list[TracebackType]) -> list[TracebackType]:
    """Return the entries of code of a DAG author, and the last entry: where the error was raised."""
    authors = [entry for entry in entries[:-1] if _module(entry) not in _PASSED_THROUGH]
    return authors + entries[-1:]


def _module(entry: TracebackType) -> str:
    return str(entry.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _of_frames(entries: list[TracebackType]) -> TracebackType | None:
    """Return a traceback of these entries."""
    trace: TracebackType | None = None
    for entry in reversed(entries):
        trace = TracebackType(trace, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return trace


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
