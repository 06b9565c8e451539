"""Files that are compressed while they are written: published when complete, like every other file."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

from fsspec.compression import compr
from fsspec.core import get_compression

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.files import WritingFile


def method(path: str, compression: object) -> str | None:
    """Return the compression of a file that is to be written; ``None`` for a plain one.

    :param compression: its name, ``infer`` to go by the extension of ``path``, or ``None``.
    :raises XetInputError: fsspec does not know it here.
    """
    if compression is None:
        return None
    try:
        found: str | None = get_compression(path, compression)
    except (ValueError, TypeError):
        known = ", ".join(sorted(name for name in compr if name))
        raise XetInputError(f"compression {compression!r} is not available here; use one of infer, {known}.") from None
    return found


class _Into:
    """Where a compressor writes; it has no other way to the file, so that closing the compressor late does no harm."""

    def __init__(self, file: WritingFile) -> None:
        self.file: WritingFile | None = file

    def write(self, data: Any) -> int:
        return self.file.write(data) if self.file is not None else len(data)

    def flush(self) -> None:
        """Nothing to do: the file keeps what it was given."""


class WritingCompressed(io.BufferedIOBase):
    """Bytes into a :class:`WritingFile`, compressed: left by an exception, or never closed, nothing is published."""

    def __init__(self, file: WritingFile, compression: str) -> None:
        self._file = file
        self._into = _Into(file)
        self._compressor = compr[compression](self._into, mode="w")

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, data: Any) -> int:
        """Write the next bytes, and return how many of ``data``, before they were compressed."""
        if self.closed:
            raise ValueError("write to closed file")
        view = memoryview(data).cast("B")
        self._compressor.write(view)
        return len(view)

    def close(self) -> None:
        """Publish it, or leave that to its transaction.

        :raises XetHubError: nothing was published.
        """
        if self.closed:
            return
        try:
            if self._into.file is not None:
                self._compressor.close()
                self._file.close()
        except BaseException:
            self.discard()
            raise
        finally:
            super().close()

    def discard(self) -> None:
        """Stop writing; nothing is published."""
        self._into.file = None
        self._file.discard()
        with suppress(Exception):
            self._compressor.close()
        super().close()

    def __exit__(self, kind: object, *_: object) -> None:
        """Publish it at the end of a ``with`` block, unless that is left by an exception."""
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        """Discard what nobody has closed; the base class would close it."""
        with suppress(AttributeError):  # never begun
            if not self.closed:
                self.discard()
