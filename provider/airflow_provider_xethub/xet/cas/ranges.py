"""Ranges of files in CAS, read through one stream group that is kept: to begin one takes as long as ten small reads.

Ranges are not verified: the digest that the Hub knows is that of the whole file. Only their length is checked, because
the client's streams can end early without an error.
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
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.cas import session as cas
from airflow_provider_xethub.xet.cas import streams as cas_streams
from airflow_provider_xethub.xet.message_text import capitalized

if TYPE_CHECKING:
    from hf_xet import XetDownloadStreamGroup, XetSession

log = logging.getLogger(__name__)

AT_A_TIME = 4
"""Ranges that are read at the same time: together, 64 MB, they fit into the client's buffer."""

TRIES = 3
"""One more for a token that is not accepted, and one for what the end of another thread's read cut off."""

_USUAL_SIZE = 256 << 20


@dataclass(frozen=True)
class _Group:
    """A group of streams that has begun, in the process that began it."""

    access: cas.CasAccess
    session: XetSession
    streams: XetDownloadStreamGroup
    process: int


class Ranges:
    """Reads ranges of the files of one repository, from any thread.

    :param access: gives what is needed to reach CAS, with a fresh token; called with the token that CAS did not accept,
        it has to be with another.
    """

    def __init__(self, access: Callable[[cas.CasAccess | None], cas.CasAccess]) -> None:
        self._access = access
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(AT_A_TIME)
        self._group: _Group | None = None

    def read(self, path: str, xet_hash: str, size: int, start: int, end: int) -> bytes:
        """Return the bytes of a file from ``start`` to ``end``, not verified.

        A token that is not accepted is replaced; a read that stands still, or ends early, is tried once more.

        :param path: for messages.
        :param size: that of the file, in bytes.
        :param end: the first byte that is not wanted; at most ``size``.
        :raises XetHubError: see :mod:`airflow_provider_xethub.exceptions`.
        """
        pieces = [
            self._piece(path, xet_hash, size, at, min(at + cas_streams.RANGE, end))
            for at in range(start, end, cas_streams.RANGE)
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def forget(self) -> None:
        """Begin anew with the next read: what the group holds may be damaged."""
        self._group = None

    def _piece(self, path: str, xet_hash: str, size: int, start: int, end: int) -> bytes:
        refused: cas.CasAccess | None = None
        stalled = False
        for left in reversed(range(TRIES)):
            group = self._begun(refused)
            try:
                with self._places:
                    return _read(group, path, (xet_hash, size), start, end)
            except XetUnauthorizedError as error:
                if not left or error.service != "CAS" or group.access.refresh is None:
                    raise
                log.warning("CAS did not accept the token for %s; trying once more with a new one.", path)
                refused = group.access
            except (XetStalledError, XetIntegrityError, XetCancelledError) as error:
                if not left or stalled:
                    raise
                log.warning("%s Trying once more.", error)
                stalled = isinstance(error, XetStalledError)  # twice takes long enough
            self._drop(group)
        raise AssertionError("unreachable")

    def _begun(self, refused: cas.CasAccess | None) -> _Group:
        with self._turn:
            group = self._group
            if group is None or group.process != os.getpid():
                access = self._access(refused)
                about = f"the beginning of reads from {access.token.repo}"
                with cas.errors(access, about, upload=False):
                    session = cas.session(access, cas.settings(1, _USUAL_SIZE))
                    streams = cas.begin(access, session.new_download_stream_group)
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
        finally:
            over.set()

    with cas.errors(access, about, upload=False):
        try:
            workers.interruptible(work, progress.Meter(about, end - start, lambda: received, access.stall_timeout))
        except BaseException:
            # Only this wakes a stream that waits for data. It ends the reads of other threads too: they try again.
            stopped.set()
            if not over.is_set():
                group.session.sigint_abort()
            raise
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(content) != end - start:
        if reason := cas.ended_early(access, file[0], about):
            raise reason
        raise XetIntegrityError(f"{capitalized(about)} ended early, after {len(content)} bytes.")
    return content
