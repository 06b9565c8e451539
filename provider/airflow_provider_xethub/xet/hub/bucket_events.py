"""Follow the event stream of a bucket, so that it need not be asked again and again.

``GET /api/buckets/{namespace}/{name}/events?cursor=`` answers with server-sent events: ``changes`` (with the paths and
the cursor behind them), ``ready`` (all before is told), ``reset`` (the cursor is too old) and ``reconnect`` (the server
stops). Source: ``huggingface_hub`` 2.4, which also says that the feed is a best effort, and gives up a stream on which
nothing comes for 90 seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
READ_SECONDS = 90.0
MIN_RECONNECT_SECONDS = 1.0
MAX_RECONNECT_SECONDS = 80.0
UNAVAILABLE_STATUSES = (401, 403, 404, 501)
"""Statuses that say that this bucket cannot be followed: not served here, or not to this credential."""

_MAX_EVENT = 16 * 1024 * 1024
_MAX_CURSOR = 4096

OnChange = Callable[[bool, "list[str] | None"], None]
"""Called with whether the stream is followed now, and the paths that changed: ``None`` for any."""


class BucketStream:
    """Follows one bucket in a thread of its own until it is stopped.

    :param hub: a Hub that nothing else uses: its session belongs to the thread.
    :param on_change: called from that thread.
    """

    def __init__(self, hub: Hub, bucket: Repo, on_change: OnChange) -> None:
        self._hub = hub
        self._bucket = bucket
        self._on_change = on_change
        self._cursor: str | None = None
        self._stop = threading.Event()
        self._response: requests.Response | None = None
        self._thread = threading.Thread(target=self._run, name=f"xethub-follow-{bucket.repo_id}", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End soon, without waiting for it."""
        self._stop.set()
        response = self._response
        shutdown = getattr(response.raw, "shutdown", None) if response is not None else None
        if shutdown is not None:  # since urllib3 2.3; before, the thread ends with the next heartbeat
            try:
                shutdown()
            except (ValueError, RuntimeError, OSError):
                log.debug("The event stream of %s had ended already.", self._bucket)

    def _run(self) -> None:
        pause = MIN_RECONNECT_SECONDS
        while not self._stop.is_set():
            was_ready = False
            try:
                for is_ready, paths in self._session():
                    was_ready = was_ready or is_ready
                    self._on_change(is_ready, paths)
            except _StreamUnavailableError as error:
                log.info("The events of %s cannot be followed (%s): it is asked again and again.", self._bucket, error)
                self._on_change(False, [])
                return
            except Exception as error:
                # Whatever it is: a thread that ended here would leave the bucket without anybody who polls it.
                log.debug("The event stream of %s broke: %s", self._bucket, type(error).__name__)
            if self._stop.is_set():
                return
            self._on_change(False, [])
            pause = MIN_RECONNECT_SECONDS if was_ready else min(MAX_RECONNECT_SECONDS, pause * 2)
            self._stop.wait(pause)

    def _session(self) -> Iterator[tuple[bool, list[str] | None]]:
        """Follow until the stream ends; gives what :data:`OnChange` takes."""
        is_resumed = self._cursor is not None
        with self._hub.session.get(
            f"{self._bucket.api_path}/events",
            params={"cursor": self._cursor} if self._cursor else {},
            headers={"Accept": "text/event-stream"},
            stream=True,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        ) as response:
            self._response = response
            if response.status_code in UNAVAILABLE_STATUSES:
                raise _StreamUnavailableError(str(response.status_code))
            if response.status_code == 400:
                self._cursor = None
                return
            if not response.ok:
                return
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                raise _StreamUnavailableError("no event stream")
            is_ready = False
            for name, data in _events(response):
                if self._stop.is_set():
                    return
                cursor = data.get("cursor")
                if name == "reset":
                    self._cursor = None
                    return
                if isinstance(cursor, str) and len(cursor) <= _MAX_CURSOR and cursor.isprintable():
                    self._cursor = cursor
                if name == "reconnect":
                    return
                if name == "ready":
                    is_ready = True
                    # Without a cursor to resume from, what happened before is not told: look at everything once.
                    yield True, ([] if is_resumed else None)
                elif name == "changes":
                    yield is_ready, _paths(data)


class _StreamUnavailableError(Exception):
    pass


def _paths(data: dict[str, Any]) -> list[str] | None:
    try:
        changes = answers.sequence(data.get("changes"), "changes")
        return [answers.path(answers.mapping(change, "a change").get("path")) for change in changes]
    except answers.WrongAnswerError:
        return None


def _events(response: requests.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read server-sent events; what is not JSON, or none that is known, is left out."""
    name, data = "", ""
    for line in _lines(response):
        if not line:
            try:
                value = answers.parse(data) if data else None
            except answers.WrongAnswerError:
                value = None
            if isinstance(value, dict):
                yield name, value
            name, data = "", ""
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
            if len(data) > _MAX_EVENT:
                raise requests.exceptions.ContentDecodingError("an event without an end")


def _lines(response: requests.Response) -> Iterator[str]:
    # As it arrives: without chunks, anything but single bytes would wait for more.
    size = 1 << 16 if getattr(response.raw, "chunked", False) else 1
    rest = bytearray()
    for piece in response.iter_content(size):
        first, *more = piece.split(b"\n")
        rest += first
        if len(rest) > _MAX_EVENT:
            raise requests.exceptions.ContentDecodingError("an event without an end")
        for part in more:
            yield rest.rstrip(b"\r").decode("utf-8", "replace")
            rest = bytearray(part)
