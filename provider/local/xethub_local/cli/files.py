"""What ``put`` and ``get`` share: standard input and output, and reading local files piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

STANDARD = "-"
"""The argument that stands for standard input or output."""

PIECE_BYTES = 1024 * 1024


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a stream in pieces of at most :data:`PIECE_BYTES`."""
    while piece := stream.read(PIECE_BYTES):
        yield piece


def sha256_of(stream: BinaryIO, advance: Callable[[int], None] = lambda _: None) -> str:
    """Return the sha256 of the rest of a stream.

    :param advance: called with the number of bytes of each piece.
    """
    digest = hashlib.sha256()
    for piece in pieces(stream):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()
