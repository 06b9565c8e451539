"""File records on disk: gzip-compressed JSON lines in a file without a name, which is gone when the process ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import weakref
import zlib
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from typing import Any

from airflow_provider_xethub.exceptions import XetDestinationError, XetIntegrityError
from airflow_provider_xethub.xet import answers, manifest
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.records import XetFile

_BLOCK = 1 << 20
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_GZIP = 31
"""``wbits`` for a gzip stream; without a time in its header, the same records are the same bytes."""


class Spool:
    """Records on this worker's disk: add all of them, then read them any number of times.

    The memory that it takes does not depend on the number of records. The file is in the folder for temporary files
    (``TMPDIR``), about 100 bytes for each record.

    :ivar totals: counts what was added, or what :meth:`verify` found.
    :ivar size: bytes on disk.
    """

    def __init__(self) -> None:
        try:
            self._file: Any = TemporaryFile(prefix="xethub-")  # noqa: SIM115 - it lives as long as the records
        except OSError as error:
            raise _unwritable(error) from error
        weakref.finalize(self, self._file.close)
        self.totals = manifest.Totals()
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._compressor: Any = zlib.compressobj(3, zlib.DEFLATED, _GZIP)
        self._is_complete = False

    @property
    def sha256(self) -> str:
        """The sha256 of the file, in hex."""
        return self._sha256.hexdigest()

    def add(self, files: Iterable[XetFile]) -> None:
        """Add records."""
        batch = list(files)
        self.totals.add(batch)
        lines = "".join(f"{_ENCODER.encode(file)}\n" for file in batch)
        self.write(self._compressor.compress(lines.encode()))

    def finish(self) -> Spool:
        """End the file: only then can it be read."""
        if not self._is_complete:
            self.write(self._compressor.flush())
            self.complete()
        return self

    # --- the file itself ------------------------------------------------------------------------------------------

    def write(self, block: bytes) -> None:
        """Append bytes of the compressed file, as they were stored elsewhere."""
        try:
            self._file.write(block)
        except OSError as error:
            raise _unwritable(error) from error
        self._sha256.update(block)
        self.size += len(block)

    def clear(self) -> None:
        """Discard everything that was written."""
        self._file.seek(0)
        self._file.truncate()
        self._sha256, self.size = hashlib.sha256(), 0

    def complete(self) -> None:
        """End a file that was written with :meth:`write`."""
        try:
            self._file.flush()
        except OSError as error:
            raise _unwritable(error) from error
        self._is_complete = True

    def blocks(self) -> Iterator[bytes]:
        """Yield the compressed file."""
        with io.BufferedReader(_Reader(self._file.fileno()), _BLOCK) as stream:
            while block := stream.read(_BLOCK):
                yield block

    # --- records --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[XetFile]:
        """Yield the records, as they were added."""
        if not self._is_complete:
            raise RuntimeError("finish() was not called")
        for line in self._lines():
            yield json.loads(line)

    def verify(self, most: int) -> manifest.Totals:
        """Check each record of a file that was stored elsewhere, and return what it has.

        :param most: how many records it may have.
        :raises XetInputError: a record is wrong.
        :raises XetIntegrityError: it is not such a file.
        """
        from airflow_provider_xethub.xet.files.targets import check_record

        totals = manifest.Totals()
        try:
            for line in self._lines():
                if totals.file_count >= most:
                    raise XetIntegrityError(f"it has more than {most} records")
                totals.add([check_record(answers.parse(line))])
        except (zlib.error, answers.WrongAnswerError) as error:
            raise XetIntegrityError(f"it is not gzip-compressed JSON lines ({error})") from None
        self.totals = totals
        return totals

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines, and never decompress much more than one of them."""
        unpacker = zlib.decompressobj(_GZIP)
        rest = b""
        for block in self.blocks():
            packed = block
            while packed:
                *lines, rest = (rest + unpacker.decompress(packed, _BLOCK)).split(b"\n")
                packed = unpacker.unconsumed_tail
                yield from lines
                if len(rest) > manifest.MAX_LINE:
                    raise zlib.error("a line is too long")
                if unpacker.unused_data:
                    raise zlib.error("more follows after its end")
        *lines, rest = (rest + unpacker.flush()).split(b"\n")
        yield from lines
        if rest or not unpacker.eof:
            raise zlib.error("it is truncated")


class _Reader(io.RawIOBase):
    """Read a file from its beginning, whatever others read from it at the same time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)


def spooled(batches: Iterable[Iterable[XetFile]]) -> Spool:
    """Write batches of records to disk.

    :raises XetInputError: the records name too many revisions.
    """
    spool = Spool()
    for batch in batches:
        spool.add(batch)
    return spool.finish()


def _unwritable(error: OSError) -> XetDestinationError:
    return XetDestinationError(
        f"The records of many files cannot be kept on this worker: {os_reason(error)}. Point TMPDIR to a folder with "
        "some hundred MB for each million files."
    )
