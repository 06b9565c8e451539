"""Events from a trigger to its waiting task: a value, or an error that is rebuilt as this provider's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.exceptions import XetHubError, XetProtocolError, XetResponseError
from airflow_provider_xethub.xet import answers

N = TypeVar("N", int, float)


def found(value: Any) -> dict[str, Any]:
    """Build the event that carries a value."""
    return {"status": "found", "value": value}


def found_many(count: int) -> dict[str, Any]:
    """Build the event that says how many files were found, which are too many for an event: the task finds them again.

    Events go through the database, and a worker with an earlier version of this provider fails instead of returning
    fewer files.
    """
    return {"status": "found", "value": None, "file_count": count}


def is_found_many(event: Mapping[str, Any] | None) -> bool:
    """Return whether an event is one of :func:`found_many`."""
    return isinstance(event, Mapping) and event.get("status") == "found" and "file_count" in event


def failed(error: XetHubError) -> dict[str, Any]:
    """Build the event that carries an error."""
    kinds = (kind.__name__ for kind in type(error).__mro__ if vars(exceptions).get(kind.__name__) is kind)
    event: dict[str, Any] = {"status": "failed", "error": next(kinds), "message": answers.text(str(error))}
    if isinstance(error, XetResponseError):
        event |= {"service": error.service, "http_status": error.status, "retry_after": error.retry_after}
    return event


def _number(value: object, kind: Callable[[Any], N]) -> N | None:
    """Return a number of an event; ``None`` for anything else, which must not hide the error of the event."""
    try:
        return kind(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    except OverflowError:  # an integer that no float can represent
        return None


def value_of(event: Mapping[str, Any] | None) -> Any:
    """Return the value of an event.

    :raises XetHubError: the error that it carries.
    """
    status = event.get("status") if isinstance(event, Mapping) else None
    if event is None or status not in ("found", "failed"):
        raise XetProtocolError(
            f"The trigger sent an unknown event: {event!r}. Install the same version of this "
            "provider on triggerer and workers."
        )
    if status == "found":
        return event.get("value")
    kind, message = vars(exceptions).get(str(event.get("error"))), str(event.get("message"))
    if isinstance(kind, type) and issubclass(kind, XetResponseError):
        raise kind(
            message,
            service="CAS" if event.get("service") == "CAS" else "Hub",
            status=_number(event.get("http_status"), int),
            retry_after=_number(event.get("retry_after"), float),
        )
    raise (kind if isinstance(kind, type) and issubclass(kind, XetHubError) else XetHubError)(message)
