"""The HTTP ``Range`` header with one range (RFC 9110, section 14)."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range begins at or behind the end: HTTP status 416. ``size`` is the length in bytes."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size

    @property
    def content_range(self) -> str:
        """The ``Content-Range`` header of a 416 answer."""
        return f"bytes */{self.size}"


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return ``(start, end)`` in bytes, ``end`` excluded and never behind ``size``.

    ``None`` means the whole: no header, another unit, several ranges, or nonsense, all of which HTTP lets a server
    ignore.

    :raises UnsatisfiableRangeError: the range begins at or behind ``size``.
    """
    match = _ONE_RANGE.fullmatch(header) if header else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise UnsatisfiableRangeError(f"Range {header!r} begins behind the end: there are {size} bytes.", size)
    return start, end


def content_range(start: int, end: int, size: int) -> str:
    """Return the ``Content-Range`` header of bytes ``start`` to ``end`` (excluded) of ``size``."""
    return f"bytes {start}-{end - 1}/{size}"
