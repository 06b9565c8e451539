"""Open files of the filesystem: one is read by ranges, one is written and becomes a commit when it is closed."""

from __future__ import annotations

import hashlib
import io
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

from airflow_provider_xethub.exceptions import XetIntegrityError, XetTransferError
from airflow_provider_xethub.fs.errors import missing_files
from airflow_provider_xethub.fs.places import Place

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.transactions import XetTransaction
    from airflow_provider_xethub.fs.xethub import XetHubFileSystem
    from airflow_provider_xethub.xet.cas.writer import CasWriter
    from airflow_provider_xethub.xet.records import XetCommitResult, XetFile

log = logging.getLogger(__name__)

READ_BLOCK = 4 << 20
"""Bytes that are read ahead. Each range costs two answers: with 50 ms for each, as long as 4 MiB take at 40 MB/s."""

IN_MEMORY = 8 << 20
"""Bytes of a file that are held until it is closed, because the Hub may want a small one inline. Of more, all goes into
CAS as it is written."""


class ReadingFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read; as it was when it was opened, whatever is committed meanwhile.

    Read from the beginning to the end, in whichever pieces, it is verified; ranges are not.

    :param details: what :meth:`XetHubFileSystem.info` says of it.
    :param content: all of it, where the repository stores it inline.
    """

    DEFAULT_BLOCK_SIZE = READ_BLOCK

    def __init__(
        self, fs: XetHubFileSystem, place: Place, details: dict[str, Any], content: bytes | None, **options: Any
    ) -> None:
        self._place = place
        self._content = content
        self._digest: Any = None
        self._digested = 0
        super().__init__(fs, details["name"], "rb", size=details["size"], **options)
        self.details = details

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Read a range, and compare the digest when the last byte of the file has come after all others."""
        size = self.details["size"]
        end = min(end, size)
        if start >= end:
            return b""
        if self._content is not None:
            return self._content[start:end]
        for may_try_again in ((start, end) == (0, size), False):
            ranges = self.fs.ranges(self._place.repo)
            content: bytes = ranges.read(self._place.path, self.details["xet_hash"], size, start, end)
            if self._is_right(content, start, end):
                return content
            ranges.forget()
            if not may_try_again:
                break
            log.warning("hf://%s arrived damaged. Fetching it once more.", self.path)
        kind, digest = self._wanted(self.details)
        raise XetIntegrityError(
            f"hf://{self.path} arrived damaged: its {kind} is not {digest}. Discard what has been read; let the task "
            "retry."
        )

    @staticmethod
    def _wanted(details: dict[str, Any]) -> tuple[str, str]:
        # The Hub reports no sha256 for bucket files; their Xet hash is computed over all bytes too.
        return ("sha256", details["sha256"]) if details["sha256"] else ("Xet hash", details["xet_hash"])

    def _is_right(self, content: bytes, start: int, end: int) -> bool:
        """Take the bytes that follow upon those before into the digest; after the last one, say whether it is right."""
        if not start <= self._digested < end:
            return True
        kind, wanted = self._wanted(self.details)
        if self._digest is None:
            from airflow_provider_xethub.xet.native_client import XetHash

            self._digest = hashlib.sha256() if kind == "sha256" else XetHash()
        self._digest.update(memoryview(content)[self._digested - start :])
        self._digested = end
        if end < self.details["size"]:
            return True
        found = self._digest.hexdigest()
        self._digest, self._digested = None, 0
        return bool(found == wanted)

    def close(self) -> None:
        """Stop reading."""
        if hasattr(self._digest, "close"):
            self._digest.close()
        super().close()


class WritingFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is written; closed, it becomes a commit, or a part of that of its transaction.

    Left by an exception, or never closed, nothing is published.

    :ivar published: the commit, once there is one.
    """

    def __init__(
        self, fs: XetHubFileSystem, place: Place, name: str, message: str | None, transaction: XetTransaction | None
    ) -> None:
        super().__init__(fs, name, "wb", IN_MEMORY, autocommit=transaction is None)
        self.place = place
        self.message = message
        self.published: XetCommitResult | None = None
        self.content: bytes | None = None
        self.record: XetFile | None = None
        self._transaction = transaction
        self._writer: CasWriter | None = None
        self._sample = b""
        self._failed = False

    @property
    def is_complete(self) -> bool:
        """Whether it was closed, with all that was written, so that it can be published."""
        return self.content is not None or self.record is not None

    def write(self, data: Any) -> int:
        """Write the next bytes.

        :raises XetHubError: CAS does not take them; nothing will be published.
        """
        view = memoryview(data).cast("B")
        for start in range(0, len(view), IN_MEMORY):
            super().write(view[start : start + IN_MEMORY])
        return len(view)

    def _upload_chunk(self, final: bool = False) -> bool:
        data = self.buffer.getvalue()
        try:
            if final and self._writer is None and (self._transaction is None or self._transaction.has_room(len(data))):
                self.content = data
                return True
            if self._writer is None:
                self._sample = data[:512]
                self._writer = self.fs.writer(self.place)
            if data:
                self._writer.write(data)
            if final:
                self.record = self._finished(self._writer)
        except BaseException:
            self._failed = True
            self._abort()
            raise
        return True

    def _finished(self, writer: CasWriter) -> XetFile:
        from airflow_provider_xethub.xet.cas.uploads import EMPTY
        from airflow_provider_xethub.xet.transfer.upload import stream_record

        uploaded = writer.finish() if self.loc else EMPTY
        return stream_record(self.place.path, uploaded, self._sample, self.place.repo.uri)

    def close(self) -> None:
        """Publish it, or leave that to its transaction.

        :raises XetTransferError: an earlier write failed; nothing is published.
        :raises XetHubError: nothing was committed.
        """
        if self.closed:
            return
        if self._failed:
            self.discard()
            raise XetTransferError(f"hf://{self.path} was not written in full, so that nothing of it is published.")
        super().close()
        if self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Publish it. A transaction does so for all of its files at once."""
        with missing_files():
            self.fs.publish([self])

    def discard(self) -> None:
        """Stop writing; nothing is published."""
        self.closed = True
        self.content = self.record = None
        self.buffer = io.BytesIO()
        self._abort()

    def _abort(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):
                writer.abort()

    def __exit__(self, kind: object, *_: object) -> None:
        """Publish it at the end of a ``with`` block, unless that is left by an exception."""
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        """Discard what nobody has closed: it may be half of what was meant."""
        if not self.closed:
            log.warning("hf://%s was never closed. Nothing of it is published.", self.path)
            self.discard()


class WritingText(io.TextIOWrapper):
    """Text into a :class:`WritingFile`: left by an exception, or never closed, nothing is published."""

    def __exit__(self, kind: object, *_: object) -> None:
        """Publish it at the end of a ``with`` block, unless that is left by an exception."""
        if kind is not None:
            self.buffer.discard()  # type: ignore[attr-defined]
        self.close()

    def __del__(self) -> None:
        """Discard what nobody has closed; the base class would close it."""
        with suppress(ValueError, AttributeError):  # detached, or never begun
            self.buffer.__del__()  # type: ignore[attr-defined]
