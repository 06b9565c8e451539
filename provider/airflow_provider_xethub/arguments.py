"""Check arguments that users give, each kind in one place. Pure values, no I/O."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from airflow_provider_xethub.exceptions import XetInputError

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")

OnEmpty = Literal["fail", "skip"]
"""What a task does that has nothing to do."""

STRINGS = frozenset(
    {
        "xethub_conn_id",
        "repo_id",
        "repo_type",
        "revision",
        "source_repo_id",
        "source_repo_type",
        "source_revision",
        "path",
        "path_in_repo",
        "parent_commit",
        "newer_than",
    }
)
"""Arguments that are one string, and may be left out."""

SELECTIONS = frozenset({"paths", "patterns", "token_task_ids"})
"""Arguments that are a string or a list of strings, and may be left out."""


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


def selection(name: str, value: Any, remedy: str | None = None) -> list[str] | None:
    """Return an argument that selects paths, such as ``patterns`` or ``paths``, as a list.

    ``None``, and only ``None``, selects everything. An empty string or list comes from an upstream task that found
    nothing or from a parameter left empty; taken for "everything", it would publish or delete what nobody meant.

    :param name: the argument's name, for the message.
    :param value: ``None``, a string, or a sequence of strings.
    :param remedy: what to do instead; to leave the argument out where ``None``.
    :raises XetInputError: it is empty, contains an empty string, or is something else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        refuse_rendered_list(name, value)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or isinstance(values, bytes):
        raise XetInputError(f"{name} must be a string or a list of strings, not {type(value).__name__}.")
    if not values or "" in values:
        raise XetInputError(
            f"{name} is empty: {value!r:.60}. It selects nothing; {remedy or f'leave {name} out to select everything'}."
        )
    for each in values:
        if not isinstance(each, str):
            raise XetInputError(f"{name} must contain strings only, not {each!r:.60} ({type(each).__name__}).")
        text(name, each)
    return list(values)


def string(name: str, value: Any) -> str | None:
    """Return an argument that is one string. ``None``, and only ``None``, stands for its default.

    :param name: the argument's name, for the message.
    :raises XetInputError: it is empty, consists of whitespace or slashes only, or is not a string.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise XetInputError(f"{name} must be a string, not {value!r:.60} ({type(value).__name__}).")
    if not value.strip().strip("/"):
        raise XetInputError(f"{name} is empty: {value!r:.60}. Give it a value; leave {name} out to use its default.")
    return value


def check_fields(task: Any, names: Iterable[str]) -> None:
    """Check those attributes of a task that are strings or selections, once they are rendered.

    :param task: an operator or a sensor; selections become lists.
    :param names: of its attributes; others than :data:`STRINGS` and :data:`SELECTIONS` are left alone.
    :raises XetInputError: one is empty, or of a wrong type; the message has its name.
    """
    for name in names:
        if name in STRINGS:
            string(name, getattr(task, name))
        elif name in SELECTIONS:
            setattr(task, name, selection(name, getattr(task, name)))


def on_empty(value: Any) -> OnEmpty:
    """Return an argument ``on_empty``.

    :raises XetInputError: it is neither ``fail`` nor ``skip``.
    """
    if value not in ("fail", "skip"):
        raise XetInputError(f"on_empty {value!r:.60} is unknown; use 'fail' or 'skip'.")
    return value  # type: ignore[no-any-return]


def refuse_rendered_list(name: str, value: str) -> None:
    """Refuse a list that a template turned into a string, such as ``"['a.csv', 'b.csv']"``.

    A glob such as ``[ab].csv`` is not one.

    :raises XetInputError: it is one.
    """
    if not (value.startswith("[") and value.endswith("]")):
        return
    try:
        items = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return
    if isinstance(items, list) and all(isinstance(each, str) for each in items):
        raise XetInputError(
            f"{name} is a list that a template turned into a string: {value!r:.60}. Pass the list itself, such as "
            "the upstream task's .output, or set render_template_as_native_obj=True on the DAG."
        )
