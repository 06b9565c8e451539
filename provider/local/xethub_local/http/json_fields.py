"""Parse JSON objects of clients strictly, and get their fields by name and type.

``null`` counts as missing. Every error names the field, so that the author of a client knows what to send.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from xethub_local.store.errors import BadRequestError

Found = TypeVar("Found")
_REQUIRED: Any = object()
_MAX_DIGITS = 18


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object; an empty text, or only whitespace, is an empty object.

    :raises BadRequestError: it is not JSON in UTF-8, not an object, too deep, or has a number that exceeds 64 bits.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(
            text.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded
        )
        if b"\\u" in text:
            # JSON can escape half of a surrogate pair, which neither SQLite nor a file name can hold.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"{what} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequestError(f"{what} must be a JSON object, not {type(value).__name__}.")
    return value


def whole_number(text: str) -> int | None:
    """Parse a number of 1 to 18 decimal digits; return ``None`` for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def text_field(value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a string.

    :raises BadRequestError: it is missing and has no default, or is not a string.
    """
    found: str = _field(value, name, str, "a string", _REQUIRED if default is None else default)
    return found


def flag_field(value: Mapping[str, Any], name: str) -> bool:
    """Return a boolean; missing means ``False``.

    :raises BadRequestError: it is not a boolean.
    """
    found: bool = _field(value, name, bool, "true or false", False)
    return found


def number_field(value: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return a whole number of at least 0.

    :raises BadRequestError: it is missing and has no default, or is not such a number.
    """
    found: int = _field(value, name, int, "a whole number of at least 0", _REQUIRED if default is None else default)
    if found < 0 and value.get(name) is not None:
        raise BadRequestError(f"The field {name!r} must be a whole number of at least 0, not {found}.")
    return found


def object_field(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object.

    :raises BadRequestError: it is missing, or is not an object.
    """
    found: dict[str, Any] = _field(value, name, dict, "an object", _REQUIRED)
    return found


def list_field(value: Mapping[str, Any], name: str, of: type[Found], what: str) -> list[Found]:
    """Return a list whose items all have the type ``of``; missing means an empty list.

    :param what: name of the items for the message, such as ``strings``.
    :raises BadRequestError: it is not such a list.
    """
    found: list[Any] = _field(value, name, list, f"a list of {what}", [])
    if not all(type(item) is of for item in found):
        raise BadRequestError(f"The field {name!r} must be a list of {what}.")
    return found


def _field(value: Mapping[str, Any], name: str, wanted: type, what: str, default: Any) -> Any:
    found = value.get(name)
    if found is None:
        found = default
    if found is _REQUIRED:
        raise BadRequestError(f"The field {name!r} is missing; it must be {what}.")
    if type(found) is not wanted:  # not isinstance: in Python, a bool is also an int
        raise BadRequestError(f"The field {name!r} must be {what}.")
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _bounded(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"the number {text[:40]} is too large")
    return int(text)
