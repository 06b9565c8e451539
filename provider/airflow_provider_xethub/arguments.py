"""Check arguments that users give, each kind in one place. Pure values, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError


def selection(name: str, value: Any) -> list[str] | None:
    """Return an argument that selects paths, such as ``patterns`` or ``paths``, as a list.

    ``None``, and only ``None``, selects everything. An empty string or list comes from an upstream task that found
    nothing or from a parameter left empty; taken for "everything", it would publish or delete what nobody meant.

    :param name: the argument's name, for the message.
    :param value: ``None``, a string, or a sequence of strings.
    :raises XetInputError: it is empty, contains an empty string, or is something else.
    """
    if value is None:
        return None
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or isinstance(values, bytes):
        raise XetInputError(f"{name} must be a string or a list of strings, not {type(value).__name__}.")
    if not values or "" in values:
        raise XetInputError(
            f"{name} is empty: {value!r:.60}. It selects nothing; leave {name} out to select everything."
        )
    for each in values:
        if not isinstance(each, str):
            raise XetInputError(f"{name} must contain strings only, not {each!r:.60} ({type(each).__name__}).")
    return list(values)
