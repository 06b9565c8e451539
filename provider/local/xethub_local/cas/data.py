"""Send bytes of a stored xorb with status 206, with at most a few MiB in memory."""

from __future__ import annotations

import os
import secrets
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from starlette.responses import Response, StreamingResponse

from xethub_local.formats.byte_range import content_range
from xethub_local.formats.multipart_ranges import MEDIA_TYPE, Piece, body_length, multipart_body

_READ_BYTES = 4 * 1024 * 1024
# A smaller read costs less than the switch to a thread.
_INLINE_READ_BYTES = 256 * 1024


def data_response(path: Path, ranges: Sequence[tuple[int, int]], size: int) -> Response:
    """Return the response with ranges of a file: plain bytes for one, ``multipart/byteranges`` for several.

    :param ranges: at least one, each ``(start, end)`` in bytes, ``end`` excluded and within the file.
    :param size: size of the file in bytes.
    """
    if len(ranges) == 1:
        start, end = ranges[0]
        pieces: list[Piece] = [(start, end)]
        headers = {"Content-Range": content_range(start, end, size)}
        media_type = "application/octet-stream"
    else:
        boundary = secrets.token_hex(16)
        pieces = multipart_body(ranges, size, boundary)
        headers = {}
        media_type = f"{MEDIA_TYPE}; boundary={boundary}"
    length = body_length(pieces)
    headers["Content-Length"] = str(length)
    if length <= _INLINE_READ_BYTES:
        return Response(_read_all(path, pieces), 206, headers, media_type)
    return StreamingResponse(_read(path, pieces), 206, headers, media_type)


def _read_all(path: Path, pieces: list[Piece]) -> bytes:
    with path.open("rb", buffering=0) as file:
        return b"".join(
            piece if isinstance(piece, bytes) else os.pread(file.fileno(), piece[1] - piece[0], piece[0])
            for piece in pieces
        )


async def _read(path: Path, pieces: list[Piece]) -> AsyncIterator[bytes]:
    in_thread = get_running_loop().run_in_executor
    with path.open("rb", buffering=0) as file:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            start, end = piece
            while start < end:
                length = min(_READ_BYTES, end - start)
                data = (
                    os.pread(file.fileno(), length, start)
                    if length <= _INLINE_READ_BYTES
                    else await in_thread(None, os.pread, file.fileno(), length, start)
                )
                if not data:
                    return  # the file is truncated on disk: the response ends early, and clients notice
                start += len(data)
                yield data
