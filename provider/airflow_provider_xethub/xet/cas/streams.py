"""Streams from CAS, with every error of the client. The caller verifies them: the client does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetCancelledError, XetIntegrityError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import crawl
from airflow_provider_xethub.xet.cas import errors as cas_errors
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas.slowdown import Slowdown, at_most, settle
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.process import threads

if TYPE_CHECKING:
    from hf_xet import XetDownloadStreamGroup, XetSession

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


@dataclass(frozen=True)
class _Streams:
    """A session of the client, its group of streams, and how many of them may wait for data at the same time."""

    session: XetSession
    group: XetDownloadStreamGroup
    turns: AbstractContextManager[object]

    @classmethod
    def start(cls, access: cas_session.CasAccess, config: Mapping[str, Any], concurrency: int | None) -> _Streams:
        session = cas_session.start(access, at_most(config, concurrency))
        # One group for all: beginning and ending a group takes as long as ten small files.
        group = cas_session.begin(access, session.new_download_stream_group)
        most = concurrency or access.limits.concurrency
        return cls(session, group, threading.BoundedSemaphore(most) if most else nullcontext())


def fetch(
    access: cas_session.CasAccess,
    files: Sequence[tuple[str, int]],
    consume: Callable[[int, Iterator[bytes]], None],
    paths: Sequence[str] = (),
    begun: list[int] | None = None,
    slowdown: Slowdown | None = None,
) -> int:
    """Fetch files as streams, several at the same time.

    :param files: Xet hash and size in bytes of each.
    :param consume: takes the number of a file and its content in pieces. It must verify the content: the client does
        not, and its streams can end early without an error. A damaged file is fetched once more.
    :param paths: of the files in the repository, for messages.
    :param begun: bytes at the beginning of each file that ``consume`` has already, and is not given again. Set to 0 for
        a file that is damaged.
    :param slowdown: of the transfer that this continues.
    :returns: bytes received.
    :raises XetHubError: the content of files that ``consume`` has not accepted is undefined.
    """
    sizes = [size for _, size in files]
    about = f"the download of {counted(len(files), 'file')} from {access.token.repo}"
    stopped = threading.Event()
    begun = [0] * len(files) if begun is None else begun
    already = sum(begun)
    report = Received(already)
    counting = threading.Lock()
    buffer = cas_session.STREAM_BUFFER if len(files) > 1 else cas_session.LEAST_DOWNLOAD_BUFFER
    config = cas_session.settings(len(files), sum(sizes), buffer=buffer)
    slowdown = slowdown or Slowdown(about, access, config, upload=False)
    at_network: set[int] = set()

    def arriving(number: int, group: XetDownloadStreamGroup | None = None) -> Iterator[bytes]:
        size = sizes[number]
        about_it = f"the download of {paths[number]} ({size} bytes) from {access.token.repo}" if paths else about
        with cas_session.translated_errors(access, about_it, upload=False):
            for start in range(begun[number], size, RANGE):
                # The last range is open, so that a file longer than its record is noticed.
                end = start + RANGE if start + RANGE < size else None
                missing = (end or size) - start
                is_ended = False
                while not is_ended:
                    used = current
                    try:
                        with used.turns:
                            at_network.add(number)
                            found = pieces(group or used.group, files[number], (end or size) - missing, end, stopped)
                            for piece in found:
                                at_network.discard(number)
                                with counting:
                                    report.total_bytes_completed += len(piece)
                                missing -= len(piece)
                                yield piece
                                at_network.add(number)
                    except (OSError, RuntimeError):
                        if used is current or stopped.is_set():
                            raise
                    finally:
                        at_network.discard(number)
                    # An aborted stream ends as if it were complete.
                    if stopped.is_set():
                        raise XetCancelledError(f"{about} was stopped from outside.")
                    # The rest of what another session began.
                    is_ended = used is current or missing <= 0
                    group = group if used is current else None
                if missing > 0 and (reason := cas_session.early_end_reason(access, files[number][0], about_it)):
                    raise reason

    with cas_session.translated_errors(access, about, upload=False):
        current = _Streams.start(access, config, slowdown.concurrency)

        def consume_from(number: int, group: XetDownloadStreamGroup | None = None) -> None:
            stream = arriving(number, group)
            # The next range is in flight while one is consumed. Each is a piece of 16 MiB.
            consume(number, threads.read_ahead(stream, stopped, 1) if sizes[number] > RANGE else stream)

        since, unfinished = already, set(range(len(sizes)))

        def take(number: int) -> None:
            take_verified(number)
            unfinished.discard(number)

        def take_verified(number: int) -> None:
            try:
                consume_from(number)
            except XetIntegrityError as error:
                if stopped.is_set():
                    raise
                log.warning("%s Fetching it again.", error)
                # A new group: the first may hold the damaged data.
                begun[number] = 0
                consume_from(number, cas_session.begin(access, current.session.new_download_stream_group))

        def watch(report: Received) -> None:
            nonlocal current, since
            done = report.total_bytes_completed
            waits = bool(at_network) and crawl.is_bound_by_bandwidth([sizes[number] for number in [*unfinished]])
            if slowdown.should_restart(done - since, done, sum(sizes), waits=waits):
                since = done
                crawling, current = current, _Streams.start(access, config, slowdown.concurrency)
                settle(crawling.session)

        # Aborting its group does not wake a stream that waits for data.
        with cas_session.abort_on_failure(lambda: current.session.sigint_abort(), stopped):
            meter = progress.Meter(about, sum(sizes), lambda: report, access.stall_timeout, watch)
            todo = cas_session.batches(sizes)
            threads.interruptible(lambda: [threads.each(take, some, most, stopped) for some, most in todo], meter)
    return report.total_bytes_completed - already
