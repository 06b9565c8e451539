"""Progress of a transfer: one line in the task log at a readable pace, and an end to a transfer that stands still."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_xethub.exceptions import XetStalledError
from airflow_provider_xethub.xet.message_text import capitalized, duration, size
from airflow_provider_xethub.xet.records import XetReceived, XetTransfer

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two lines."""

LOOK_INTERVAL = 0.5
"""Seconds between two looks at whether anything has moved."""

STALL_TIMEOUT = 120.0
"""Seconds without any progress after which a transfer is ended. The client's own patience with one silent request is
60 s, so that a single lost answer is its business."""


class Meter:
    """Tells how far a transfer is, and notices that it stands still.

    :param about: the transfer, such as ``the upload of 3 file(s) to hf://acme/m@main``.
    :param total_bytes: bytes of content in all.
    :param report: returns the client's current report; ``hf_xet`` answers without a lock, from any thread.
    :param stall_timeout: seconds without progress that are too long.
    """

    def __init__(
        self, about: str, total_bytes: int, report: Callable[[], Any], stall_timeout: float = STALL_TIMEOUT
    ) -> None:
        self._about = about
        self._total = total_bytes
        self._report = report
        self._stall_timeout = stall_timeout
        self._started = self._told = self._moved = time.monotonic()
        self._pulse: tuple[object, ...] = ()

    def look(self) -> None:
        """Look at the transfer: log a line if it is time for one.

        :raises XetStalledError: nothing has moved for too long.
        """
        now, report = time.monotonic(), self._report()
        if (pulse := _pulse(report)) != self._pulse:
            self._pulse, self._moved = pulse, now
        elif now - self._moved > self._stall_timeout:
            raise XetStalledError(
                f"{capitalized(self._about)} stood still for {duration(now - self._moved)}, at "
                f"{size(int(report.total_bytes_completed))} of {size(self._total)}, and was ended. Nothing was kept of "
                "unfinished files. Let the task retry; if the service is only slow, raise stall_timeout in the "
                "connection."
            )
        if now - self._told >= INTERVAL:
            self._told = now
            self.tell()

    def tell(self) -> None:
        """Log one line: share, bytes, rate, of an upload what need not be sent, and the time left at that rate."""
        report = self._report()
        done = int(report.total_bytes_completed)
        rate = done / max(time.monotonic() - self._started, 0.001)
        left = f", about {duration((self._total - done) / rate)} left" if rate and done < self._total else ""
        share = 100 * done // self._total if self._total else 100
        how_far = f"{size(done)} of {size(self._total)}, {size(rate)}/s{_saved(report)}{left}"
        log.info("%d %% of %s: %s", share, self._about, how_far)


def _saved(report: Any) -> str:
    """Return which share of an upload so far was not sent, because CAS has it or because it got smaller."""
    done = int(report.total_bytes_completed)
    if not done or getattr(report, "shard", None) is None:  # only uploads have one
        return ""
    share = max(0.0, 1 - report.total_transfer_bytes_completed / done)
    return f", {100 * share:.0f} % deduplicated or compressed"


def _pulse(report: Any) -> tuple[object, ...]:
    """Return everything in a report that changes while a transfer moves; checking a large shard is progress as well."""
    shard = getattr(report, "shard", None)
    names = () if shard is None else [name for name in dir(shard) if name.startswith("total_")]
    bytes_moved = getattr(report, "total_transfer_bytes_completed", None)
    return (report.total_bytes_completed, bytes_moved, *(getattr(shard, name) for name in names))


def sent(transfer: XetTransfer) -> str:
    """Return the figures of an upload in one line: ``3 file(s), 68.2 MB: sent 3.4 MB, 95.0 % deduplicated, 1.1 s``."""
    share = 100 * transfer["bytes_deduplicated"] / transfer["bytes"] if transfer["bytes"] else 0
    return (
        f"{transfer['files']} file(s), {size(transfer['bytes'])}: sent {size(transfer['bytes_sent'])}, "
        f"{share:.1f} % deduplicated, {transfer['seconds']:.1f} s"
    )


def received(transfer: XetReceived) -> str:
    """Return the figures of a download in one line: ``3 file(s), 68.2 MB, verified; 2 were there already; 0.8 s``."""
    return (
        f"{transfer['files']} file(s), {size(transfer['bytes'])}, verified; {transfer['skipped']} were there already; "
        f"{transfer['seconds']:.1f} s"
    )
