"""Ranges of files in CAS, read through one stream group that stays open: a new one costs as much as ten small reads.

Ranges are not verified: the Hub only has the digest of the whole file. Only their length is checked, because streams of
the client can end early without an error.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import (
    XetCancelledError,
    XetIntegrityError,
    XetStalledError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas import streams as cas_streams
from airflow_provider_xethub.xet.message_text import capitalized
from airflow_provider_xethub.xet.process import threads

if TYPE_CHECKING:
    from hf_xet import XetDownloadStreamGroup, XetSession

log = logging.getLogger(__name__)

AT_A_TIME = 4
"""Ranges that are read at the same time: together, with 64 MB, they fit into the buffer of the client."""

TRIES = 3
"""Attempts: one more after a rejected token, and one after a read that the end of another thread's read cut off."""

_USUAL_SIZE = 256 << 20


@dataclass(frozen=True)
class _Group:
    """An open group of streams, and the process that opened it."""

    access: cas_session.CasAccess
    session: XetSession
    streams: XetDownloadStreamGroup
    process: int


class Ranges:
    """Reads ranges of the files of one repository, from any thread.

    :param access: returns what is needed to reach CAS, with a fresh token; called with the access that CAS rejected, it
        must return one with another token.
    """

    def __init__(self, access: Callable[[cas_session.CasAccess | None], cas_session.CasAccess]) -> None:
        self._access = access
        self._turn = threading.Lock()
        self._slots = threading.BoundedSemaphore(AT_A_TIME)
        self._group: _Group | None = None

    def read(self, path: str, xet_hash: str, size: int, start: int, end: int) -> bytes:
        """Return the bytes of a file from ``start`` to ``end``, not verified.

        A rejected token is replaced; a read that makes no progress or ends early is retried once.

        :param path: for messages.
        :param size: that of the file, in bytes.
        :param end: the first byte after the range; at most ``size``.
        :raises XetHubError: see :mod:`airflow_provider_xethub.exceptions`.
        """
        pieces = [
            self._piece(path, xet_hash, size, at, min(at + cas_streams.RANGE, end))
            for at in range(start, end, cas_streams.RANGE)
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def forget(self) -> None:
        """Open a new group for the next read: the present one may hold damaged data."""
        self._group = None

    def _piece(self, path: str, xet_hash: str, size: int, start: int, end: int) -> bytes:
        refused: cas_session.CasAccess | None = None
        stalled = False
        for attempts_left in reversed(range(TRIES)):
            group = self._current(refused)
            try:
                return self._once(group, path, (xet_hash, size), start, end)
            except XetUnauthorizedError as error:
                if not attempts_left or error.service != "CAS" or group.access.refresh is None:
                    raise
                log.warning("CAS rejected the token for %s; retrying with a new one.", path)
                refused = group.access
            except (XetStalledError, XetIntegrityError, XetCancelledError) as error:
                if not attempts_left or stalled:
                    raise
                log.warning("%s Retrying.", error)
                stalled = isinstance(error, XetStalledError)  # a second timeout would take too long
        raise AssertionError("unreachable")

    def _once(self, group: _Group, path: str, file: tuple[str, int], start: int, end: int) -> bytes:
        try:
            with self._slots:
                return _read(group, path, file, start, end)
        except BaseException:
            # Its session may have been aborted. Then the client ends every later read with a KeyboardInterrupt.
            self._drop(group)
            raise

    def _current(self, refused: cas_session.CasAccess | None) -> _Group:
        with self._turn:
            group = self._group
            if group is None or group.process != os.getpid():
                access = self._access(refused)
                about = f"the start of reads from {access.token.repo}"
                with cas_session.translated_errors(access, about, upload=False):
                    session = cas_session.start(access, cas_session.settings(1, _USUAL_SIZE))
                    streams = cas_session.begin(access, session.new_download_stream_group)
                group = self._group = _Group(access, session, streams, os.getpid())
            return group

    def _drop(self, group: _Group) -> None:
        with self._turn:
            if self._group is group:
                self._group = None


def _read(group: _Group, path: str, file: tuple[str, int], start: int, end: int) -> bytes:
    access = group.access
    about = f"the reading of bytes {start} to {end} of {path} from {access.token.repo}"
    received = cas_streams.Received()
    pieces: list[bytes] = []
    over, stopped = threading.Event(), threading.Event()

    def work() -> None:
        try:
            for piece in cas_streams.pieces(group.streams, file, start, end, stopped):
                pieces.append(piece)
                received.total_bytes_completed += len(piece)
        except KeyboardInterrupt:
            # Nobody interrupts this thread: the client says so of a session that another thread has aborted.
            raise RuntimeError("Operation cancelled: another thread has aborted the session") from None
        finally:
            over.set()

    with cas_session.translated_errors(access, about, upload=False):
        try:
            threads.interruptible(work, progress.Meter(about, end - start, lambda: received, access.stall_timeout))
        except BaseException:
            # Only this wakes a stream that waits for data. It also ends the reads of other threads, which retry.
            stopped.set()
            if not over.is_set():
                group.session.sigint_abort()
            raise
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(content) != end - start:
        if reason := cas_session.early_end_reason(access, file[0], about):
            raise reason
        raise XetIntegrityError(f"{capitalized(about)} ended early, after {len(content)} bytes. Let the task retry.")
    return content
