"""Thousands of files with awkward names, made again from nothing but their numbers, and trees to compare."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

LARGEST = 8 << 20

NAMES = (
    "plain/{n:05}.bin",
    "{n}.bin",
    "with space/a b  {n} .bin",
    "ünïcödé/日本語/façade {n}.bin",
    "emoji 🎉/🚀{n}👩‍🔬.bin",
    ".hidden/.{n}",
    "..dots/...{n}",
    "100%/%20{n}%2F%.bin",
    "a+b=c&d/#{n}?x=1;y,z@:!.bin",
    "[brackets]/*{n}{{}}~`'\"$(x)|<>^.bin",
    "deep/{n:04}/b/c/d/e/f.bin",
    "long/{n}-" + "l" * 200 + ".bin",
)


def is_large(number: int) -> bool:
    """One in twenty."""
    return number % 20 == 1


def is_text(number: int) -> bool:
    """Every sixth that is not large: what the Hub wants inline."""
    return number % 6 == 5 and not is_large(number)


def name(number: int) -> str:
    """Return the path of a file."""
    path = NAMES[number % len(NAMES)].format(n=number)
    return f"{path.removesuffix('.bin')}.csv" if is_text(number) else path


def content(number: int, scale: float) -> bytes:
    """Return what is in a file; one in a hundred is empty."""
    chance = random.Random(number)
    if number % 100 == 0:
        return b""
    if is_text(number):
        return (f"{number},ä\n" + chance.randbytes(chance.randint(1, 10_000)).hex()).encode()
    if is_large(number):
        # A few of the largest are there at any scale.
        size = LARGEST if number < 100 else int(chance.randint(LARGEST // 2, LARGEST) * scale) + 1
    else:
        size = int(chance.randint(1, 320_000) * scale) + 1
    return b"\0" + chance.randbytes(size - 1)


def make(folder: Path, scale: float, count: int) -> int:
    """Write the files below a folder; return their bytes in all: at scale 1, about 4 GiB for ten thousand."""
    total = 0
    for number in range(count):
        path = folder / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content(number, scale)
        path.write_bytes(data)
        total += len(data)
    return total


def digests(folder: Path, algorithm: str = "sha256") -> dict[str, str]:
    """Return the digest of each file below a folder, hidden ones too, by path."""
    found = {}
    for root, _, names in os.walk(folder):
        for each in names:
            path = Path(root, each)
            found[path.relative_to(folder).as_posix()] = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    return found
