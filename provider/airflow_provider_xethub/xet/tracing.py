"""Spans of OpenTelemetry: how long tokens, listings, transfers and commits take, and what they moved.

Airflow 3.2 and later record a span for each task, if ``[traces] otel_on`` is set. The spans here are children of it.
Where no span is being recorded nothing is: before Airflow 3.2, in the triggerer, in ``dag.test()``, in unsampled runs.
Metrics, which have no parent and only totals, are counted in :mod:`airflow_provider_xethub.hooks.metrics`.

No attribute contains a text of a server, a path or a message: errors are named by their class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Literal, TypeVar

from airflow_provider_xethub.exceptions import XetCancelledError
from airflow_provider_xethub.xet.repo import Repo

Name = Literal["xethub.token", "xethub.listing", "xethub.upload", "xethub.download", "xethub.commit"]

Attribute = Literal[
    "repository",
    "repo_type",
    "revision",
    "scope",
    "direction",
    "files",
    "bytes",
    "bytes_sent",
    "bytes_deduplicated",
    "bytes_received",
    "skipped",
    "commit",
    "requests",
    "retries",
    "outcome",
]
"""Names of attributes, without the prefix ``xethub.``. A failed span also has ``error.type``.

``requests`` are those to the Hub; the client does not count its own to CAS. ``retries`` are repeated requests and
repeated transfers. ``outcome`` is ``success``, ``unchanged``, ``failed`` or ``cancelled``.
"""

Page = TypeVar("Page")

_SCOPE = "airflow_provider_xethub"


class Operation:
    """One operation that is traced, or not.

    :param span: of OpenTelemetry; ``None`` if nothing is recorded.
    """

    def __init__(self, span: Any) -> None:
        self._span = span
        self._turn = Lock()
        self._counts = {"requests": 0, "retries": 0}
        self._outcome = "success"

    def set(self, *, outcome: str | None = None, **attributes: Any) -> None:
        """Set attributes, by the names of :data:`Attribute`."""
        if outcome is not None:
            self._outcome = outcome
        if self._span is not None:
            self._span.set_attributes({f"xethub.{name}": value for name, value in attributes.items()})

    def moved(self, transfer: Mapping[str, Any]) -> None:
        """Set the figures of a transfer, besides its duration, which the span has."""
        self.set(**{figure: value for figure, value in transfer.items() if figure != "seconds"})

    def count(self, what: Literal["requests", "retries"]) -> None:
        """Count one more; any thread may."""
        with self._turn:
            self._counts[what] += 1

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make it the operation that requests and further spans belong to."""
        if self._span is None:
            yield
            return
        before = _current.set(self)
        try:
            with _api().use_span(self._span, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            _current.reset(before)

    def end(self, error: BaseException | None = None) -> None:
        """End it, with an error if it failed."""
        span = self._span
        if span is None:
            return
        if error is not None:
            is_cancelled = isinstance(error, XetCancelledError) or not isinstance(error, Exception)
            self._outcome = "cancelled" if is_cancelled else "failed"
            # Not its message, nor the traceback, which quotes the errors before it.
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(_api().Status(_api().StatusCode.ERROR, type(error).__name__))
        self.set(requests=self._counts["requests"], retries=self._counts["retries"])
        span.set_attribute("xethub.outcome", self._outcome)
        span.end()


_current: ContextVar[Operation | None] = ContextVar("xethub_operation", default=None)


@contextmanager
def operation(name: Name, repo: Repo, **attributes: Any) -> Iterator[Operation]:
    """Trace a block.

    :param attributes: what is known before it, by the names of :data:`Attribute`.
    """
    started = _start(name, repo, attributes)
    try:
        with started.active():
            yield started
    except BaseException as error:
        started.end(error)
        raise
    started.end()


def listing(repo: Repo, pages: Iterator[list[Page]]) -> Iterator[list[Page]]:
    """Trace the pages of a listing, and yield them. What is done between two pages is not a part of it."""
    started, files = _start("xethub.listing", repo, {}), 0
    try:
        while True:
            with started.active():
                page = next(pages, None)
            if page is None:
                break
            files += len(page)
            yield page
    except GeneratorExit:  # it is enough
        started.set(files=files)
        started.end()
        raise
    except BaseException as error:
        started.end(error)
        raise
    started.set(files=files)
    started.end()


def count_request() -> None:
    """Count a request to the Hub for the current operation."""
    if (current := _current.get()) is not None:
        current.count("requests")


def count_retry() -> None:
    """Count a repeated request or transfer for the current operation."""
    if (current := _current.get()) is not None:
        current.count("retries")


def _start(name: Name, repo: Repo, attributes: dict[str, Any]) -> Operation:
    api = _api()
    if api is None or not api.get_current_span().is_recording():
        return Operation(None)
    started = Operation(api.get_tracer(_SCOPE).start_span(name))
    started.set(repository=repo.repo_id, repo_type=repo.repo_type, revision=repo.revision, **attributes)
    return started


def _api() -> Any:
    """Return the module ``opentelemetry.trace``, if somebody has loaded it: otherwise no span can be current."""
    return sys.modules.get("opentelemetry.trace")
