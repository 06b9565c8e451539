"""Writers of objects: an object is visible under its name only when it is complete."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol


class Writing(Protocol):
    """An object that is being written."""

    def write(self, data: bytes) -> None:
        """Write the next bytes."""

    def finish(self) -> None:
        """Complete the object under its final name."""

    def discard(self) -> None:
        """Remove the object unless it was finished."""


class Multipart:
    """A multipart upload, visible when it is completed."""

    def __init__(self, fs: Any, path: str, part: int, options: Mapping[str, Any]) -> None:
        self._part = part
        self._file = fs.open(path, "wb", block_size=part, **options)

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        for start in range(
            0, len(data), self._part
        ):  # the filesystem would copy a piece of 64 MB and send it as one part
            self._file.write(memoryview(data)[start : start + self._part])

    @property
    def upload_id(self) -> str | None:
        """The id of the upload in the storage, once the first part was sent."""
        upload = self._file and self._file.mpu
        return str(upload["UploadId"]) if upload else None

    def finish(self) -> None:
        """Complete the object under its final name."""
        self._file.close()
        self._file = None

    def discard(self) -> None:
        """Remove the object unless it was finished."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                with suppress(Exception):  # the upload may not have started; its parts are not visible
                    file.discard()
            finally:
                file.closed = True  # otherwise garbage collection may complete it


class Beside:
    """A file under a temporary name beside the final one, renamed when it is complete."""

    def __init__(self, fs: Any, path: str, size: int, part: str, *, folders: bool) -> None:
        self._fs, self._path, self._size = fs, path, size
        folder = posixpath.dirname(path)
        if folders:
            fs.makedirs(folder, exist_ok=True)
            if fs.isdir(path):
                raise IsADirectoryError("is a folder; a file cannot replace it")
        self._part: str | None = f"{folder}/{part}"
        try:
            self._file = fs.open(self._part, "wb")
        except FileExistsError:  # the folder is a file
            raise NotADirectoryError(f"{folder} is not a folder") from None

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        self._file.write(data)

    def finish(self) -> None:
        """Complete the object under its final name."""
        self._file.close()
        size = self._fs.info(self._part)["size"]
        if size != self._size:
            raise OSError(f"{size} of {self._size} bytes were written")
        self._fs.mv(self._part, self._path)
        self._part = None

    def discard(self) -> None:
        """Remove the object unless it was finished."""
        if self._part is not None:
            part, self._part = self._part, None
            with suppress(Exception):
                self._file.close()
            with suppress(Exception):
                self._fs.rm_file(part)
