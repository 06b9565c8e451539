"""Downloads from CAS to temporary files. Who receives them verifies them: the client does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetCancelledError, XetIntegrityError
from airflow_provider_xethub.xet import native_client, progress
from airflow_provider_xethub.xet import temporary_names as part_files
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.cas import session as cas

if TYPE_CHECKING:
    from hf_xet import XetFileDownload

log = logging.getLogger(__name__)


FOLLOWED = 16 << 20
"""Size in bytes from which a file is read while the client still writes it: its digest is there when its end is."""

FILES_AT_A_TIME = 8
"""Files that are waited for, read and verified at the same time: as many large ones as the client fetches at once."""

_BLOCK = 1 << 20
_LOOK_SECONDS = 0.01
_MOST_TOLD = 10

_MANY_SMALL = {"data.max_concurrent_file_downloads": 64, "client.ac_initial_download_concurrency": 32}
"""Each small file waits for two answers, and the client begins with four requests at a time: with 50 ms for each answer
400 files take 1.0 s instead of 5.5 s."""

Receive = Callable[[int, Iterator[bytes]], None]
"""Takes the number of a file and its pieces, in order, and verifies them."""


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: its path in the repository, Xet hash, size in bytes, and the temporary path it gets.

    It is written under another name beside that, which is new each time: the client follows a symbolic link, so nobody
    may know the name before the file is there. And what an aborted try still writes goes into a file of its own.
    """

    path: str
    xet_hash: str
    size: int
    part: Path


def fetch(access: cas.CasAccess, files: Sequence[Wanted], receive: Receive) -> int:
    """Fetch files to their temporary paths, and hand each over as soon as it is there in full.

    :param receive: called with what is on disk, read while it is being written. It must verify that: the client checks
        only lengths. Called once more for a file that it finds damaged, or the client does: such files are fetched once
        more, from scratch, after all others.
    :returns: bytes received over the network.
    :raises XetIntegrityError: a file arrived damaged both times. All others were handed over.
    :raises XetHubError: files that were not handed over may hold anything.
    """
    received, damaged = _fetch_once(access, files, receive)
    if not damaged:
        return received
    for error in list(damaged.values())[:_MOST_TOLD]:
        log.warning("%s Fetching it once more.", error)
    numbers = sorted(damaged)
    more, still = _fetch_once(access, [files[each] for each in numbers], lambda at, some: receive(numbers[at], some))
    if still:
        others = f" {len(still) - 1} other file(s) arrived damaged as well." if len(still) > 1 else ""
        raise XetIntegrityError(f"{still[min(still)]} It was fetched twice; let the task retry.{others}")
    return received + more


def _fetch_once(
    access: cas.CasAccess, files: Sequence[Wanted], receive: Receive
) -> tuple[int, dict[int, XetIntegrityError]]:
    """Return the bytes received, and the errors of damaged files by number; any other error ends all of it at once."""
    about = f"the download of {len(files)} file(s) from {access.token.repo}"
    total = sum(file.size for file in files)
    stopped = threading.Event()
    damaged: dict[int, XetIntegrityError] = {}
    verifying: set[int] = set()
    looks = 0
    with cas.errors(access, about, upload=False):
        small = len(files) > 1 and total / len(files) < cas.SMALL_FILE
        session = cas.session(access, cas.settings(len(files), total) | (_MANY_SMALL if small else {}))
        from hf_xet import XetFileInfo

        group = cas.begin(access, session.new_file_download_group)
        handles: list[XetFileDownload] = []
        scratch: list[Path] = []

        def written(number: int) -> None:
            file = files[number]
            about_it = f"the download of {file.path} ({file.size} bytes) from {access.token.repo}"
            with cas.errors(access, about_it, upload=False):
                handles[number].result()
            verifying.add(number)

        def take(number: int) -> None:
            try:
                receive(number, _pieces(files[number], scratch[number], partial(written, number)))
            except XetIntegrityError as error:
                damaged[number] = error
            finally:
                verifying.discard(number)

        def work() -> None:
            for file in files:
                if stopped.is_set():  # the temporary files are removed already
                    raise XetCancelledError(f"{about} was stopped from outside.")
                scratch.append(part_files.again(file.part))
                info = XetFileInfo(file.xet_hash, file.size)
                handles.append(group.start_download_file(info, native_client.native_path(scratch[-1])))
            workers.each(take, range(len(files)), FILES_AT_A_TIME, stopped, abort=group.abort)

        def report() -> _Moved:
            # While only the digest of a file is missing, the client stands still, but the transfer does not.
            nonlocal looks
            looks += bool(verifying)
            now = group.progress()
            return _Moved(now.total_bytes_completed, now.total_transfer_bytes_completed + looks)

        try:
            with cas.aborting(group.abort, stopped):
                workers.interruptible(work, progress.Meter(about, total, report, access.stall_timeout))
        finally:
            for path in list(scratch):
                path.unlink(missing_ok=True)
        return int(group.progress().total_transfer_bytes_completed), damaged


def _pieces(file: Wanted, scratch: Path, written: Callable[[], None]) -> Iterator[bytes]:
    """Yield what is in the temporary file, to its end, and give it its name: a large one while it is written.

    The client only ever appends to it (hf-xet 1.8: one ``writev`` after the other, none at an offset), so that what was
    read once stays as it is. Were that to change, the digest would not be right, and whoever verifies must read again.

    :param scratch: where the client writes it.
    :param written: returns when the client has written all of the file; raises what went wrong.
    """
    over = threading.Event()
    failure: list[BaseException] = []

    def wait() -> None:
        # Only this blocking call tells the end: hf-xet's try_result() and status() do not notice it by themselves.
        try:
            written()
        except BaseException as error:
            failure.append(error)
        finally:
            over.set()

    if file.size < FOLLOWED:
        wait()
    else:
        threading.Thread(target=wait, name="xethub-written", daemon=True).start()
    while not over.is_set() and not scratch.exists():  # the client makes it when the first bytes are there
        over.wait(_LOOK_SECONDS)
    if not failure:
        with scratch.open("rb", buffering=0) as stream:
            while not failure:
                # Asked before the read, so that nothing is missed that was written in between.
                is_over = over.is_set()
                if block := stream.read(_BLOCK):
                    yield block
                elif is_over:
                    break
                else:
                    over.wait(_LOOK_SECONDS)
    if failure:
        raise failure[0]
    scratch.replace(file.part)


@dataclass
class _Moved:
    """A report as :class:`progress.Meter` reads it."""

    total_bytes_completed: int
    total_transfer_bytes_completed: int
