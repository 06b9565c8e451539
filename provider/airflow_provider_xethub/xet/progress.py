"""Progress of a transfer: a line in the task log every few seconds, and an error when nothing moves any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_xethub.exceptions import XetStalledError
from airflow_provider_xethub.xet.message_text import capitalized, counted, duration, repo_in, size
from airflow_provider_xethub.xet.records import XetCommitResult, XetReceived, XetTransfer, changed_files
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

LOG_INTERVAL = 10.0
"""Seconds between two log lines."""

CHECK_INTERVAL = 0.5
"""Seconds between two checks of whether anything has moved."""

STALL_TIMEOUT = 120.0
"""Seconds without progress before a transfer is cancelled. The client itself gives up on a silent request after 60 s
and retries it, so that one lost response does not end a transfer."""


class Meter:
    """Log how far a transfer is, and notice when it makes no progress.

    :param about: the transfer, such as ``the upload of 3 files to hf://acme/m@main``.
    :param total_bytes: size of the whole content in bytes.
    :param report: returns the client's current report; with ``hf_xet``, any thread may call it.
    :param stall_timeout: seconds without progress before :meth:`check` raises.
    :param watch: called with each report. It may raise an error to end the transfer, or change how it goes on.
    """

    def __init__(
        self,
        about: str,
        total_bytes: int,
        report: Callable[[], Any],
        stall_timeout: float = STALL_TIMEOUT,
        watch: Callable[[Any], object] | None = None,
    ) -> None:
        self._about = about
        self._total = total_bytes
        self._report = report
        self._stall_timeout = stall_timeout
        self._watch = watch
        self._started = self._logged = self._moved = time.monotonic()
        self._movement: tuple[object, ...] = ()

    def check(self) -> None:
        """Check the transfer, and log a line if one is due.

        :raises XetStalledError: nothing has moved for ``stall_timeout`` seconds.
        """
        now, report = time.monotonic(), self._report()
        if (movement := _movement(report)) != self._movement:
            self._movement, self._moved = movement, now
        elif now - self._moved > self._stall_timeout:
            raise XetStalledError(
                f"No progress for {duration(now - self._moved)} in {repo_in(self._about)}. Let the task retry; if the "
                f"service is only slow, raise stall_timeout in the connection. {capitalized(self._about)} was "
                f"cancelled at {size(int(report.total_bytes_completed))} of {size(self._total)}; unfinished files were "
                "discarded."
            )
        if self._watch:
            self._watch(report)
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            if now - self._moved >= LOG_INTERVAL:
                self._log_no_progress(now - self._moved)
            else:
                self.log_progress()

    def _log_no_progress(self, seconds: float) -> None:
        """Log that nothing moves: the client retries on its own, and does not say so."""
        how_far = f"{size(int(self._report().total_bytes_completed))} of {size(self._total)}"
        log.warning(
            "No progress for %s at %s in %s. The client retries; after %s without progress the transfer is cancelled.",
            duration(seconds),
            how_far,
            self._about,
            duration(self._stall_timeout),
        )

    def log_progress(self) -> None:
        """Log one line: share, bytes, rate, the time left at that rate, and for an upload what need not be sent."""
        report = self._report()
        done = int(report.total_bytes_completed)
        rate = done / max(time.monotonic() - self._started, 0.001)
        left = f", about {duration((self._total - done) / rate)} left" if rate and done < self._total else ""
        share = 100 * done // self._total if self._total else 100
        how_far = f"{size(done)} of {size(self._total)}, {size(rate)}/s{_saved(report)}{left}"
        log.info("%d %% of %s: %s", share, self._about, how_far)


def _saved(report: Any) -> str:
    """Return the share of an upload that was not sent so far: CAS has it already, or it was compressed."""
    done = int(report.total_bytes_completed)
    if not done or getattr(report, "shard", None) is None:  # only reports of uploads have one
        return ""
    share = max(0.0, 1 - report.total_transfer_bytes_completed / done)
    return f", {100 * share:.0f} % deduplicated or compressed"


def _movement(report: Any) -> tuple[object, ...]:
    """Return all that changes in a report while a transfer moves; the check of a large shard is progress too."""
    shard = getattr(report, "shard", None)
    names = () if shard is None else [name for name in dir(shard) if name.startswith("total_")]
    bytes_moved = getattr(report, "total_transfer_bytes_completed", None)
    return (report.total_bytes_completed, bytes_moved, *(getattr(shard, name) for name in names))


def upload_summary(transfer: XetTransfer, published: XetCommitResult | None = None) -> str:
    """Say in one line what an upload sent.

    ``Uploaded 3 files, 68.2 MB: sent 3.4 MB, 95.0 % deduplicated, 1.1 s. 150 files went inline with the commit.``

    :param published: the commit of the same task, which also has the files that went inline.
    """
    sentences = []
    if transfer["files"]:
        share = 100 * transfer["bytes_deduplicated"] / transfer["bytes"] if transfer["bytes"] else 0
        sentences.append(
            f"Uploaded {counted(transfer['files'], 'file')}, {size(transfer['bytes'])}: "
            f"sent {size(transfer['bytes_sent'])}, {share:.1f} % deduplicated, {transfer['seconds']:.1f} s."
        )
    inline = sum(1 for file in changed_files(published) if not file["xet_hash"]) if published else 0
    if inline and sentences:
        sentences.append(f"{counted(inline, 'file')} went inline with the commit.")
    elif inline:
        sentences.append(f"Uploaded {counted(inline, 'file')} inline with the commit.")
    return " ".join(sentences) or "Uploaded nothing: the repository has all files already."


def download_summary(transfer: XetReceived) -> str:
    """Say in one line what a download fetched.

    ``Downloaded 3 files, 68.2 MB, verified, in 0.8 s; 2 already there, unchanged.``
    """
    there = transfer["skipped"]
    if not transfer["files"] and there:
        return (
            f"Downloaded nothing: {'the file is' if there == 1 else f'all {there} files are'} already there, unchanged."
        )
    fetched = (
        f"{counted(transfer['files'], 'file')}, {size(transfer['bytes'])}, verified, in {transfer['seconds']:.1f} s"
    )
    return f"Downloaded {fetched}; {there} already there, unchanged."


def commit_summary(result: XetCommitResult) -> str:
    """Say in one line what was committed.

    ``Committed 1 changed, 0 deleted, 6 unchanged files to hf://acme/m@main: https://…``
    """
    repo, url = Repo.from_uri(result["repo"]), result["url"]
    unchanged, deleted = len(result["unchanged"]), len(result["deleted"])
    if not result["created"]:
        files = f"all {unchanged} files are" if unchanged > 1 else "the content is"
        return f"Nothing to commit: {files} unchanged in {repo}: {url}"
    what = f"{len(result['files']) - unchanged} changed, {deleted} deleted, {unchanged} unchanged files"
    if result["pull_request"]:
        number = repo.revision.removeprefix("refs/pr/")
        return f"Opened pull request {number} of {repo.repo_id} with {what}: {result['pull_request']}"
    if repo.is_bucket:
        return f"Stored {what} in {repo}: {url}"
    commits = f" in {len(result['commits'])} commits" if len(result["commits"]) > 1 else ""
    return f"Committed {what} to {repo}{commits}: {url}"
