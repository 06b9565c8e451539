"""Streams from CAS, with every error of the client. The caller verifies them: the client does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetCancelledError, XetIntegrityError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import errors as cas_errors
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.process import threads

if TYPE_CHECKING:
    from hf_xet import XetDownloadStreamGroup

log = logging.getLogger(__name__)

RANGE = 16 << 20
"""Bytes of a stream that one request asks for. When asked for a whole file, the client returns pieces of a whole xorb,
64 MB, and holds several of them: 270 MB for one stream instead of 90."""

MAX_ATTEMPTS = 10
"""Requests for the rest of a stream that ended early. Of a hundred streams that fail, 7 (after a 401) to 21 (after a
404) end as if they were complete, or report only that no more data comes: the client closes the stream before it
records the error."""

RETRY_PAUSE = 0.02
"""Seconds before the rest is requested again."""


def pieces(
    group: XetDownloadStreamGroup, file: tuple[str, int], start: int, end: int | None, stopped: threading.Event
) -> Iterator[bytes]:
    """Yield a range of a file. When a stream ends early, request the rest, so that its error is not lost.

    :param file: Xet hash and size in bytes.
    :param end: the first byte after the range; ``None`` for all that there is, even if it is more than ``size``.
    :param stopped: when set, the stream ends at any byte, as if it were complete.
    :raises Exception: what the client raises; see :func:`~airflow_provider_xethub.xet.cas.session.translated_errors`.
    """
    from hf_xet import XetFileInfo

    last = file[1] if end is None else end
    for left in reversed(range(MAX_ATTEMPTS)):
        try:
            for piece in group.download_stream(XetFileInfo(*file), start, end):
                start += len(piece)
                yield piece
                if stopped.is_set():
                    return
        except (OSError, RuntimeError) as error:
            if not left or not cas_errors.is_lost(error):
                raise
        # Without a pause, the client often loses the same race again.
        if start >= last or stopped.wait(RETRY_PAUSE):
            return


@dataclass
class Received:
    """The report on streams for :class:`progress.Meter`, which the client does not provide."""

    total_bytes_completed: int = 0


def fetch(
    access: cas_session.CasAccess,
    files: Sequence[tuple[str, int]],
    consume: Callable[[int, Iterator[bytes]], None],
    paths: Sequence[str] = (),
) -> int:
    """Fetch files as streams, several at the same time.

    :param files: Xet hash and size in bytes of each.
    :param consume: takes the number of a file and its content in pieces. It must verify the content: the client does
        not, and its streams can end early without an error. A damaged file is fetched once more.
    :param paths: of the files in the repository, for messages.
    :returns: bytes received.
    :raises XetHubError: the content of files that ``consume`` has not accepted is undefined.
    """
    sizes = [size for _, size in files]
    about = f"the download of {counted(len(files), 'file')} from {access.token.repo}"
    stopped = threading.Event()
    report = Received()
    counting = threading.Lock()

    def arriving(number: int, group: XetDownloadStreamGroup) -> Iterator[bytes]:
        size = sizes[number]
        about_it = f"the download of {paths[number]} ({size} bytes) from {access.token.repo}" if paths else about
        with cas_session.translated_errors(access, about_it, upload=False):
            for start in range(0, size, RANGE):
                # The last range is open, so that a file longer than its record is noticed.
                end = start + RANGE if start + RANGE < size else None
                missing = (end or size) - start
                for piece in pieces(group, files[number], start, end, stopped):
                    with counting:
                        report.total_bytes_completed += len(piece)
                    missing -= len(piece)
                    yield piece
                # An aborted stream ends as if it were complete.
                if stopped.is_set():
                    raise XetCancelledError(f"{about} was stopped from outside.")
                if missing > 0 and (reason := cas_session.early_end_reason(access, files[number][0], about_it)):
                    raise reason

    with cas_session.translated_errors(access, about, upload=False):
        # Buffers must not be smaller: limited to 64 MB, two large streams block each other forever.
        session = cas_session.start(access, cas_session.settings(len(files), sum(sizes)))
        # One group for all: beginning and ending a group takes as long as ten small files.
        group = cas_session.begin(access, session.new_download_stream_group)

        def consume_from(number: int, group: XetDownloadStreamGroup) -> None:
            stream = arriving(number, group)
            # The next range is in flight while one is consumed.
            consume(number, threads.read_ahead(stream, stopped) if sizes[number] > RANGE else stream)

        def take(number: int) -> None:
            try:
                consume_from(number, group)
            except XetIntegrityError as error:
                if stopped.is_set():
                    raise
                log.warning("%s Fetching it again.", error)
                # A new group: the first may hold the damaged data.
                consume_from(number, cas_session.begin(access, session.new_download_stream_group))

        # Aborting its group does not wake a stream that waits for data.
        with cas_session.abort_on_failure(session.sigint_abort, stopped):
            meter = progress.Meter(about, sum(sizes), lambda: report, access.stall_timeout)
            todo = cas_session.batches(sizes)
            threads.interruptible(lambda: [threads.each(take, some, most, stopped) for some, most in todo], meter)
    return report.total_bytes_completed
