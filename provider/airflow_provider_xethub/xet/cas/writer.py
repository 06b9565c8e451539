"""A stream of unknown length into CAS, written piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_xethub.exceptions import XetIntegrityError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas import uploads as cas_uploads
from airflow_provider_xethub.xet.cas.uploads import Uploaded
from airflow_provider_xethub.xet.message_text import capitalized
from airflow_provider_xethub.xet.process import threads

T = TypeVar("T")

_USUAL_SIZE = 1 << 30


class CasWriter:
    """One file that is written to CAS; only what CAS has not accepted yet is in memory.

    Time between two calls does not count towards the stall timeout. Before :meth:`finish`, the content belongs to no
    file.

    :param access: for writing; with a refresh route, the client fetches new tokens for as long as it takes.
    :param path: for messages.
    """

    def __init__(self, access: cas_session.CasAccess, path: str) -> None:
        self._access = access
        self._about = f"the upload of {path} to {access.token.repo}"
        self._stopped = threading.Event()
        self._written = 0
        with cas_session.translated_errors(access, self._about, upload=True):
            session = cas_session.start(access, cas_session.settings(1, _USUAL_SIZE, xorbs=access.xorbs_at_once()))
            self._commit = cas_session.begin(access, session.new_upload_commit)
            self._stream = self._commit.start_upload_stream()
        self._pace = cas_uploads.Pace(self._commit, self._stopped, cas_uploads.ONE, access.memory_ceiling())

    def write(self, block: bytes) -> None:
        """Send the next bytes, as fast as CAS accepts them.

        :raises XetHubError: the upload failed and cannot continue.
        """

        def work() -> None:
            for start in range(0, len(block), cas_uploads.BLOCK):
                piece = block[start : start + cas_uploads.BLOCK]
                self._pace.wait(len(piece))
                self._stream.write(piece)

        self._written += len(block)
        self._do(work)

    def finish(self) -> Uploaded:
        """Wait until the whole file is in CAS.

        :raises XetHubError: the upload failed.
        """

        def work() -> Uploaded:
            info = self._stream.finish().xet_info
            self._commit.wait_to_finish()
            return Uploaded(info.hash, info.sha256, info.file_size)

        uploaded = self._do(work)
        if uploaded.size != self._written:
            raise XetIntegrityError(
                f"{capitalized(self._about)} stored {uploaded.size} of {self._written} bytes. Let the task retry."
            )
        return uploaded

    def abort(self) -> None:
        """Stop the upload; the file cannot be published."""
        self._stopped.set()
        self._commit.abort()

    def _do(self, work: Callable[[], T]) -> T:
        with (
            cas_session.translated_errors(self._access, self._about, upload=True),
            cas_session.abort_on_failure(self._commit.abort, self._stopped),
        ):
            meter = progress.Meter(self._about, self._written, self._commit.progress, self._access.stall_timeout)
            return threads.interruptible(work, meter)
