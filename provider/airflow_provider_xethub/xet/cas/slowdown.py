"""Starts a transfer that crawls again with fewer requests at a time, and says so in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_xethub.exceptions import XetTooSlowError
from airflow_provider_xethub.xet import tracing
from airflow_provider_xethub.xet.cas import crawl
from airflow_provider_xethub.xet.message_text import counted, duration, size
from airflow_provider_xethub.xet.network import connections

if TYPE_CHECKING:
    from hf_xet import XetSession

    from airflow_provider_xethub.xet.cas.session import CasAccess

log = logging.getLogger(__name__)

_CLIENT_DEFAULTS = {
    "client.ac_initial_upload_concurrency": 2,
    "client.ac_max_upload_concurrency": 64,
    "client.ac_initial_download_concurrency": 4,
    "client.ac_max_download_concurrency": 64,
    "data.max_concurrent_file_ingestion": 8,
    "data.max_concurrent_file_downloads": 8,
}
"""What hf-xet 1.8 does at the same time: requests with data in each direction, and files, each with a request that
carries none (a deduplication query, a reconstruction)."""


def at_most(config: Mapping[str, Any], concurrency: int | None) -> dict[str, Any]:
    """Return settings of the client with at most ``concurrency`` requests at a time; ``None`` changes nothing."""
    if concurrency is None:
        return dict(config)
    return {**config, **{name: min(config.get(name, usual), concurrency) for name, usual in _CLIENT_DEFAULTS.items()}}


_REMEMBERED_SECONDS = 600.0
"""For how long a process begins its transfers with as few requests at a time as made an earlier one faster."""

_Link = tuple[str, bool]
"""Host and port of a CAS, and whether bytes go up."""


class _Memory:
    """With how many requests at a time this process last got along on each link that crawled."""

    def __init__(self) -> None:
        self._found: dict[_Link, tuple[int, float]] = {}

    def concurrency(self, link: _Link) -> int | None:
        """Return with how many requests at a time to begin; ``None`` where nothing is known."""
        found, at = self._found.get(link, (None, 0.0))
        return found if time.monotonic() - at < _REMEMBERED_SECONDS else None

    def note(self, link: _Link, concurrency: int | None) -> None:
        """Remember what made a transfer faster; ``None``: fewer requests at a time did not help."""
        if concurrency is None:
            self._found.pop(link, None)
        else:
            self._found[link] = (concurrency, time.monotonic())


_memory = _Memory()


class Crawling(Exception):  # noqa: N818 - not an error: it ends an attempt, so that the next one begins
    """The attempt crawls; begin the next one with :attr:`Slowdown.concurrency`."""


def settle(session: XetSession) -> None:
    """End a session of the client that crawls, and wait until its connections are gone."""
    with connections.drained(crawl.RULES.settle, crawl.RULES.drain):
        session.sigint_abort()


class Slowdown:
    """Watches one transfer over all its attempts.

    :param about: the transfer, such as ``the download of 3 files from hf://acme/m@main``.
    :param access: an attempt needs a token; without a connection, an expired one cannot be replaced.
    :param config: settings of the first attempt.
    :param upload: the direction. An upload loses the xorbs in flight when it starts again, so it does that rarely.
    """

    def __init__(self, about: str, access: CasAccess, config: Mapping[str, Any], *, upload: bool) -> None:
        self._about = about
        self._access = access
        most = "client.ac_max_upload_concurrency" if upload else "client.ac_max_download_concurrency"
        first = at_most(config, access.limits.concurrency).get(most, _CLIENT_DEFAULTS[most])
        self._link: _Link = (urlsplit(access.token.cas_url).netloc, upload)
        begin = min(first, _memory.concurrency(self._link) or first)
        self._min_rate = access.limits.min_rate or 0
        self._watch = crawl.Watch(begin, crawl.RULES, returns=not upload, min_rate=self._min_rate)
        self._first: int = first
        self._begin: int = begin
        if begin < first:
            log.info(
                "Beginning %s with %s at a time, because an earlier transfer of this task crawled with more.",
                about,
                counted(begin, "request"),
            )
        self._base = 0
        self._moved = 0

    @property
    def concurrency(self) -> int | None:
        """Requests at a time of the next attempt; ``None`` for those of the settings."""
        return self._watch.concurrency if self._watch.concurrency < self._first else None

    @property
    def moved(self) -> int:
        """Bytes that all attempts so far have moved over the network."""
        return self._base + self._moved

    def should_restart(self, moved: int, done: int, total: int, *, waits: bool = True) -> bool:
        """Take a sample of the running attempt, and return whether to start it again with other settings.

        :param moved, done, total, waits: as for :class:`airflow_provider_xethub.xet.cas.crawl.Sample`.
        :raises XetTooSlowError: it stays below the rate that the task demands.
        """
        self._moved = moved
        if not self._access.refresh and not self._access.token.is_fresh():
            return False  # a new attempt would need a new token
        verdict = self._watch.add(crawl.Sample(time.monotonic(), self.moved, done, total, waits))
        if verdict is None:
            if self._watch.helps():
                _memory.note(self._link, self._watch.concurrency)
            return False
        if verdict.has_failed:
            _memory.note(self._link, None)
        if verdict.is_too_slow:
            raise self._too_slow(verdict, done, total)
        is_fewer = verdict.concurrency is not None and verdict.concurrency < self._begin
        self._report(verdict, is_fewer)
        if verdict.concurrency is None:
            return False
        self._base, self._moved = self.moved, 0
        tracing.count_retry()
        return True

    def _too_slow(self, verdict: crawl.Verdict, done: int, total: int) -> XetTooSlowError:
        concurrency = counted(self._watch.concurrency, "request")
        return XetTooSlowError(
            f"Only {size(verdict.rate)}/s for {duration(crawl.RULES.window)} in {self._about}, less than min_rate, "
            f"{size(self._min_rate)}/s, with {concurrency} at a time. Let the task retry, or lower min_rate. It was "
            f"cancelled at {size(done)} of {size(total)}; unfinished files were discarded."
        )

    def _report(self, verdict: crawl.Verdict, is_fewer: bool) -> None:
        now = f"{size(verdict.rate)}/s"
        usual = f", which had reached {size(verdict.best)}/s" if verdict.best else ""
        if verdict.concurrency is not None and is_fewer:
            log.warning(
                "Only %s in %s%s. Starting it again with at most %s at a time; what is complete is kept.",
                now,
                self._about,
                usual,
                counted(verdict.concurrency, "request"),
            )
        else:
            log.warning(
                "Only %s in %s%s. Fewer requests at a time did not help, so it goes on at this rate. Check the network "
                "of this worker; where links are shared, set max_concurrency in the connection.",
                now,
                self._about,
                usual,
            )
