"""The content of objects in S3: read in ranges, several at a time, in bounded memory.

The version of an object that was listed is a condition of each request, so that no content is mixed from two versions.
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from airflow_provider_xethub.xet.files.s3 import checksums
from airflow_provider_xethub.xet.files.s3.errors import FileExpired, breaks, damaged, translated
from airflow_provider_xethub.xet.files.s3.parts import Parts
from airflow_provider_xethub.xet.files.s3.watch import Crawl, Watch
from airflow_provider_xethub.xet.files.s3.window import Window
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.process import threads

RANGE = 8 << 20
"""Bytes that one request for a part of a large object asks for."""

BLOCK = 1 << 20
"""Bytes of a block that :meth:`Objects.blocks` yields."""

ATTEMPTS = 5
"""Requests for the rest of a range whose response broke off or crawled. The client itself repeats requests that fail
sooner."""

_COMPARED_ATTEMPTS = 3
"""Of these, so many are compared with faster responses. A link that has become slow must not end the transfer."""

_PAUSE = 0.2
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ETAG = "ETag="


class Objects:
    """The objects that one client of ``botocore`` reaches.

    :param client: as :func:`airflow_provider_xethub.xet.files.s3.client.of` returns it.
    :param split: returns bucket and key of a path.
    """

    def __init__(self, client: Any, split: Callable[[str], tuple[str, str]]) -> None:
        self._client = client
        self._split = split
        self._watch = Watch()

    def head(self, entry: Entry, count: int, window: Window) -> bytes:
        """Return the first bytes of an object.

        :raises OSError: it changed since it was listed, or cannot be read.
        """
        if count >= entry.size:
            return b"".join(self.blocks(entry, window)) if entry.size else b""
        blocks: list[bytes] = []
        self._range(entry, 0, count, window, threading.Event(), blocks.append)
        return b"".join(blocks)

    def blocks(self, entry: Entry, window: Window) -> Iterator[bytes]:
        """Read an object in order, in blocks of at most :data:`BLOCK` bytes; ranges of a large one at the same time.

        A checksum that the storage has of the whole object is compared at the end.

        :raises OSError: it changed since it was listed, or cannot be read.
        """
        if entry.size <= RANGE:
            yield from self._whole(entry, window)
        else:
            yield from self._ranges(entry, window)

    def writing(self, path: str, size: int, metadata: Mapping[str, str], window: Window) -> Parts:
        """Start to write an object of ``size`` bytes."""
        bucket, key = self._split(path)
        return Parts(self._client, {"Bucket": bucket, "Key": key}, size, metadata, window)

    # --- one request after the other ------------------------------------------------------------------------------

    def _of(self, entry: Entry) -> dict[str, str]:
        bucket, key = self._split(entry.path)
        etag = _etag(entry)
        return {"Bucket": bucket, "Key": key, **({"IfMatch": etag} if etag else {})}

    def _checksum(self, entry: Entry) -> checksums.Checksum | None:
        with translated():
            head: Mapping[str, Any] = self._client.head_object(**self._of(entry), ChecksumMode="ENABLED")
        self._check(entry, head, head["ContentLength"])
        return checksums.of_object(head)

    def _check(self, entry: Entry, answer: Mapping[str, Any], size: int) -> None:
        etag = _etag(entry)  # a storage may ignore the condition
        if size != entry.size or (etag and answer.get("ETag", etag) != etag):
            raise FileExpired("it is no longer the object that was listed")

    def _whole(self, entry: Entry, window: Window) -> list[bytes]:
        """Read a small object with one request; its checksum, or the MD5 that its ETag is, is compared."""
        if not entry.size:
            return []
        never = threading.Event()
        for left in reversed(range(ATTEMPTS)):
            blocks: list[bytes] = []
            with translated(), window.turn(never):
                answer = self._client.get_object(**self._of(entry), ChecksumMode="ENABLED")
                self._check(entry, answer, answer["ContentLength"])
                try:
                    self._read(answer["Body"], entry.size, never, blocks.append, left)
                except breaks() as error:
                    _pause_or_raise(left, error, window)
                    continue
            _check_md5(answer, blocks)
            return blocks
        raise AssertionError

    def _range(
        self,
        entry: Entry,
        start: int,
        end: int,
        window: Window,
        stopped: threading.Event,
        put: Callable[[bytes], object],
    ) -> None:
        """Read a range, block by block, and request the rest of it where a response breaks off or crawls."""

        def take(block: bytes) -> None:
            nonlocal start
            start += len(block)
            put(block)

        for left in reversed(range(ATTEMPTS)):
            with translated(), window.turn(stopped):
                if stopped.is_set():
                    return
                answer = self._client.get_object(**self._of(entry), Range=f"bytes={start}-{end - 1}")
                found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
                if not found or (int(found[1]), int(found[2])) != (start, end - 1):
                    raise OSError(f"the storage returned other bytes than {start} to {end - 1}")
                self._check(entry, answer, entry.size if found[3] == "*" else int(found[3]))
                try:
                    self._read(answer["Body"], end - start, stopped, take, left)
                except breaks() as error:
                    if start < end:
                        _pause_or_raise(left, error, window)
                        continue
            return
        raise AssertionError

    def _read(self, body: Any, size: int, stopped: threading.Event, put: Callable[[bytes], object], left: int) -> None:
        """Read the content of a response, which must have ``size`` bytes.

        :param left: attempts that are left.
        """
        by_others = ATTEMPTS - 1 - left < _COMPARED_ATTEMPTS
        with body as raw, self._watch.over(size, getattr(raw, "shutdown", None), by_others=by_others) as response:
            while response.got < size and not stopped.is_set():
                block = body.read(min(BLOCK, size - response.got))
                if response.has_crawled:
                    return  # over TLS, what is read after the end is not content
                if not block:
                    raise EOFError("the storage sent fewer bytes than it announced")
                response.got += len(block)
                put(block)
            # The client compares length and checksum when it has seen the end.
            if response.got == size and body.read(1):
                raise OSError("the storage sent more bytes than it announced")

    # --- several at a time ----------------------------------------------------------------------------------------

    def _ranges(self, entry: Entry, window: Window) -> Iterator[bytes]:
        stopped = threading.Event()
        todo: queue.SimpleQueue[tuple[Callable[[Callable[[Any], object]], object], queue.SimpleQueue[Any]] | None]
        todo = queue.SimpleQueue()
        waiting: list[queue.SimpleQueue[Any]] = []

        def work() -> None:
            while (found := todo.get()) and not stopped.is_set():
                run, done = found
                try:
                    run(done.put)
                    done.put(None)
                except BaseException as error:
                    done.put(error)

        def request(run: Callable[[Callable[[Any], object]], object]) -> queue.SimpleQueue[Any]:
            done: queue.SimpleQueue[Any] = queue.SimpleQueue()
            todo.put((run, done))
            return done

        def next_range() -> None:
            start = next(starts, None)
            if start is not None:
                end = min(start + RANGE, entry.size)
                waiting.append(request(lambda put: self._range(entry, start, end, window, stopped, put)))

        starts = iter(range(0, entry.size, RANGE))
        at_a_time = min(window.pieces(RANGE), -(-entry.size // RANGE))
        is_compared = entry.checksum_type != checksums.COMPOSITE and checksums.can_compare()
        head = request(lambda put: put(self._checksum(entry))) if is_compared else None
        workers = at_a_time + bool(head)
        try:
            for _ in range(workers):
                threads.begin(threading.Thread(target=work, name="xethub-range", daemon=True))
            for _ in range(at_a_time):
                next_range()
            checksum: checksums.Checksum | None = None
            while waiting:
                for block in iter(partial(_taken, waiting[0]), None):
                    if head:
                        checksum, head = _taken(head), None
                    if checksum:
                        checksum.update(block)
                    yield block
                    del block  # not in memory while the next one is awaited
                waiting.pop(0)
                next_range()
            if checksum and not checksum.is_met():
                damaged(checksum.name)
        finally:
            stopped.set()
            for _ in range(workers):
                todo.put(None)


def _taken(done: queue.SimpleQueue[Any]) -> Any:
    found = done.get()
    if isinstance(found, BaseException):
        raise found
    return found


def _etag(entry: Entry) -> str | None:
    return next((each.removeprefix(_ETAG) for each in entry.version if each.startswith(_ETAG)), None)


def _pause_or_raise(left: int, error: Exception, window: Window) -> None:
    if not left:
        raise OSError(f"the response broke off {ATTEMPTS} times ({_named(error)})") from None
    if isinstance(error, Crawl):
        window.narrow()
    time.sleep(_PAUSE)


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, Crawl) else type(error).__name__


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
        damaged("MD5")
