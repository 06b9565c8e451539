"""Check arguments that users give, each kind in one place. Pure values, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def text(name: str, value: Any, most: int | None = None) -> str:
    """Return an argument that is free text, such as ``commit_message``.

    Airflow's database on PostgreSQL and the Hub refuse a NUL and half of a surrogate pair, and would do so only after
    the work is done.

    :param most: how many characters it may have.
    :raises XetInputError: it is not a string, is too long, or contains such a character.
    """
    if not isinstance(value, str):
        raise XetInputError(f"{name} must be a string, not {type(value).__name__}.")
    if found := _UNSTORABLE.search(value):
        what = "a NUL character" if found[0] == "\0" else f"{found[0]!r}, half of a surrogate pair"
        raise XetInputError(
            f"{name} contains {what} at position {found.start()}, which cannot be stored. Remove it: {value!r:.80}."
        )
    if most is not None and len(value) > most:
        raise XetInputError(f"{name} has {len(value):,} characters; at most {most:,} are allowed.")
    return value


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
        text(name, each)
    return list(values)
