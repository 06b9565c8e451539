"""Check the arguments of operators and sensors, by kind. Pure: no I/O."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Literal

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import repo, token_binding
from airflow_provider_xethub.xet.identifiers import UNSTORABLE

OnEmpty = Literal["fail", "skip"]
"""What a task does when its selection matches no file."""

OnUnchanged = Literal["success", "skip"]
"""What a task does when the repository already has what it publishes."""

NAMES = frozenset(
    {
        "xethub_conn_id",
        "repo_id",
        "repo_type",
        "revision",
        "source_repo_id",
        "source_repo_type",
        "source_revision",
        "parent_commit",
        "newer_than",
        "branch",
        "tag",
        "license",
    }
)
"""Optional arguments that are one string. A rendered ``"None"`` stands for a missing value: none can have that name."""

STRINGS = NAMES | {"path", "path_in_repo", "comment", "tag_message", "bind"}
"""Optional arguments that are one string."""

SELECTIONS = frozenset({"paths", "patterns", "exclude", "protect", "token_task_ids", "consumers"})
"""Optional arguments that are a string or a list of strings."""

REMEDIES = {
    "exclude": "leave exclude out to exclude nothing",
    "protect": "leave protect out to protect nothing more",
    "consumers": "leave consumers out to allow all tasks",
}
"""What to do about an empty selection that does not select everything by default."""

LOCATIONS = frozenset({"source", "destination"})
"""Required arguments that name files on the worker or in object storage."""

RECORDS = frozenset({"files"})
"""Arguments that are lists of objects."""

LISTS = SELECTIONS | {"delete", "source", "changed_from"}
"""Arguments that may be a string or a list."""

MAX_CONCURRENCY = 64
"""The most requests at a time that the client has by itself."""

SIZES = frozenset({"transfer_memory", "max_bandwidth", "min_rate"})
"""Optional arguments that are a number of bytes, with or without a unit."""

NUMBERS = frozenset({"min_files", "batch_files"})
"""Arguments that are whole numbers of at least 1."""

RENDERED = (
    STRINGS
    | LISTS
    | LOCATIONS
    | RECORDS
    | SIZES
    | NUMBERS
    | {"scope", "max_concurrency", "commit_message", "commit_description"}
)
"""Template fields of known kind; those that are neither lists, records, sizes nor numbers are strings."""

DEFAULTS = {"commit_description": "", "scope": "read", "min_files": 1}
"""Defaults other than ``None``, for arguments that a template rendered to ``None``."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "on_empty": ("fail", "skip"),
    "on_unchanged": ("success", "skip"),
    "may_be_missing": (None, "revision", "repo"),
    "missing_scan": ("fail", "wait", "accept"),
    "visibility": (None, "private", "public", "protected"),
    "gated": (None, False, "auto", "manual"),
    "space_sdk": (None, "docker", "gradio", "static", "streamlit"),
}
"""Arguments with a fixed set of values."""

FLAGS = frozenset(
    {
        "allow_empty",
        "commit",
        "create_pr",
        "create_repo",
        "deduplicate",
        "deferrable",
        "dry_run",
        "exist_ok",
        "follow_links",
        "inline_content",
        "missing_ok",
        "read_only",
        "require_safe",
    }
)
"""Arguments that are ``True`` or ``False``."""

OPTIONAL_FLAGS = frozenset({"deduplicate", "inline_content"})
"""Flags that may also be ``None``, which lets the task decide."""

# A pattern may also begin with "["; a list has a quote, a brace, or a number before a comma.
_LIST = re.compile(r"\[\s*\]|\[[\s\[(]*['\"{].*\]|\[\s*\d[\d.]*\s*,.*\]|Lazy\w+\(.*\)", re.DOTALL)
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]i?b|b?)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}
_TEMPLATE = re.compile(r"\{[{%#]")
_NATIVE = "render_template_as_native_obj turns strings that look like numbers into numbers"


def text(name: str, value: Any, most: int | None = None) -> str:
    """Return an argument that is free text, such as ``commit_message``.

    Airflow's database on PostgreSQL and the Hub refuse NUL and half of a surrogate pair, but only after the transfer.

    :param most: the maximum number of characters.
    :raises XetInputError: it is not a string, is too long, or contains such a character.
    """
    if not isinstance(value, str):
        raise XetInputError(f"{name} must be a string, not {type(value).__name__}.")
    if found := UNSTORABLE.search(value):
        what = "a NUL character" if found[0] == "\0" else f"{found[0]!r}, half of a surrogate pair"
        raise XetInputError(
            f"{name} contains {what} at position {found.start()}, which cannot be stored. Remove it: {value!r:.80}."
        )
    if most is not None and len(value) > most:
        raise XetInputError(f"{name} has {len(value):,} characters; at most {most:,} are allowed.")
    return value


def selection(name: str, value: Any, remedy: str | None = None) -> list[str] | None:
    """Return an argument that selects paths, such as ``patterns`` or ``paths``, as a list.

    Only ``None`` selects everything. An empty string or list comes from an upstream task that found nothing, or from an
    empty parameter; selecting everything would then publish or delete files by mistake.

    :param name: the argument's name, for the message.
    :param value: ``None``, a string, or a sequence of strings.
    :param remedy: the advice in the message. Default: to leave the argument out.
    :raises XetInputError: it is empty, contains an empty string, or has another type.
    """
    if value is None:
        return None
    if isinstance(value, (str, PurePath)):
        refuse_rendered_list(name, value)
        values: Sequence[Any] = [value]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        values = value
    else:
        raise XetInputError(f"{name} must be a string or a list of strings, not {_shown(value)}.")
    if not values or "" in values:
        raise XetInputError(
            f"{name} is empty: {value!r:.60}. It selects nothing; {remedy or f'leave {name} out to select everything'}."
        )
    for each in values:
        if not isinstance(each, (str, PurePath)):
            raise XetInputError(f"{name} must contain strings only, not {_shown(each)}.")
    return [text(name, str(each)) for each in values]


def string(name: str, value: Any) -> str | None:
    """Return an argument that is one string, or ``None`` for its default.

    :param name: the argument's name, for the message.
    :raises XetInputError: it is empty, consists of whitespace or slashes only, or is not a string.
    """
    if value is None or (value == "None" and name in NAMES):
        return None
    if isinstance(value, PurePath):
        value = str(value)
    if not isinstance(value, str):
        raise XetInputError(f"{name} must be a string, not {_shown(value)}.")
    if not value.strip().strip("/"):
        raise XetInputError(f"{name} is empty: {value!r:.60}. Give it a value; leave {name} out to use its default.")
    return value


def location(name: str, value: Any) -> Any:
    """Return an argument that names files on the worker or in object storage.

    :raises XetInputError: it is missing or empty, or the string of a list.
    """
    if value is None or value in ("", "None"):
        hint = "For the working folder, write '.'." if value == "" else "A template or task returned no value."
        raise XetInputError(f"{name} is empty: {value!r}. {hint}")
    refuse_rendered_list(name, value)
    return value


def refuse_rendered_list(name: str, value: Any) -> None:
    """Refuse a list that a template turned into a string, such as ``"['a.csv', 'b.csv']"``.

    A glob such as ``[ab].csv`` or ``[0-9]`` is accepted.

    :raises XetInputError: it is such a string.
    """
    if isinstance(value, str) and _LIST.fullmatch(value.strip()):
        raise XetInputError(
            f"{name} is a list that a template turned into a string: {value!r:.60}. Pass the list itself, such as "
            "the upstream task's .output, or set render_template_as_native_obj=True on the DAG."
        )


def check_fields(task: Any, names: Iterable[str]) -> None:
    """Check the rendered attributes of a task whose kind is known.

    :param task: an operator or a sensor; its strings and selections are normalised.
    :param names: names of its attributes.
    :raises XetInputError: one is empty or has a wrong type; the message names it.
    """
    for name in names:
        value = getattr(task, name)
        if name in STRINGS:
            setattr(task, name, string(name, value))
        elif name in SELECTIONS:
            remedy = REMEDIES.get(name)
            setattr(task, name, selection(name, value, remedy))
        elif name in SIZES:
            setattr(task, name, byte_count(name, value))
        elif name == "max_concurrency":
            setattr(task, name, concurrency(name, value))
        elif name in LOCATIONS:
            location(name, value)
        elif name in LISTS | RECORDS:
            refuse_rendered_list(name, value)
        elif name in DEFAULTS and value is None:
            setattr(task, name, DEFAULTS[name])
        elif name == "commit_message" and value is None:
            continue  # its default is a template
        elif name in RENDERED - NUMBERS and not isinstance(value, str):
            raise XetInputError(f"{name} must be a string, not {_shown(value)}.")


def check_written(task: Any, names: Iterable[str]) -> None:
    """Check the arguments that a DAG file writes literally, when it is parsed.

    Templates, outputs of tasks and empty values are left to :func:`check_fields`: they are data, not code.

    :param task: an operator or a sensor.
    :param names: names of its attributes.
    :raises XetInputError: one is wrong; the message names it.
    """
    takes_cache = getattr(task, "takes_cache", False)
    for name in names:
        value = getattr(task, name, None)
        if name in RENDERED and not _is_known_later(value) and not (takes_cache and getattr(value, "is_cache", False)):
            _check_literal(name, value)
    for attribute, value in vars(task).items():
        name = attribute.removeprefix("is_")  # is_dry_run: Airflow's BaseOperator has a method dry_run
        if name in FLAGS and not (name in OPTIONAL_FLAGS and value is None):
            flag(name, value)
        elif name in CHOICES and value not in CHOICES[name]:
            choices = " or ".join(map(repr, CHOICES[name]))
            raise XetInputError(f"{name} {value!r:.60} is unknown; use {choices}.")
        elif name == "token" and (isinstance(value, str) or not (isinstance(value, Mapping) or _is_known_later(value))):
            # The message does not show the value: it may be a Hub token.
            raise XetInputError(f"token is not the output of a XetTokenOperator but of type {type(value).__name__}.")


def _check_literal(name: str, value: Any) -> None:
    if name in LISTS or name == "destination":
        _check_elements(name, value)
    elif name in RECORDS:
        if not isinstance(value, (Mapping, Sequence)) or isinstance(value, (str, bytes)):
            raise XetInputError(f"{name} must be Xet file records, as other tasks return them, not {_shown(value)}.")
    elif name in SIZES:
        byte_count(name, value)
    elif name == "max_concurrency":
        concurrency(name, value)
    elif name in NUMBERS:
        if isinstance(value, bool) or not (isinstance(value, int) or str(value).isdecimal()) or int(value) < 1:
            raise XetInputError(f"{name} {value!r:.60} must be a whole number of at least 1.")
    elif not isinstance(value, (str, PurePath)):
        raise XetInputError(f"{name} must be a string, not {_shown(value)}.")
    elif name in _RULES:
        try:
            _RULES[name](str(value))
        except XetInputError as error:
            raise XetInputError(f"source_{error}" if name.startswith("source_") else str(error)) from None


def _check_elements(name: str, value: Any) -> None:
    """Check the types in an argument that may be a list."""
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and name != "destination"
    for each in value if is_list else [value]:
        if isinstance(each, (str, PurePath)) or (each is not None and _is_known_later(each)):
            continue
        if name in LOCATIONS and (isinstance(each, os.PathLike) or hasattr(each, "protocol")):
            continue
        if name == "changed_from" and isinstance(each, Mapping):
            continue
        elements = "Xet file records" if name == "changed_from" else "strings"
        what = f"contain {elements} only" if is_list else f"be a string or a list of {elements}"
        raise XetInputError(f"{name} must {what}, not {_shown(each)}.")


def _is_known_later(value: Any) -> bool:
    """Return whether a value is known only when the task runs: a template, the output of a task, or empty."""
    if isinstance(value, (str, PurePath)):
        return not str(value).strip("/ ") or bool(_TEMPLATE.search(str(value)))
    if value is None or callable(value):
        return True
    return hasattr(value, "resolve") and not hasattr(value, "protocol")


def _check_repo_type(value: str) -> None:
    if value not in repo.REPO_TYPES:
        raise XetInputError(f"repo_type {value!r} is unknown; use one of {', '.join(repo.REPO_TYPES)}.")


def _check_scope(value: str) -> None:
    if value not in repo.SCOPES:
        raise XetInputError(f"scope {value!r} is unknown; use 'read' or 'write'.")


_RULES: dict[str, Callable[[str], None]] = {
    "repo_id": repo.check_repo_id,
    "source_repo_id": repo.check_repo_id,
    "repo_type": _check_repo_type,
    "source_repo_type": _check_repo_type,
    "revision": repo.check_revision,
    "source_revision": repo.check_revision,
    "branch": lambda name: repo.check_ref_name("branch", name),
    "tag": lambda name: repo.check_ref_name("tag", name),
    "scope": _check_scope,
    "bind": token_binding.check_bind,
}
"""Checks of names that need no Hub."""


def flag(name: str, value: Any) -> bool:
    """Return an argument that is ``True`` or ``False``. The string ``"False"`` would count as true.

    :raises XetInputError: it is not a boolean.
    """
    if not isinstance(value, bool):
        raise XetInputError(f"{name} must be True or False, not {_shown(value)}. It is not a template field.")
    return value


def share(name: str, value: Any) -> float:
    """Return an argument that is a share: a number from 0 to 1, or a template that was rendered to one.

    :raises XetInputError: it is not such a number.
    """
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 1:
        raise XetInputError(f"{name} must be a number from 0 to 1, not {value!r:.60} ({type(value).__name__}).")
    return float(number)


def concurrency(name: str, value: Any) -> int | None:
    """Return an argument that is a number of requests at a time; ``None`` for its default.

    :raises XetInputError: it is not a whole number from 1 to 64.
    """
    if value is None:
        return None
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    if not is_number or not re.fullmatch(r"[1-9]\d?", str(value).strip()) or int(value) > MAX_CONCURRENCY:
        raise XetInputError(f"{name} must be a whole number from 1 to {MAX_CONCURRENCY}, not {value!r:.60}.")
    return int(value)


def byte_count(name: str, value: Any) -> int | None:
    """Return an argument that is a number of bytes: ``500_000_000``, ``"500MB"``, or ``None`` for its default.

    :raises XetInputError: it is neither a positive whole number, nor one with a unit.
    """
    if value is None:
        return None
    number: float | None = None
    if isinstance(value, str):
        if found := _SIZE.fullmatch(value.strip()):
            number = float(found[1]) * _UNITS[found[2].lower()]
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None or number < 1:
        raise XetInputError(
            f"{name} must be a number of bytes, or a string such as '500MB' or '2GiB', not {value!r:.60} "
            f"({type(value).__name__})."
        )
    return int(number)


def seconds(name: str, value: Any) -> float:
    """Return an argument that is a positive duration: a number of seconds, or a ``timedelta``.

    :raises XetInputError: it is not a positive duration.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
        raise XetInputError(f"{name} must be a positive number of seconds or a timedelta, not {_shown(value)}.")
    return number


def whole_number(name: str, value: Any) -> int:
    """Return an argument that is a whole number of at least 1, or a string with one, as a template is rendered to.

    :raises XetInputError: it is something else.
    """
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise XetInputError(f"{name} must be a whole number of at least 1, not {_shown(value)}.")
    return number


def _shown(value: Any) -> str:
    text = f"{value!r:.60} ({type(value).__name__})"
    return f"{text}; {_NATIVE}" if isinstance(value, (int, float)) and not isinstance(value, bool) else text
