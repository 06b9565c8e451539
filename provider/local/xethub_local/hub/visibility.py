"""Whether a request asks for a private repository, in the old field ``private`` or the new one, ``visibility``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xethub_local.http.json_fields import flag_field, text_field
from xethub_local.store.errors import BadRequestError

_IS_PRIVATE = {"private": True, "protected": False, "public": False}


def wants_private(body: Mapping[str, Any]) -> bool | None:
    """Return whether ``visibility``, or otherwise ``private``, means private; ``None`` if both are missing.

    :raises BadRequestError: the value of the field is not valid.
    """
    visibility = text_field(body, "visibility", "")
    if visibility:
        if visibility not in _IS_PRIVATE:
            raise BadRequestError(
                f"The field 'visibility' must be one of {', '.join(_IS_PRIVATE)}, not {visibility!r}."
            )
        return _IS_PRIVATE[visibility]
    return None if body.get("private") is None else flag_field(body, "private")
