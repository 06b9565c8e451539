"""A stream into CAS that is written to piece by piece, of which nobody knows yet how long it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_xethub.exceptions import XetIntegrityError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.cas import session as cas
from airflow_provider_xethub.xet.cas import uploads as cas_uploads
from airflow_provider_xethub.xet.cas.uploads import Uploaded

T = TypeVar("T")

_USUAL_SIZE = 1 << 30


class CasWriter:
    """One file on its way into CAS; in memory is only what CAS has not taken yet.

    Time between two calls does not count as standing still. What is in CAS before :meth:`finish` belongs to no file.

    :param access: for writing; with a refresh route, the client gets new tokens by itself for as long as it takes.
    :param path: for messages.
    """

    def __init__(self, access: cas.CasAccess, path: str) -> None:
        self._access = access
        self._about = f"the upload of {path} to {access.token.repo}"
        self._stopped = threading.Event()
        self._written = 0
        with cas.errors(access, self._about, upload=True):
            session = cas.session(access, cas.settings(1, _USUAL_SIZE))
            self._commit = cas.begin(access, session.new_upload_commit)
            self._stream = self._commit.start_upload_stream()
        self._pace = cas_uploads.Pace(self._commit, self._stopped, cas_uploads.ONE)

    def write(self, block: bytes) -> None:
        """Send the next bytes, as fast as CAS takes them.

        :raises XetHubError: the upload failed, and cannot go on.
        """

        def work() -> None:
            for start in range(0, len(block), cas_uploads.BLOCK):
                piece = block[start : start + cas_uploads.BLOCK]
                self._pace.before(len(piece))
                self._stream.write(piece)

        self._written += len(block)
        self._do(work)

    def finish(self) -> Uploaded:
        """Wait until all of it is in CAS.

        :raises XetHubError: it is not.
        """

        def work() -> Uploaded:
            info = self._stream.finish().xet_info
            self._commit.wait_to_finish()
            return Uploaded(info.hash, info.sha256, info.file_size)

        uploaded = self._do(work)
        if uploaded.size != self._written:
            raise XetIntegrityError(f"{self._about} took {uploaded.size} of {self._written} bytes. Let the task retry.")
        return uploaded

    def abort(self) -> None:
        """Stop; nothing can be published of it."""
        self._stopped.set()
        self._commit.abort()

    def _do(self, work: Callable[[], T]) -> T:
        with cas.errors(self._access, self._about, upload=True), cas.aborting(self._commit.abort, self._stopped):
            meter = progress.Meter(self._about, self._written, self._commit.progress, self._access.stall_timeout)
            return workers.interruptible(work, meter)
