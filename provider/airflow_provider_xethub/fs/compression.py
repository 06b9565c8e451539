"""Files that are compressed while they are written, and published when complete, like every other file."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

from fsspec.compression import compr
from fsspec.core import get_compression

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.open_files import WritingFile


def compression_of(path: str, compression: object) -> str | None:
    """Return the name of the compression for a file that is to be written; ``None`` for no compression.

    :param compression: a name, ``infer`` to choose by the extension of ``path``, or ``None``.
    :raises XetInputError: fsspec does not know it in this environment.
    """
    if compression is None:
        return None
    try:
        found: str | None = get_compression(path, compression)
    except (ValueError, TypeError):
        known = ", ".join(sorted(name for name in compr if name))
        raise XetInputError(f"compression {compression!r} is not available here; use one of infer, {known}.") from None
    return found


class _CompressorTarget:
    """The file object that a compressor writes to. Without ``file``, it discards what is written."""

    def __init__(self, file: WritingFile) -> None:
        self.file: WritingFile | None = file

    def write(self, data: Any) -> int:
        return self.file.write(data) if self.file is not None else len(data)

    def flush(self) -> None:
        """Do nothing: the file has the data already."""


class WritingCompressed(io.BufferedIOBase):
    """Compress bytes into a :class:`WritingFile`.

    Nothing is published if an exception leaves its ``with`` block, or if it is never closed.
    """

    def __init__(self, file: WritingFile, compression: str) -> None:
        self._file = file
        self._target = _CompressorTarget(file)
        self._compressor = compr[compression](self._target, mode="w")

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Write the next bytes; return their number, uncompressed."""
        if self.closed:
            raise ValueError("write to closed file")
        view = memoryview(data).cast("B")
        self._compressor.write(view)
        return len(view)

    def close(self) -> None:
        """Publish the file, or let its transaction publish it.

        :raises XetHubError: nothing was published.
        """
        if self.closed:
            return
        try:
            if self._target.file is not None:
                self._compressor.close()
                self._file.close()
        except BaseException:
            self.discard()
            raise
        finally:
            super().close()

    def discard(self) -> None:
        """Stop writing; nothing is published."""
        self._target.file = None
        self._file.discard()
        with suppress(Exception):
            self._compressor.close()
        super().close()

    def __exit__(self, kind: object, *_: object) -> None:
        """Publish the file at the end of a ``with`` block, unless an exception leaves the block."""
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        """Discard a file that was never closed; the base class would close it."""
        with suppress(AttributeError):  # never initialised
            if not self.closed:
                self.discard()
