"""A xorb while its bytes arrive: checked as they come, written to a file that nobody sees yet."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from awscrt.checksums import crc64nvme  # type: ignore[import-untyped]

from airflow_provider_xethub.local.formats import FormatError, xorb
from airflow_provider_xethub.local.formats.hashing import from_hex, to_hex


class IncomingXorb:
    """One upload of a xorb. Its methods block; any thread may call them. Leaving its ``with`` block discards it.

    :param folder: where its file lies until it is stored.
    :param expected_hash: the hash that its chunks must make, hex form.
    :ivar xorb_hash: ``expected_hash``.
    :ivar path: its file.
    :ivar checksum: CRC-64/NVME of the bytes that were written, a footer included.
    :raises FormatError: ``expected_hash`` is not a hash.
    """

    def __init__(self, folder: Path, expected_hash: str) -> None:
        from_hex(expected_hash)
        self.xorb_hash = expected_hash
        self.checksum = 0
        self._parser = xorb.Parser()
        # When a client leaves, its upload is discarded while a thread may still be writing.
        self._lock = threading.Lock()
        descriptor, name = tempfile.mkstemp(dir=folder)
        self.path = Path(name)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: PTH123, SIM115 - a descriptor; finish closes it

    def write(self, pieces: Sequence[bytes | bytearray]) -> None:
        """Check the bytes that come next, and write the chunks that are complete now. Once discarded, do nothing.

        :raises FormatError: they cannot become this xorb.
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
            while records:
                records = records[self._file.write(records) :]

    def finish(self) -> xorb.Xorb:
        """Check the whole, after the last write, and bring it to the disk; return what it is made of.

        :raises FormatError: it ends too early, or is not the xorb that was expected.
        """
        with self._lock:
            try:
                found = self._parser.finish()
            except FormatError as error:
                raise self._refused(error) from error
            if to_hex(found.xorb_hash) != self.xorb_hash:
                raise self._refused(f"its chunks make {to_hex(found.xorb_hash)}.")
            os.fsync(self._file.fileno())
            self._file.close()
        return found

    def discard(self) -> None:
        """Delete its file, unless that was moved away meanwhile."""
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
