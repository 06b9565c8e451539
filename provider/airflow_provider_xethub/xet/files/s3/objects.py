"""The content of objects in S3: read in ranges and written in parts, several at a time, in bounded memory.

The version of an object that was listed is a condition of each request, so that no content is mixed from two versions.
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from airflow_provider_xethub.xet.files.s3 import checksums
from airflow_provider_xethub.xet.files.storage_entries import Entry

RANGE = 8 << 20
"""Bytes that one request for a part of a large object asks for."""

READERS = 3
"""Ranges of one object that are requested or in memory at the same time."""

WRITERS = 3
"""Parts of one object that are sent at the same time; one more is filled meanwhile."""

BLOCK = 1 << 20
"""Bytes of a block that :meth:`Objects.blocks` yields."""

ATTEMPTS = 5
"""Requests for the rest of a range whose response broke off. The client itself repeats requests that fail sooner."""

_PAUSE = 0.2
_POLL_SECONDS = 0.05
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ETAG = "ETag="
_DENIED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
           "InvalidToken", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "InvalidPayer",
           "InvalidSecurity", "RequestTimeTooSkewed"}  # fmt: skip
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_CHANGED = {"412", "PreconditionFailed", "416", "InvalidRange"}


class FileExpired(OSError):  # noqa: N818 - the name that s3fs gives it
    """The object is no longer what it was when it was listed."""


class Objects:
    """The objects that one client of ``botocore`` reaches.

    :param client: as :func:`airflow_provider_xethub.xet.files.s3.client.of` returns it.
    :param split: returns bucket and key of a path.
    """

    def __init__(self, client: Any, split: Callable[[str], tuple[str, str]]) -> None:
        self._client = client
        self._split = split

    def head(self, entry: Entry, count: int) -> bytes:
        """Return the first bytes of an object.

        :raises OSError: it changed since it was listed, or cannot be read.
        """
        if count >= entry.size:
            return b"".join(self.blocks(entry)) if entry.size else b""
        return b"".join(self._range(entry, 0, count, threading.Event()))

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Read an object in order, in blocks of at most :data:`BLOCK` bytes; ranges of a large one at the same time.

        A checksum that the storage has of the whole object is compared at the end.

        :raises OSError: it changed since it was listed, or cannot be read.
        """
        if entry.size <= RANGE:
            yield from self._whole(entry)
            return
        checksum = checksums.of_object(self._head(entry))
        for block in self._ranges(entry):
            if checksum:
                checksum.update(block)
            yield block
        if checksum and not checksum.is_met():
            _damaged(checksum.name)

    def writing(self, path: str, size: int, part: int, metadata: Mapping[str, str]) -> Parts:
        """Start to write an object of ``size`` bytes, in parts of ``part`` bytes if it is larger than one."""
        bucket, key = self._split(path)
        return Parts(self._client, {"Bucket": bucket, "Key": key}, size, part, metadata)

    # --- one request after the other ------------------------------------------------------------------------------

    def _of(self, entry: Entry) -> dict[str, str]:
        bucket, key = self._split(entry.path)
        etag = _etag(entry)
        return {"Bucket": bucket, "Key": key, **({"IfMatch": etag} if etag else {})}

    def _head(self, entry: Entry) -> Mapping[str, Any]:
        with translated():
            head: Mapping[str, Any] = self._client.head_object(**self._of(entry), ChecksumMode="ENABLED")
        self._check(entry, head, head["ContentLength"])
        return head

    def _check(self, entry: Entry, answer: Mapping[str, Any], size: int) -> None:
        etag = _etag(entry)  # a storage may ignore the condition
        if size != entry.size or (etag and answer.get("ETag", etag) != etag):
            raise FileExpired("it is no longer the object that was listed")

    def _whole(self, entry: Entry) -> list[bytes]:
        """Read a small object with one request; its checksum, or the MD5 that its ETag is, is compared."""
        if not entry.size:
            return []
        for left in reversed(range(ATTEMPTS)):
            with translated():
                answer = self._client.get_object(**self._of(entry), ChecksumMode="ENABLED")
                self._check(entry, answer, answer["ContentLength"])
                try:
                    blocks = list(_read(answer["Body"], entry.size, threading.Event()))
                except _breaks() as error:
                    _pause_or_raise(left, error)
                    continue
            _check_md5(answer, blocks)
            return blocks
        raise AssertionError

    def _range(self, entry: Entry, start: int, end: int, stopped: threading.Event) -> list[bytes]:
        """Read a range, and request the rest of it where a response breaks off."""
        blocks: list[bytes] = []
        for left in reversed(range(ATTEMPTS)):
            with translated():
                answer = self._client.get_object(**self._of(entry), Range=f"bytes={start}-{end - 1}")
                found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
                if not found or (int(found[1]), int(found[2])) != (start, end - 1):
                    raise OSError(f"the storage returned other bytes than {start} to {end - 1}")
                self._check(entry, answer, entry.size if found[3] == "*" else int(found[3]))
                try:
                    for block in _read(answer["Body"], end - start, stopped):
                        blocks.append(block)
                        start += len(block)
                except _breaks() as error:
                    _pause_or_raise(left, error)
                    continue
            return blocks
        raise AssertionError

    # --- several at a time ----------------------------------------------------------------------------------------

    def _ranges(self, entry: Entry) -> Iterator[bytes]:
        starts = iter(range(0, entry.size, RANGE))
        stopped = threading.Event()
        todo: queue.SimpleQueue[tuple[int, queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        waiting: list[queue.SimpleQueue[Any]] = []

        def work() -> None:
            while (found := todo.get()) and not stopped.is_set():
                start, done = found
                try:
                    done.put(self._range(entry, start, min(start + RANGE, entry.size), stopped))
                except BaseException as error:
                    done.put(error)

        def request() -> None:
            start = next(starts, None)
            if start is not None:
                waiting.append(queue.SimpleQueue())
                todo.put((start, waiting[-1]))

        for _ in range(min(READERS, -(-entry.size // RANGE))):
            threading.Thread(target=work, name="xethub-range", daemon=True).start()
            request()
        try:
            while waiting:
                blocks = waiting.pop(0).get()
                if isinstance(blocks, BaseException):
                    raise blocks
                # In reverse, so that a block is no longer in memory when the caller has it.
                blocks.reverse()
                while blocks:
                    yield blocks.pop()
                request()
        finally:
            stopped.set()
            for _ in range(READERS):
                todo.put(None)


class Parts:
    """An object that is being written; visible, complete, when it is finished."""

    def __init__(
        self, client: Any, where: Mapping[str, str], size: int, part: int, metadata: Mapping[str, str]
    ) -> None:
        self._client = client
        self._where = where
        self._metadata = dict(metadata)
        self._part = part
        self._in_parts = size > part
        self._pieces: list[bytes] = []
        self._held = 0
        self._count = 0
        self._done: dict[int, str] = {}
        self._failure: list[BaseException] = []
        self._todo: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(WRITERS)
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self.upload_id: str | None = None

    def write(self, data: bytes) -> None:
        """Write the next bytes, and send what fills a part."""
        view = memoryview(data)
        while len(view):
            piece = view[: self._part - self._held]
            self._pieces.append(bytes(piece) if len(piece) < len(data) else data)
            self._held += len(piece)
            view = view[len(piece) :]
            if self._held == self._part and self._in_parts:
                self._send()

    def finish(self) -> None:
        """Complete the object under its final name."""
        if not self._in_parts:
            with translated():
                self._client.put_object(**self._where, Metadata=self._metadata, Body=self._taken())
            self._ended.set()
            return
        if self._held:
            self._send()
        self._end_threads()
        self._raise_failure()
        # Without checksums: the storage refuses those of an upload that was not started with any. It has compared the
        # one that the client sends with each part.
        parts = [{"PartNumber": number, "ETag": self._done[number]} for number in sorted(self._done)]
        with translated():
            self._client.complete_multipart_upload(
                **self._where, UploadId=self.upload_id, MultipartUpload={"Parts": parts}
            )
        self._ended.set()

    def discard(self) -> None:
        """Remove the object unless it was finished."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._end_threads()  # a part that arrives after the upload was aborted would stay
        if self.upload_id:
            with suppress(Exception):  # its parts are not visible
                self._client.abort_multipart_upload(**self._where, UploadId=self.upload_id)

    def _taken(self) -> bytes:
        taken = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._held = [], 0
        return taken

    def _send(self) -> None:
        if not self.upload_id:
            with translated():
                started = self._client.create_multipart_upload(**self._where, Metadata=self._metadata)
            self.upload_id = started["UploadId"]
        if len(self._threads) < WRITERS:
            self._threads.append(threading.Thread(target=self._work, name="xethub-part", daemon=True))
            self._threads[-1].start()
        # A part is handed over only when it is sent at once, so that no more are in memory.
        while not self._idle.acquire(timeout=_POLL_SECONDS):
            self._raise_failure()
        self._raise_failure()
        self._count += 1
        self._todo.put((self._count, self._taken()))

    def _end_threads(self) -> None:
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure[0]

    def _work(self) -> None:
        while found := self._todo.get():
            number, content = found
            try:
                if not (self._ended.is_set() or self._failure):
                    with translated():
                        answer = self._client.upload_part(
                            **self._where, UploadId=self.upload_id, PartNumber=number, Body=content
                        )
                    self._done[number] = answer["ETag"]
            except BaseException as error:
                self._failure.append(error)
            finally:
                del found, content
                self._idle.release()


@contextmanager
def translated() -> Iterator[None]:
    """Raise an error of the client as the :class:`OSError` that a filesystem raises."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        response = getattr(error, "response", None)
        if not isinstance(response, Mapping):
            raise
        about = response.get("Error", {})
        code, text = str(about.get("Code", "")), str(about.get("Message") or error)
        if code in _CHANGED:
            raise FileExpired(text) from None
        kind = PermissionError if code in _DENIED else FileNotFoundError if code in _MISSING else OSError
        raise kind(text if kind is not OSError else f"{code}: {text}") from None


def _etag(entry: Entry) -> str | None:
    return next((each.removeprefix(_ETAG) for each in entry.version if each.startswith(_ETAG)), None)


def _read(body: Any, size: int, stopped: threading.Event) -> Iterator[bytes]:
    """Yield the content of a response, which must have ``size`` bytes."""
    with body:
        left = size
        while left and not stopped.is_set() and (block := body.read(min(BLOCK, left))):
            left -= len(block)
            yield block
        if not left:
            # The client compares length and checksum when it has seen the end.
            if body.read(1):
                raise OSError("the storage sent more bytes than it announced")
        elif not stopped.is_set():
            raise EOFError("the storage sent fewer bytes than it announced")


def _breaks() -> tuple[type[Exception], ...]:
    """Return the errors of a response that breaks off."""
    from botocore import exceptions

    return (
        exceptions.IncompleteReadError,
        exceptions.ReadTimeoutError,
        exceptions.ResponseStreamingError,
        exceptions.FlexibleChecksumError,
        ConnectionError,
        EOFError,
        TimeoutError,
    )


def _pause_or_raise(left: int, error: Exception) -> None:
    if not left:
        raise OSError(f"the response broke off {ATTEMPTS} times ({type(error).__name__})") from None
    time.sleep(_PAUSE)


def _check_md5(answer: Mapping[str, Any], blocks: list[bytes]) -> None:
    """Compare the MD5 that the ETag is, unless another checksum was compared, or the object is encrypted otherwise."""
    encryption = str(answer.get("ServerSideEncryption", ""))
    etag = str(answer.get("ETag", "")).strip('"')
    if checksums.was_compared(answer) or "kms" in encryption or answer.get("SSECustomerAlgorithm"):
        return
    if not re.fullmatch("[0-9a-f]{32}", etag):
        return
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    if digest.hexdigest() != etag:
        _damaged("MD5")


def _damaged(name: str) -> NoReturn:
    raise OSError(f"it arrived damaged: its {name} is not the one that the storage has. Nothing was published.")
