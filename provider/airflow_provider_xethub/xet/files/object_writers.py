"""How an object comes into being: nothing is seen under its name before it is complete and kept."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol


class Writing(Protocol):
    """An object that is being written."""

    def write(self, data: bytes) -> None:
        """Write the next bytes."""

    def keep(self) -> None:
        """Give it its name."""

    def discard(self) -> None:
        """Remove what was not kept."""


class Multipart:
    """An upload in parts, which the storage shows when it is completed."""

    def __init__(self, fs: Any, path: str, part: int, options: Mapping[str, Any]) -> None:
        self._part = part
        self._file = fs.open(path, "wb", block_size=part, **options)

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        for start in range(0, len(data), self._part):  # it would send a piece of 64 MB as one part, from a copy
            self._file.write(memoryview(data)[start : start + self._part])

    @property
    def upload_id(self) -> str | None:
        """What the storage calls it, once the first part was sent."""
        begun = self._file and self._file.mpu
        return str(begun["UploadId"]) if begun else None

    def keep(self) -> None:
        """Give it its name."""
        self._file.close()
        self._file = None

    def discard(self) -> None:
        """Remove what was not kept."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                with suppress(Exception):  # an upload whose begin failed; what stays is not seen under any name
                    file.discard()
            finally:
                file.closed = True  # otherwise it may complete itself when it is collected


class Beside:
    """A file under a temporary name beside the final one, renamed when it is complete."""

    def __init__(self, fs: Any, path: str, size: int, part: str, *, folders: bool) -> None:
        self._fs, self._path, self._size = fs, path, size
        folder = posixpath.dirname(path)
        if folders:
            fs.makedirs(folder, exist_ok=True)
            if fs.isdir(path):
                raise IsADirectoryError("is a folder; a file cannot take its place")
        self._part: str | None = f"{folder}/{part}"
        try:
            self._file = fs.open(self._part, "wb")
        except FileExistsError:  # the folder is a file
            raise NotADirectoryError(f"{folder} is no folder") from None

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        self._file.write(data)

    def keep(self) -> None:
        """Give it its name."""
        self._file.close()
        size = self._fs.info(self._part)["size"]
        if size != self._size:
            raise OSError(f"{size} of {self._size} bytes were written")
        self._fs.mv(self._part, self._path)
        self._part = None

    def discard(self) -> None:
        """Remove what was not kept."""
        if self._part is not None:
            part, self._part = self._part, None
            with suppress(Exception):
                self._file.close()
            with suppress(Exception):
                self._fs.rm_file(part)
