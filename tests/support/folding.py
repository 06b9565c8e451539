"""Destinations that do not tell names apart: as an fsspec filesystem, for the local adapter, and a real mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_xethub.xet.files import spellings

NFC, NFD = "caf\u00e9.bin", "cafe\u0301.bin"
"""One name, composed and decomposed."""


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def found(path: str, root: Path) -> str:
    """Return the path below ``root`` as it is stored there, as such a destination finds it."""
    if not Path(path).is_relative_to(root):
        return str(path)
    place = root
    for name in Path(path).relative_to(root).parts:
        there = sorted(os.listdir(place)) if place.is_dir() else []  # noqa: PTH208
        place /= next((each for each in there if folded(each) == folded(name)), name)
    return str(place)


class FoldingFileSystem(DirFileSystem):
    """A share that keeps the spelling of names and ignores it."""

    protocol = "share"
    cachable = False

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), LocalFileSystem())

    def _join(self, path):  # every method goes through here
        if not isinstance(path, str):
            return super()._join(path)
        return found(super()._join(path.lstrip("/")), Path(self.path))


class FoldingPlace:
    """As much of an ``ObjectStoragePath`` as a destination needs."""

    protocol = "share"
    storage_options: dict = {}  # noqa: RUF012

    def __init__(self, root: Path, path: str = "") -> None:
        self.fs = FoldingFileSystem(root.parent)
        self.path = f"{root.name}/{path}" if path else root.name


class FoldingLocal(spellings.Local):
    """The local adapter on a folder of which every name is looked up as such a destination does it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, path: str) -> bool:
        return super().has(found(path, self._root))

    @contextmanager
    def trial(self, folder: str) -> Iterator[spellings.Trial]:
        with super().trial(folder) as trial:
            kind: Any = type(trial)
            place: Path = vars(trial)["_place"]

            class Folding(kind):
                def has(self, name: str) -> bool:
                    return os.path.lexists(found(str(place / name), place))

            yield Folding(place)


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """Mount a real one (NTFS, which ``lowntfs-3g`` treats as Windows does); skip where that cannot be done."""
    if not (shutil.which("lowntfs-3g") and shutil.which("mkntfs")):
        pytest.skip("lowntfs-3g is not installed (Debian: ntfs-3g)")
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkntfs", "-F", "-Q", "-q", str(image)], check=True, capture_output=True)
    options = ["-o", "ignore_case,windows_names"]
    done = subprocess.run(["lowntfs-3g", *options, str(image), str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()[:100]}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
