"""Objects in S3 that are written in parts, several at a time, in bounded memory."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_xethub.xet.files.s3 import checksums
from airflow_provider_xethub.xet.files.s3.errors import translated
from airflow_provider_xethub.xet.files.s3.window import Window
from airflow_provider_xethub.xet.message_text import duration
from airflow_provider_xethub.xet.process import threads

AT_ONCE = 16 << 20
"""Bytes of the largest object that is written with one request: one piece of a stream of CAS, sent as it is."""

PART = 8 << 20
"""Bytes of one part. Pieces are copied into buffers of this size, which are used again: pieces of 16 MiB that are sent
as they are leave gaps in the heap, and an object of 4 GiB then took up to 427 MB."""

_MOST_PARTS = 9000  # S3 allows 10,000
_QUICK_SECONDS = 10.0
_POLL_SECONDS = 0.05
_JOIN_SECONDS = 5.0


class Parts:
    """An object that is being written; visible, complete, when it is finished.

    :param where: bucket and key.
    :param size: bytes of the object.
    :param window: how many parts may be sent at the same time. Another one may be in memory meanwhile.
    """

    def __init__(
        self, client: Any, where: Mapping[str, str], size: int, metadata: Mapping[str, str], window: Window
    ) -> None:
        self._client = client
        self._where = where
        self._metadata = dict(metadata)
        self._window = window
        self._part = max(PART, -(-size // _MOST_PARTS))
        self._in_parts = size > max(AT_ONCE, self._part)
        self._idle = threading.Semaphore(window.pieces(self._part))
        self._is_quick = False
        self._pieces: list[bytes] = []
        # Buffers are used again: the pages of a new one cost as much as to fill it.
        self._buffer = bytearray()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._held = 0
        self._count = 0
        self._done: dict[int, str] = {}
        self._failure: list[BaseException] = []
        self._todo: queue.SimpleQueue[tuple[int, bytes | bytearray] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._moved = time.monotonic()
        self._ended = threading.Event()
        self.upload_id: str | None = None

    def write(self, data: bytes) -> None:
        """Write the next bytes, and send what fills a part.

        :raises OSError: a part could not be sent.
        """
        if not self._in_parts:
            self._pieces.append(data)
            return
        if not self._held and len(data) == self._part:
            self._send(data)
            return
        view = memoryview(data)
        while len(view):
            piece = view[: self._part - self._held]
            if not self._held:
                self._buffer = self._empty()
            self._buffer[self._held : self._held + len(piece)] = piece
            self._held += len(piece)
            view = view[len(piece) :]
            if self._held == self._part:
                self._send(self._filled())

    def finish(self) -> None:
        """Complete the object under its final name."""
        if not self._in_parts:
            content = b"".join(self._pieces)  # the piece itself if there is only one
            with translated(), self._window.turn(self._ended):
                self._client.put_object(**self._where, Metadata=self._metadata, Body=content, **self._checksum(content))
            self._ended.set()
            return
        if self._held:
            self._send(self._filled())
        self._end_threads()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                self._check()
        self._check()
        # Without checksums: the storage refuses those of an upload that was not started with any. It has compared the
        # one of each part.
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
        self._end_threads()
        # A part that arrives after the upload was aborted would stay. The next attempt aborts it again.
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.upload_id:
            with suppress(Exception):  # its parts are not visible
                self._client.abort_multipart_upload(**self._where, UploadId=self.upload_id)

    def _filled(self) -> bytearray:
        filled, self._buffer = self._buffer, bytearray()
        del filled[self._held :]
        self._held = 0
        return filled

    def _empty(self) -> bytearray:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return bytearray(self._part)

    def _send(self, content: bytes | bytearray) -> None:
        if not self.upload_id:
            with translated():
                started = self._client.create_multipart_upload(**self._where, Metadata=self._metadata)
            self.upload_id = started["UploadId"]
        if not self._in_flight():
            self._moved = time.monotonic()
        # A part is handed over only when there is a place for it, so that no more are in memory than the window has.
        while not self._idle.acquire(timeout=_POLL_SECONDS):
            self._check()
        self._check()
        # Over a slow link, one part at a time: several together would store nothing for too long.
        if not self._threads or (self._is_quick and len(self._threads) <= self._in_flight()):
            self._threads.append(threading.Thread(target=self._work, name="xethub-part", daemon=True))
            threads.begin(self._threads[-1])
        self._count += 1
        self._todo.put((self._count, content))

    def _in_flight(self) -> int:
        return self._count - len(self._done)

    def _end_threads(self) -> None:
        for _ in self._threads:
            self._todo.put(None)

    def _check(self) -> None:
        if self._failure:
            raise self._failure[0]
        waited = time.monotonic() - self._moved
        if self._in_flight() and waited > self._window.longest_wait:
            raise TimeoutError(f"the storage has stored nothing of it for {duration(waited)}. Let the task retry.")

    def _checksum(self, content: bytes | bytearray) -> dict[str, str]:
        """Return the checksum that the storage compares, unless the connection wants none.

        Over TLS, the client would compute it while it sends, in pieces of 16 KiB, and copy the rest of a MiB for each.
        """
        wants = getattr(self._client.meta.config, "request_checksum_calculation", "when_supported")
        return {"ChecksumCRC32": checksums.of_part(content)} if wants == "when_supported" else {}

    def _work(self) -> None:
        while found := self._todo.get():
            number, content = found
            began = time.monotonic()
            try:
                if not (self._ended.is_set() or self._failure):
                    with translated(), self._window.turn(self._ended):
                        if self._ended.is_set():
                            continue  # the object was discarded while this part waited for its turn
                        answer = self._client.upload_part(
                            **self._where,
                            UploadId=self.upload_id,
                            PartNumber=number,
                            Body=content,
                            **self._checksum(content),
                        )
                    self._done[number] = answer["ETag"]
                    self._moved = time.monotonic()
                    self._is_quick = self._moved - began < _QUICK_SECONDS
            except BaseException as error:
                self._failure.append(error)
            finally:
                if isinstance(content, bytearray) and len(content) == self._part:
                    self._free.put(content)
                del found, content
                self._idle.release()
