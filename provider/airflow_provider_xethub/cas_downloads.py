"""Downloads from CAS, to temporary paths or as streams. Their content is verified elsewhere: the client does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_xethub import cas, progress, workers
from airflow_provider_xethub.exceptions import XetCancelledError, XetIntegrityError

if TYPE_CHECKING:
    from hf_xet import XetSession

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: Xet hash, size in bytes, and the temporary path to write it to."""

    xet_hash: str
    size: int
    path: Path


def fetch(access: cas.CasAccess, files: Sequence[Wanted]) -> int:
    """Fetch files to their temporary paths. Their content is *not* verified: the client checks only lengths.

    :returns: bytes received over the network.
    :raises XetHubError: the temporary paths may hold anything.
    """
    about = f"the download of {len(files)} file(s) from {access.token.repo}"
    total = sum(file.size for file in files)
    with cas.errors(access, about, upload=False):
        session = cas.session(access, cas.settings(len(files), total))
        from hf_xet import XetFileInfo

        group = cas.begin(access, session.new_file_download_group)

        def work() -> int:
            for file in files:
                group.start_download_file(XetFileInfo(file.xet_hash, file.size), str(file.path))
            return int(group.wait_to_finish().progress.total_transfer_bytes_completed)

        with cas.aborting(group.abort):
            received = workers.interruptible(work, progress.Meter(about, total, group.progress, access.stall_timeout))
    for file in files:
        size = file.path.stat().st_size
        if size != file.size:
            raise XetIntegrityError(f"{about} ended early: {size} of {file.size} bytes arrived. Nothing was kept.")
    return received


@dataclass
class _Received:
    """The report of streams that come in, which the client does not make."""

    total_bytes_completed: int = 0


def fetch_streams(
    access: cas.CasAccess, files: Sequence[tuple[str, int]], receive: Callable[[int, Iterator[bytes]], None]
) -> int:
    """Fetch files as streams, several at the same time.

    :param files: Xet hash and size in bytes of each.
    :param receive: takes the number of a file and its pieces, in order. It must verify them: the client does not, and
        its streams can end early without an error. What it finds damaged is fetched once more.
    :returns: bytes received.
    :raises XetHubError: what ``receive`` has not taken in full may be anything.
    """
    sizes = [size for _, size in files]
    about = f"the download of {len(files)} file(s) from {access.token.repo}"
    stopped = threading.Event()
    report = _Received()
    counting = threading.Lock()

    def pieces(number: int, session: XetSession) -> Iterator[bytes]:
        from hf_xet import XetFileInfo

        with cas.errors(access, about, upload=False):
            # After an error in one of its streams, a group is of no use any more.
            group = cas.begin(access, session.new_download_stream_group)
            for piece in group.download_stream(XetFileInfo(*files[number])):
                with counting:
                    report.total_bytes_completed += len(piece)
                yield piece
                if stopped.is_set():
                    break
            # A stream that is aborted ends as if it were complete.
            if stopped.is_set():
                raise XetCancelledError(f"{about} was stopped from outside.")

    with cas.errors(access, about, upload=False):
        # No smaller buffers: limited to 64 MB, two large streams wait for each other for ever.
        session = cas.session(access, cas.settings(len(files), sum(sizes)))

        def take(number: int) -> None:
            try:
                receive(number, pieces(number, session))
            except XetIntegrityError as error:
                if stopped.is_set():
                    raise
                log.warning("%s Fetching it once more.", error)
                receive(number, pieces(number, session))

        # To abort its group does not wake a stream that waits for data.
        with cas.aborting(session.sigint_abort, stopped):
            meter = progress.Meter(about, sum(sizes), lambda: report, access.stall_timeout)
            todo = cas.batches(sizes)
            workers.interruptible(lambda: [workers.each(take, some, most, stopped) for some, most in todo], meter)
    return report.total_bytes_completed
