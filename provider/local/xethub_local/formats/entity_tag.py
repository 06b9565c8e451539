"""Conditional requests by entity tag (RFC 9110, section 13.1)."""

from __future__ import annotations

import re

_ENTITY_TAG = re.compile(r'"[^"]*"')


def names(header: str, etag: str) -> bool:
    """Return whether ``If-None-Match`` or ``If-Match`` names this entity tag; ``*`` names any.

    Weak and strong tags compare equal, because the tag is the id of the content.

    :param etag: with quotation marks, as in the ``ETag`` header.
    """
    return header.strip() == "*" or etag in _ENTITY_TAG.findall(header)


def range_is_wanted(if_range: str | None, etag: str) -> bool:
    """Return whether ``Range`` applies: ``If-Range`` is missing, or names the file's current entity tag.

    A date never matches, because files have no modification time here; a weak tag does not either, by the RFC.
    """
    return if_range is None or if_range.strip() == etag
