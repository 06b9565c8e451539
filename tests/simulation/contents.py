"""What files contain: a plan names it by size, seed and kind, so that the plan stays short."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TypedDict


class ContentSpec(TypedDict):
    """The content of one file.

    Text is what the Hub stores inline; everything else goes through CAS. Equal specs are equal bytes.
    """

    size: int
    seed: int
    text: bool


@lru_cache(maxsize=256)
def _content(size: int, seed: int, text: bool) -> bytes:
    rng = random.Random(f"{size} {seed}")
    if text:
        return "".join(rng.choices("abcdefgh ,\n", k=size)).encode()
    # A NUL byte near the start is how the Hub recognises a binary file.
    return (b"\0" + rng.randbytes(size - 1)) if size else b""


def content(spec: ContentSpec) -> bytes:
    """Return the bytes."""
    return _content(spec["size"], spec["seed"], spec["text"])


def contents(files: dict[str, ContentSpec]) -> dict[str, bytes]:
    """Return the bytes of several files by their paths."""
    return {path: content(spec) for path, spec in files.items()}
