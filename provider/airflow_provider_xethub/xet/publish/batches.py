"""The batches of one upload: their figures, the memory that they leave behind, and the limits of the Hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from airflow_provider_xethub.exceptions import XetCommitQuotaError, XetRateLimitError
from airflow_provider_xethub.xet import native_client, records
from airflow_provider_xethub.xet.message_text import duration, size
from airflow_provider_xethub.xet.process import stop
from airflow_provider_xethub.xet.process.path_table import PathTable
from airflow_provider_xethub.xet.publish.records_on_disk import RecordsOnDisk, batches
from airflow_provider_xethub.xet.records import XetFile, XetTransfer, XetUploadResult, no_transfer

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.cas.session import WithCasAccess
    from airflow_provider_xethub.xet.files.found_files import FoundFiles, SourceFile

log = logging.getLogger(__name__)

T = TypeVar("T")

RATE_WINDOW = 330.0
"""Longest wait for the next window of the Hub's rate limit, in seconds. The Hub counts requests in windows of five
minutes (https://huggingface.co/docs/hub/rate-limits)."""

MOST_WAITS = 1000
"""How often an upload waits for the next window."""


def upload_files(
    files: FoundFiles,
    with_cas_access: WithCasAccess,
    deduplicate: bool | None,
    seal: Callable[[Sequence[XetFile]], list[XetFile]],
) -> XetUploadResult:
    """Upload files without publishing them, so many at a time that memory does not grow with their number.

    :param seal: seals what nobody may read in the records.
    :returns: the records in a list; those of more files than are kept in memory, in a sequence on disk.
    """
    from airflow_provider_xethub.xet.transfer import upload

    def sealed(some: Sequence[SourceFile]) -> XetUploadResult:
        sent = with_cas_access(partial(upload.upload, files=some, deduplicate=deduplicate))
        return {**sent, "files": seal(upload.with_samples(sent["files"], some))}

    if not files.are_on_disk:
        return sealed(list(files))
    progress, kept = Batches(len(files)), RecordsOnDisk(PathTable())
    for some in batches(files):
        sent = sealed(some)
        for file in sent["files"]:
            kept.add(file)
        progress.add(sent["transfer"])
        progress.done(sent["files"])
    return {"files": cast("list[XetFile]", kept), "transfer": progress.transfer}


class Batches:
    """The progress of an upload in batches.

    :param count: how many files there are in all.
    :ivar transfer: the figures of all batches so far.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0
        if count > records.IN_MEMORY:
            native_client.limit_heaps()
        self.transfer = no_transfer()

    @property
    def is_first(self) -> bool:
        """Whether no batch is done yet."""
        return self._done == 0

    def add(self, transfer: XetTransfer) -> None:
        """Add the figures of one batch."""
        self.transfer = {
            "files": self.transfer["files"] + transfer["files"],
            "bytes": self.transfer["bytes"] + transfer["bytes"],
            "bytes_sent": self.transfer["bytes_sent"] + transfer["bytes_sent"],
            "bytes_deduplicated": self.transfer["bytes_deduplicated"] + transfer["bytes_deduplicated"],
            "seconds": round(self.transfer["seconds"] + transfer["seconds"], 3),
        }

    def done(self, batch: Sequence[XetFile]) -> None:
        """Log that a batch is done, and return its memory to the system."""
        self._done += max(len(batch), 1)
        if self._done < self._count:
            sent = size(self.transfer["bytes_sent"])
            log.info("%d of %d files are compared and in CAS; sent %s so far.", self._done, self._count, sent)
        if len(batch) < self._count:
            native_client.release_memory()

    def paced(self, requests: Callable[[], T]) -> T:
        """Send requests of a batch; where the Hub's rate limit is reached, wait for its next window.

        An upload in batches may need more requests than the Hub allows in one window, so failing would not help.

        :param requests: may be called several times.
        """
        for _ in range(MOST_WAITS):
            try:
                return requests()
            except XetRateLimitError as error:
                wait = error.retry_after
                is_quota = isinstance(error, XetCommitQuotaError) or wait is None or wait > RATE_WINDOW
                if is_quota or self._count <= records.IN_MEMORY:
                    raise
                log.warning("Waiting %s for the rate limit of the Hub. %s", duration(wait or 0), error)
                stop.sleep(wait or 0)
        return requests()
