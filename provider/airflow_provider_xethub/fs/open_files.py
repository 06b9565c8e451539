"""Open files of the filesystem: one that is read by ranges, and one that becomes a commit when it is closed."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from fsspec.spec import AbstractBufferedFile

from airflow_provider_xethub.exceptions import XetIntegrityError, XetTransferError
from airflow_provider_xethub.fs.errors import file_not_found_errors
from airflow_provider_xethub.fs.paths import HubPath
from airflow_provider_xethub.xet.message_text import named

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.cas.ranges import Ranges
    from airflow_provider_xethub.xet.cas.writer import CasWriter
    from airflow_provider_xethub.xet.records import XetCommitResult, XetFile
    from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

READ_BLOCK = 4 << 20
"""Bytes to read ahead. A range costs two requests: at 50 ms each, as long as 4 MiB take at 40 MB/s."""

IN_MEMORY = 8 << 20
"""A file of at most so many bytes stays in memory until it is closed, because the Hub may store it inline. A larger one
goes into CAS as it is written."""


class FileAccess(Protocol):
    """What open files need of their filesystem, besides what fsspec's base class needs."""

    def ranges(self, repo: Repo) -> Ranges:
        """Return the reader for ranges of the files of a repository."""

    def writer(self, file: HubPath) -> CasWriter:
        """Start an upload of unknown length."""

    def publish(self, files: Sequence[WritingFile]) -> None:
        """Publish written files of one repository in one commit."""


class ReadingFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read, as it was when it was opened, whatever is committed meanwhile.

    A file that is read from beginning to end, in pieces of any size, is verified; ranges are not.

    :param fs: the filesystem.
    :param hub_path: the path of the file.
    :param details: what :meth:`XetHubFileSystem.info` returns for it.
    :param content: its bytes, where the repository stores it inline.
    """

    DEFAULT_BLOCK_SIZE = READ_BLOCK

    def __init__(
        self, fs: FileAccess, hub_path: HubPath, details: dict[str, Any], content: bytes | None, **options: Any
    ) -> None:
        self._hub_path = hub_path
        self._content = content
        self._digest: Any = None
        self._digested = 0
        super().__init__(fs, details["name"], "rb", size=details["size"], **options)
        self.details = details

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Read a range, and compare the digest once all bytes of the file were read in order."""
        size = self.details["size"]
        end = min(end, size)
        if start >= end:
            return b""
        if self._content is not None:
            return self._content[start:end]
        for may_retry in ((start, end) == (0, size), False):
            ranges = self.fs.ranges(self._hub_path.repo)
            content: bytes = ranges.read(self._hub_path.path, self.details["xet_hash"], size, start, end)
            if self._is_intact(content, start, end):
                return content
            ranges.forget()
            if not may_retry:
                break
            log.warning("hf://%s arrived damaged. Fetching it once more.", self.path)
        kind, digest = self._expected_digest()
        raise XetIntegrityError(
            f"{named(f'hf://{self.path}')} arrived damaged. Let the task retry, and discard what has been read. Of "
            f"hf://{self.path}, the {kind} is not {digest}."
        )

    def _expected_digest(self) -> tuple[str, str]:
        # The Hub reports no sha256 for bucket files; their Xet hash is computed over all bytes too.
        sha256 = self.details["sha256"]
        return ("sha256", sha256) if sha256 else ("Xet hash", self.details["xet_hash"])

    def _is_intact(self, content: bytes, start: int, end: int) -> bool:
        """Add the bytes that follow those already hashed to the digest.

        :returns: whether the digest is right, or not complete yet.
        """
        if not start <= self._digested < end:
            return True
        kind, expected = self._expected_digest()
        if self._digest is None:
            from airflow_provider_xethub.xet.native_client import XetHash

            self._digest = hashlib.sha256() if kind == "sha256" else XetHash()
        self._digest.update(memoryview(content)[self._digested - start :])
        self._digested = end
        if end < self.details["size"]:
            return True
        found = self._digest.hexdigest()
        self._digest, self._digested = None, 0
        return bool(found == expected)

    def close(self) -> None:
        """Stop reading."""
        if hasattr(self._digest, "close"):
            self._digest.close()
        super().close()


class WritingFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is written. When it is closed, it becomes a commit, or a part of its transaction's commit.

    It is not published if an exception leaves its ``with`` block, or if it is never closed.

    :param fs: the filesystem.
    :param hub_path: the path of the file in its repository.
    :param name: the path of the file in the filesystem.
    :param message: title of the commit. ``None``: a default title.
    :param reserve_memory: asks the transaction whether a file of this size may stay in memory until its end; ``None``
        where the file is a commit of its own.
    :ivar published: the commit, once there is one.
    """

    def __init__(
        self,
        fs: FileAccess,
        hub_path: HubPath,
        name: str,
        message: str | None,
        reserve_memory: Callable[[int], bool] | None,
    ) -> None:
        super().__init__(fs, name, "wb", IN_MEMORY, autocommit=reserve_memory is None)
        self.hub_path = hub_path
        self.message = message
        self.published: XetCommitResult | None = None
        self.content: bytes | None = None
        self.record: XetFile | None = None
        self._reserve_memory = reserve_memory
        self._writer: CasWriter | None = None
        self._sample = b""
        self._failed = False

    @property
    def is_complete(self) -> bool:
        """True once the file was written in full and closed, so that it can be published."""
        return self.content is not None or self.record is not None

    def write(self, data: Any) -> int:
        """Write the next bytes.

        :raises XetHubError: CAS does not accept them; nothing will be published.
        """
        view = memoryview(data).cast("B")
        for start in range(0, len(view), IN_MEMORY):
            super().write(view[start : start + IN_MEMORY])
        return len(view)

    def _upload_chunk(self, final: bool = False) -> bool:
        data = self.buffer.getvalue()
        try:
            if final and self._writer is None and (self._reserve_memory is None or self._reserve_memory(len(data))):
                self.content = data
                return True
            if self._writer is None:
                self._sample = data[:512]
                self._writer = self.fs.writer(self.hub_path)
            if data:
                self._writer.write(data)
            if final:
                self.record = self._finish(self._writer)
        except BaseException:
            self._failed = True
            self._abort()
            raise
        return True

    def _finish(self, writer: CasWriter) -> XetFile:
        from airflow_provider_xethub.xet.cas.uploads import EMPTY
        from airflow_provider_xethub.xet.transfer.upload import stream_record

        uploaded = writer.finish() if self.loc else EMPTY
        return stream_record(self.hub_path.path, uploaded, self._sample, self.hub_path.repo.uri)

    def close(self) -> None:
        """Publish the file, or let its transaction publish it.

        :raises XetTransferError: an earlier write failed; nothing is published.
        :raises XetHubError: nothing was committed.
        """
        if self.closed:
            return
        if self._failed:
            self.discard()
            raise XetTransferError(f"hf://{self.path} was not written in full, so it is not published.")
        super().close()
        if self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Publish the file. A transaction publishes all of its files at once."""
        with file_not_found_errors():
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
        """Publish the file at the end of a ``with`` block, unless an exception leaves the block."""
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        """Discard a file that was never closed: it may be incomplete."""
        if not self.closed:
            log.warning("hf://%s was never closed, so it is not published.", self.path)
            self.discard()


class WritingText(io.TextIOWrapper):
    """Write text into a :class:`WritingFile`. It is published only if its block completes."""

    def __exit__(self, kind: object, *_: object) -> None:
        """Publish the file at the end of a ``with`` block, unless an exception leaves the block."""
        if kind is not None:
            self.buffer.discard()  # type: ignore[attr-defined]
        self.close()

    def __del__(self) -> None:
        """Discard a file that was never closed; the base class would close it."""
        with suppress(ValueError, AttributeError):  # detached, or never initialised
            self.buffer.__del__()  # type: ignore[attr-defined]
