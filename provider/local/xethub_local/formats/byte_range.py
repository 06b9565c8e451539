"""The HTTP ``Range`` header (RFC 9110, section 14)."""

from __future__ import annotations

import re
from itertools import pairwise

from xethub_local.formats import FormatError

MAX_RANGES = 64
"""Maximum number of ranges in one request, and so in one signed data URL."""

_UNIT = re.compile(r"\s*bytes\s*=(.*)", re.IGNORECASE | re.DOTALL)
_FILE_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})")
_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range starts at or after the end: HTTP status 416. ``size`` is the length in bytes."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size

    @property
    def content_range(self) -> str:
        """The ``Content-Range`` header of a 416 answer."""
        return f"bytes */{self.size}"


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return ``(start, end)`` in bytes, ``end`` excluded and at most ``size``.

    ``None`` means the whole: no header, another unit, several ranges, or a malformed header, all of which HTTP allows a
    server to ignore.

    :raises UnsatisfiableRangeError: the range starts at or after ``size``.
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
        raise UnsatisfiableRangeError(f"Range {header!r} starts after the end: there are {size} bytes.", size)
    return start, end


def parse_file_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Parse the range of a reconstruction as :func:`parse_range` does, but strictly.

    Source: the protocol, version 1.1: ``bytes={start}-{end}``, and 416 for an invalid range. It is a guess that every
    other form counts as invalid, including ``bytes=5-`` and ``bytes=-5``.

    :raises UnsatisfiableRangeError: it has another form, ends before it starts, or starts at or after ``size``.
    """
    if header is None:
        return None
    match = _FILE_RANGE.fullmatch(header)
    if match is None or int(match[1]) > int(match[2]):
        raise UnsatisfiableRangeError(f"Range {header[:80]!r} is not valid; use bytes=START-END.", size)
    return parse_range(header, size)


def parse_ranges(header: str | None, size: int) -> list[tuple[int, int]] | None:
    """Return the ``(start, end)`` of each range of a header, in its order, as :func:`parse_range` does for one.

    A range after the end is skipped if another one is not. ``None`` means the whole: no header, another unit, or any
    malformed range.

    :raises UnsatisfiableRangeError: all ranges start at or after ``size``.
    :raises FormatError: there are more than :data:`MAX_RANGES` ranges, or two overlap. RFC 9110, section 14.2, lets a
        server reject these, because they cost it more than they cost the client.
    """
    match = _UNIT.fullmatch(header) if header else None
    if header is None or match is None:
        return None
    wanted = match.group(1).split(",", MAX_RANGES)
    if len(wanted) > MAX_RANGES:
        raise FormatError(f"The request has more than {MAX_RANGES} ranges; split it into several requests.")
    ranges = []
    for text in wanted:
        try:
            one = parse_range(f"bytes={text}", size)
        except UnsatisfiableRangeError:
            continue
        if one is None:
            return None
        ranges.append(one)
    if not ranges:
        raise UnsatisfiableRangeError(f"Range {header[:80]!r} starts after the end: there are {size} bytes.", size)
    for before, after in pairwise(sorted(ranges)):
        if after[0] < before[1]:
            raise FormatError(f"The request has ranges that overlap at byte {after[0]}.")
    return ranges


def content_range(start: int, end: int, size: int) -> str:
    """Return the ``Content-Range`` header of bytes ``start`` to ``end`` (excluded) of ``size``."""
    return f"bytes {start}-{end - 1}/{size}"
