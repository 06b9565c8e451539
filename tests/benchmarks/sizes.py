"""How much the benchmark moves, and the files that it moves: random bytes, which no compression makes smaller."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_xethub.xet.files.digest_memory import SETTLED_SECONDS

MIB = 1 << 20
Shape = tuple[int, int]
"""A number of files, and the bytes in each."""


@dataclass(frozen=True)
class Sizes:
    """How much is moved. ``DEFAULT`` takes an hour, ``FULL`` is what the documentation speaks of.

    :param mapped: numbers of tasks.
    :param edited: bytes of the file of which one megabyte changes.
    :param variants: of one model; half of each is the same in all.
    :param starts: so many files, one after the other; the mapped tasks have one of this size each.
    :param limited: bytes, with a memory limit and without.
    :param fast: bytes over the fast link.
    :param slow: bytes over the slow link.
    :param whole: one file for each run of a DAG.
    :param large_object: bytes of one object in object storage.
    :param lossy: over the link that loses connections.
    :param crowded: over the link that collapses under many requests.
    :param crawled: so many of these, because a client that crawls needs minutes for them.
    """

    large: int = 1024 * MIB
    medium: Shape = (200, MIB)
    small: Shape = (600, 10_240)
    stored: Shape = (12, 16 * MIB)
    large_object: int = 512 * MIB
    mapped: tuple[int, ...] = (1, 8, 32)
    starts: Shape = (3, 100_000)
    edited: int = 256 * MIB
    variants: Shape = (29, 8 * MIB)
    unchanged: Shape = (10_000, 429_496)
    limited: int = 512 * MIB
    fast: int = 256 * MIB
    slow: int = 32 * MIB
    lossy: Shape = (100, MIB)
    whole: Shape = (10, 32 * MIB)
    crowded: Shape = (80, 8 * MIB)
    crawled: int = 16


DEFAULT = Sizes()
FULL = Sizes(
    small=(5_000, 10_240),
    large_object=4 * 1024 * MIB,
    mapped=(1, 8, 200),
    edited=5 * 1024 * MIB,
    variants=(29, 256 * MIB),
)
QUICK = Sizes(
    large=3 * MIB,
    medium=(5, MIB),
    small=(40, 10_240),
    stored=(2, MIB),
    large_object=9 * MIB,
    mapped=(1, 3),
    starts=(1, 100_000),
    edited=3 * MIB,
    variants=(3, MIB),
    unchanged=(20, 10_240),
    limited=3 * MIB,
    fast=2 * MIB,
    slow=MIB,
    lossy=(3, MIB),
    whole=(1, MIB),
    crowded=(3, MIB),
    crawled=1,
)

EDIT = 1_000_000
"""Bytes that change in the middle of the edited file."""


def large(folder: Path, sizes: Sizes) -> None:
    """Write a file, and the same with 1 % of it changed, in pieces of 256 KiB at most."""
    write(folder / "new", sizes.large)
    pieces = max(1, sizes.large // (25 * MIB))
    places = [number * (sizes.large // pieces) for number in range(pieces)]
    _changed(folder / "new", folder / "changed", places, sizes.large // pieces // 100)


def edited(folder: Path, sizes: Sizes) -> None:
    """Write a file, and the same with a megabyte in its middle changed."""
    write(folder / "new", sizes.edited)
    _changed(folder / "new", folder / "changed", [sizes.edited // 2], EDIT)


def variants(folder: Path, sizes: Sizes) -> None:
    """Write variants of one model: of each, the first half is that of all others, and the second its own."""
    count, size = sizes.variants
    first = folder / "000.bin"
    write(first, size)
    for number in range(1, count):
        _changed(first, folder / f"{number:03}.bin", [size // 2], size - size // 2)


def of_shape(shape: Callable[[Sizes], Shape]) -> Callable[[Path, Sizes], None]:
    """Return what writes so many files of one size."""

    def make(folder: Path, sizes: Sizes) -> None:
        count, size = shape(sizes)
        for number in range(count):
            write(folder / f"{number:05}.bin", size)

    return make


def settled(folder: Path, sizes: Sizes) -> None:
    """Write a folder that has been as it is for a while, as on any second night: what changes is never remembered."""
    of_shape(lambda sizes: sizes.unchanged)(folder, sizes)
    if sizes is not QUICK:
        time.sleep(SETTLED_SECONDS + 1)


def crowded(folder: Path, sizes: Sizes) -> None:
    """Write a folder, and another with some of its files."""
    of_shape(lambda sizes: sizes.crowded)(folder / "all", sizes)
    some = folder / "some"
    some.mkdir()
    for path in sorted((folder / "all").iterdir())[: sizes.crawled]:
        shutil.copyfile(path, some / path.name)


def mapped(folder: Path, sizes: Sizes) -> None:
    """Write a folder for each number of tasks, with one file for each task."""
    for number in sizes.mapped:
        for part in range(number):
            write(folder / f"{number:03}" / f"{part:03}", sizes.starts[1])


def one(size: Callable[[Sizes], int]) -> Callable[[Path, Sizes], None]:
    """Return what writes one file."""
    return lambda folder, sizes: write(folder / "new", size(sizes))


def write(path: Path, size: int) -> None:
    """Write a file of random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))


def _changed(source: Path, target: Path, places: list[int], size: int) -> None:
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(random.randbytes(size))
