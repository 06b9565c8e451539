"""Conditional requests by entity tag (RFC 9110, section 13.1)."""

from __future__ import annotations

import re

_ENTITY_TAG = re.compile(r'"[^"]*"')


def names(header: str, etag: str) -> bool:
    """Whether ``If-None-Match`` or ``If-Match`` names this entity tag; ``*`` names any.

    Weak and strong tags compare alike: a file never changes beneath its content id.

    :param etag: with its quotation marks, as the ``ETag`` header has it.
    """
    return header.strip() == "*" or etag in _ENTITY_TAG.findall(header)


def range_is_wanted(if_range: str | None, etag: str) -> bool:
    """Whether a ``Range`` counts: no ``If-Range`` came with it, or one that names the file as it is now.

    A date never does: files have no modification time here. Weak tags do not either, as the RFC says.
    """
    return if_range is None or if_range.strip() == etag
