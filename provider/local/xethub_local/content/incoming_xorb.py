"""A xorb that is being uploaded: checked while its bytes arrive, and written to a temporary file."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from awscrt.checksums import crc64nvme

from xethub_local.formats import FormatError, xorb
from xethub_local.formats.hashing import from_hex, to_hex


class IncomingXorb:
    """One upload of a xorb. Its methods block; any thread may call them. Leaving its ``with`` block discards it.

    :param folder: folder of its temporary file.
    :param expected_hash: expected hash of the xorb, hex form.
    :param discards: check the bytes, and write none of them to disk.
    :ivar xorb_hash: ``expected_hash``.
    :ivar discards: as given.
    :ivar path: path of the temporary file.
    :ivar checksum: CRC-64/NVME of the written bytes, including a footer.
    :raises FormatError: ``expected_hash`` is not a hash.
    """

    def __init__(self, folder: Path, expected_hash: str, *, discards: bool = False) -> None:
        from_hex(expected_hash)
        self.discards = discards
        self.xorb_hash = expected_hash
        self.checksum = 0
        self._parser = xorb.Parser()
        # When a client disconnects, its upload is discarded while a thread may still be writing.
        self._lock = threading.Lock()
        descriptor, name = tempfile.mkstemp(dir=folder)
        self.path = Path(name)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: PTH123, SIM115 - a descriptor; finish closes it

    def write(self, pieces: Sequence[bytes | bytearray]) -> None:
        """Check the next bytes, and write the chunks that are complete now. Do nothing once it is discarded.

        :raises FormatError: they do not belong to a valid xorb.
        """
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        with self._lock:
            if self._file.closed:
                return
            self.checksum = crc64nvme(piece, self.checksum)
            try:
                records = self._parser.feed(piece)
            except FormatError as error:
                raise self._refused(error) from error
            while records and not self.discards:
                records = records[self._file.write(records) :]

    def finish(self) -> xorb.Xorb:
        """Check the complete xorb after the last write, flush it to disk, and return its chunks.

        :raises FormatError: it is truncated, or does not have the expected hash.
        """
        with self._lock:
            try:
                found = self._parser.finish()
            except FormatError as error:
                raise self._refused(error) from error
            if to_hex(found.xorb_hash) != self.xorb_hash:
                raise self._refused(f"the hash of its chunks is {to_hex(found.xorb_hash)}.")
            if not self.discards:
                os.fsync(self._file.fileno())
            self._file.close()
        return found

    def discard(self) -> None:
        """Delete its temporary file, unless it was stored."""
        with self._lock:
            self._file.close()
            self.path.unlink(missing_ok=True)

    def _refused(self, reason: object) -> FormatError:
        return FormatError(f"Xorb {self.xorb_hash} is refused: {reason}")

    def __enter__(self) -> IncomingXorb:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
