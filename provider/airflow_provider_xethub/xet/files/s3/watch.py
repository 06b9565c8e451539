"""Ends responses of S3 that crawl, so that the rest is requested again on another connection.

A response without any byte ends by the read timeout of the client. One that delivers a byte now and then never does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from airflow_provider_xethub.xet.message_text import size
from airflow_provider_xethub.xet.process import threads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """When a response crawls. Rates are bytes per second of one response.

    :param window: seconds after which the rate of a response is judged. Less than the timeout of a stalled transfer,
        which would end the whole transfer.
    :param share: below this share of the best response, it crawls.
    :param least: below this rate, it crawls, whatever others reach.
    :param block: bytes that may have arrived without having been counted.
    """

    window: float = 60.0
    share: float = 1 / 20
    least: float = 10_000.0
    block: int = 1 << 20

    def crawls(self, passed: float, got: int, total: int, best: float) -> bool:
        """Return whether a response crawls.

        :param passed: seconds since it began.
        :param got: bytes that have arrived, of ``total``.
        :param best: the best rate of other responses; 0 if it is unknown or does not count.
        """
        rate = (got + min(self.block, total)) / max(passed, 0.001)
        return passed >= self.window and rate < max(self.least, best * self.share)

    @property
    def interval(self) -> float:
        """Seconds between two checks."""
        return self.window / 60


RULES = Rules()
"""Those of all transfers; tests use shorter ones."""


class Crawl(ConnectionError):  # noqa: N818 - the response has not failed
    """The response crawled, and was ended."""


class Response:
    """One response that is watched.

    :param total: bytes that it has.
    :param end: ends it, so that who reads it gets an error or no more bytes.
    :param by_others: whether it is compared with other responses.
    """

    def __init__(self, total: int, end: Callable[[], object], *, by_others: bool) -> None:
        self._end = end
        self.total = total
        self.by_others = by_others
        self.began = time.monotonic()
        self.got = 0
        self.has_crawled = False

    def end(self) -> None:
        """End it."""
        self.has_crawled = True
        with suppress(Exception):  # it has just ended by itself
            self._end()


class Watch:
    """Watches all responses of one client, in a thread that lives as long as there are any."""

    def __init__(self) -> None:
        self._open: set[Response] = set()
        self._turn = threading.Lock()
        self._is_running = False
        self._best = 0.0

    @contextmanager
    def over(self, total: int, end: Callable[[], object] | None, *, by_others: bool = True) -> Iterator[Response]:
        """Watch a response while the block reads it.

        :param total, by_others: as for :class:`Response`.
        :param end: likewise; ``None`` where nothing can end it.
        :raises Crawl: it crawled, and was ended.
        """
        response = Response(total, end or (lambda: None), by_others=by_others)
        if end:
            self._add(response)
        try:
            yield response
        except Exception:
            if not response.has_crawled:
                raise
        finally:
            self._remove(response)
        if response.has_crawled:  # also where all has arrived: the client may not have compared its checksum
            seconds = time.monotonic() - response.began
            log.warning(
                "Only %s of %s arrived in %.0f s from S3. Requesting the rest again.",
                size(response.got),
                size(total),
                seconds,
            )
            raise Crawl(f"only {size(response.got)} of {size(total)} arrived in {seconds:.0f} s")

    def _add(self, response: Response) -> None:
        with self._turn:
            self._open.add(response)
            if not self._is_running:
                self._is_running = True
                threads.begin(threading.Thread(target=self._run, name="xethub-watch", daemon=True))

    def _remove(self, response: Response) -> None:
        with self._turn:
            self._open.discard(response)
            if response.got >= RULES.block:
                self._best = max(self._best, response.got / max(time.monotonic() - response.began, 0.001))

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(RULES.interval)
            with self._turn:
                if not self._open:
                    self._is_running = False
                    return
                crawling = [response for response in self._open if self._crawls(response)]
            for response in crawling:
                response.end()

    def _crawls(self, response: Response) -> bool:
        passed, best = time.monotonic() - response.began, self._best if response.by_others else 0.0
        return not response.has_crawled and RULES.crawls(passed, response.got, response.total, best)
