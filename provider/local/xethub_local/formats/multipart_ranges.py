"""Several byte ranges in one response: the body of ``multipart/byteranges`` (RFC 9110, section 14.6)."""

from __future__ import annotations

from collections.abc import Iterable

from xethub_local.formats.byte_range import content_range

MEDIA_TYPE = "multipart/byteranges"

Piece = bytes | tuple[int, int]
"""A piece of a body: either literal bytes, or the bytes of the file from start to end (excluded)."""


def multipart_body(ranges: Iterable[tuple[int, int]], size: int, boundary: str) -> list[Piece]:
    """Return the pieces of a body with one part per range, in the order given.

    :param ranges: each ``(start, end)`` in bytes, ``end`` excluded.
    :param size: size of the whole file in bytes.
    :param boundary: letters and digits that do not occur in the file.
    """
    pieces: list[Piece] = []
    for start, end in ranges:
        line_break = "\r\n" if pieces else ""
        pieces.append(
            f"{line_break}--{boundary}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Range: {content_range(start, end, size)}\r\n\r\n".encode("ascii")
        )
        pieces.append((start, end))
    pieces.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return pieces


def body_length(pieces: Iterable[Piece]) -> int:
    """Return the total length of the pieces in bytes."""
    return sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
