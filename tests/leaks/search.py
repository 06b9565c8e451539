"""Search bytes for credentials, in all forms, also where they are compressed."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leaks.forms import spellings

SHORTEST = 12
"""A shorter mark would be found by chance, in base64 above all."""

_MOST = 5
"""How many findings of one credential in one form and one piece are reported."""
_AROUND = 70
_TOKEN = re.compile(rb"[A-Za-z0-9_\-+/=.%~]+")
_START = 4
"""Bytes at the beginning of each spelling by which it is found; thousands of spellings are searched for at once."""
_BLOCK = 1 << 22
_BITS = 24
_FACTOR = np.uint32(2654435761)  # spreads similar starts

COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""What gzip and zlib begin with."""


@dataclass(frozen=True)
class Piece:
    """Something to search: a file, a row, a response.

    :param place: a name in the closing table.
    :param name: what it is, for whoever looks for the cause.
    """

    place: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Finding:
    """A credential where none should be. ``around`` has what stands before and after it, not the credential itself."""

    kind: str
    form: str
    place: str
    name: str
    around: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.form}, in {self.place}: {self.name}: {self.around}"


class Search:
    """Knows the credentials, and finds them.

    :param marks: for each kind what to search for: whole credentials, or the part that all of a kind have in common
        and nothing else has, which also finds one that nobody recorded.
    :raises ValueError: a mark is too short.
    """

    def __init__(self, marks: Mapping[str, Iterable[str]]) -> None:
        self._wanted: dict[bytes, list[tuple[str, str, bytes]]] = {}
        known: set[bytes] = set()
        for kind, texts in marks.items():
            for text in texts:
                if len(text) < SHORTEST:
                    raise ValueError(f"A mark of {kind} has {len(text)} characters; {SHORTEST} are needed.")
                for form, spelling in spellings(text):
                    if spelling not in known:
                        known.add(spelling)
                        self._wanted.setdefault(spelling[:_START], []).append((kind, form, spelling))
        self.kinds = list(marks)
        self._may_start = np.zeros(1 << _BITS, bool)
        self._may_start[_hashed(np.frombuffer(b"".join(self._wanted), "<u4"))] = True

    def find(self, piece: Piece) -> Iterator[Finding]:
        """Return what is found in a piece, also in what it contains in compressed form."""
        for layer, content in _layers(piece.content):
            seen: Counter[bytes] = Counter()
            for at in self._starts(content):
                for kind, form, spelling in self._wanted.get(content[at : at + _START], ()):
                    if content.startswith(spelling, at) and seen[spelling] < _MOST:
                        seen[spelling] += 1
                        around = _around(content, at, at + len(spelling))
                        yield Finding(kind, form, piece.place, piece.name + layer, around)

    def _starts(self, content: bytes) -> Iterator[int]:
        """Return where something may begin that is searched for."""
        for block in range(0, len(content), _BLOCK):
            for offset in range(block, block + _START):
                if (count := min(_BLOCK, len(content) - offset) // _START) > 0:
                    words = np.frombuffer(content, "<u4", count, offset)
                    for number in np.flatnonzero(self._may_start[_hashed(words)]).tolist():
                        yield offset + _START * number


def _hashed(words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    hashed: np.ndarray[Any, Any] = (words * _FACTOR) >> np.uint32(32 - _BITS)
    return hashed


def _layers(content: bytes) -> Iterator[tuple[str, bytes]]:
    yield "", content
    if content.startswith(COMPRESSED):
        # 47: with the header of either. What is truncated or damaged is searched as far as it goes.
        inflate = zlib.decompressobj(47)
        try:
            yield " (decompressed)", inflate.decompress(content, 1 << 28)
        except zlib.error:
            return


def _around(content: bytes, start: int, end: int) -> str:
    # The rest of the token, before or after the mark, is not repeated either.
    before = content[max(0, start - _AROUND) : start]
    while before and _TOKEN.fullmatch(before[-1:]) and before[-1:] not in b"=":
        before = before[:-1]
    following = _TOKEN.match(content, end)
    end = following.end() if following else end
    after = content[end : end + _AROUND // 2]
    return f"{before.decode(errors='replace')}«…»{after.decode(errors='replace')}".replace("\n", "⏎")
