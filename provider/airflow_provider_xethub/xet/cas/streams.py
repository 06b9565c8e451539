"""Streams out of CAS, of which each error is told. Who receives them verifies them: the client does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetCancelledError, XetIntegrityError
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.cas import errors as cas_errors
from airflow_provider_xethub.xet.cas import session as cas

if TYPE_CHECKING:
    from hf_xet import XetDownloadStreamGroup

log = logging.getLogger(__name__)

RANGE = 16 << 20
"""Bytes of a stream that are asked for at a time. Asked for all of a file, the client hands out pieces of a whole xorb,
64 MB, and holds several: 270 MB for one stream instead of 90."""

ASKED = 10
"""How often what is missing of a stream that ended early is asked for: of a hundred that fail, 7 (after a 401) to 21
(after a 404) end as if they were complete, or say only that nothing more comes, because the client closes the stream
before it notes the error."""

PAUSE = 0.02
"""Seconds before it is asked for again."""


def pieces(
    group: XetDownloadStreamGroup, file: tuple[str, int], start: int, end: int | None, stopped: threading.Event
) -> Iterator[bytes]:
    """Yield a range of a file. A stream that ends early is asked for the rest, so that its error is not lost.

    :param file: Xet hash and size in bytes.
    :param end: the first byte that is not wanted; ``None`` for all that there is, should it be more than ``size``.
    :param stopped: set, it ends the stream as if it were complete, at any byte.
    :raises Exception: what the client raises; :func:`airflow_provider_xethub.xet.cas.session.errors` knows it.
    """
    from hf_xet import XetFileInfo

    last = file[1] if end is None else end
    for left in reversed(range(ASKED)):
        try:
            for piece in group.download_stream(XetFileInfo(*file), start, end):
                start += len(piece)
                yield piece
                if stopped.is_set():
                    return
        except (OSError, RuntimeError) as error:
            if not left or not cas_errors.is_lost(error):
                raise
        # Asked again at once, the client often runs the same race to the same end.
        if start >= last or stopped.wait(PAUSE):
            return


@dataclass
class Received:
    """The report of streams that come in, which the client does not make."""

    total_bytes_completed: int = 0


def fetch(
    access: cas.CasAccess,
    files: Sequence[tuple[str, int]],
    receive: Callable[[int, Iterator[bytes]], None],
    paths: Sequence[str] = (),
) -> int:
    """Fetch files as streams, several at the same time.

    :param files: Xet hash and size in bytes of each.
    :param receive: takes the number of a file and its pieces, in order. It must verify them: the client does not, and
        its streams can end early without an error. What it finds damaged is fetched once more.
    :param paths: of the files in the repository, for messages.
    :returns: bytes received.
    :raises XetHubError: what ``receive`` has not taken in full may be anything.
    """
    sizes = [size for _, size in files]
    about = f"the download of {len(files)} file(s) from {access.token.repo}"
    stopped = threading.Event()
    report = Received()
    counting = threading.Lock()

    def arriving(number: int, group: XetDownloadStreamGroup) -> Iterator[bytes]:
        size = sizes[number]
        about_it = f"the download of {paths[number]} ({size} bytes) from {access.token.repo}" if paths else about
        with cas.errors(access, about_it, upload=False):
            for start in range(0, size, RANGE):
                # The last one has no end: what is longer than it says is noticed.
                end = start + RANGE if start + RANGE < size else None
                missing = (end or size) - start
                for piece in pieces(group, files[number], start, end, stopped):
                    with counting:
                        report.total_bytes_completed += len(piece)
                    missing -= len(piece)
                    yield piece
                # A stream that is aborted ends as if it were complete.
                if stopped.is_set():
                    raise XetCancelledError(f"{about} was stopped from outside.")
                if missing > 0 and (reason := cas.ended_early(access, files[number][0], about_it)):
                    raise reason

    with cas.errors(access, about, upload=False):
        # No smaller buffers: limited to 64 MB, two large streams wait for each other for ever.
        session = cas.session(access, cas.settings(len(files), sum(sizes)))
        # One for all: to begin and end a group takes as long as ten small files.
        group = cas.begin(access, session.new_download_stream_group)

        def receive_from(number: int, group: XetDownloadStreamGroup) -> None:
            stream = arriving(number, group)
            # The next range is on its way while one is taken.
            receive(number, workers.read_ahead(stream, stopped) if sizes[number] > RANGE else stream)

        def take(number: int) -> None:
            try:
                receive_from(number, group)
            except XetIntegrityError as error:
                if stopped.is_set():
                    raise
                log.warning("%s Fetching it once more.", error)
                # Nothing of the first try: its group may hold what was damaged.
                receive_from(number, cas.begin(access, session.new_download_stream_group))

        # To abort its group does not wake a stream that waits for data.
        with cas.aborting(session.sigint_abort, stopped):
            meter = progress.Meter(about, sum(sizes), lambda: report, access.stall_timeout)
            todo = cas.batches(sizes)
            workers.interruptible(lambda: [workers.each(take, some, most, stopped) for some, most in todo], meter)
    return report.total_bytes_completed
