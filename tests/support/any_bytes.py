"""Any set of files: sizes around the borders of chunks, contents that repeat, within a file and across files."""

from __future__ import annotations

import random
import struct

from hypothesis import strategies as st

KIB = 1024
_BORDERS = [0, 4, 8 * KIB, 64 * KIB, 128 * KIB, 256 * KIB]

# Around each border by up to three bytes: all four rests of a division by four, which grouped compression cares for.
_sizes = st.one_of(
    st.builds(lambda border, more: max(0, border + more), st.sampled_from(_BORDERS), st.integers(-3, 3)),
    st.integers(0, 300 * KIB),
)


def _block(kind: str, seed: int, size: int) -> bytes:
    if kind == "random":
        return random.Random(seed).randbytes(size)
    if kind == "equal":
        return bytes([seed % 256]) * size
    if kind == "text":
        line = b"line %d of a text that repeats itself\n" % seed
        return (line * (size // len(line) + 1))[:size]
    floats = [number / 7 + seed for number in range(size // 4 + 1)]
    return struct.pack(f"<{len(floats)}f", *floats)[:size]


# Few seeds, so that the same block comes again.
_blocks = st.builds(_block, st.sampled_from(["random", "equal", "text", "floats"]), st.integers(0, 3), _sizes)

contents = st.one_of(st.just(b""), _blocks, st.lists(_blocks, min_size=2, max_size=4).map(b"".join))
"""The bytes of one file."""

file_sets = st.lists(contents, min_size=1, max_size=5)
"""The contents of files that are uploaded in one commit."""


@st.composite
def ranges(draw: st.DrawFn, size: int) -> tuple[int, int]:
    """A range of at least one byte, the end excluded; ``size`` must be more than zero."""
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, size))
