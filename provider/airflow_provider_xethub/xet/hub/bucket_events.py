"""Follow the event stream of a bucket, which replaces frequent polls.

``GET /api/buckets/{namespace}/{name}/events?cursor=`` returns server-sent events: ``changes`` (with the paths, and the
cursor after them), ``ready`` (all earlier changes have been sent), ``reset`` (the cursor is too old) and ``reconnect``
(the server is shutting down). Source: ``huggingface_hub`` 2.4, which also says that the stream may miss changes, and
closes a stream without any data for 90 seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
READ_SECONDS = 90.0
MIN_RECONNECT_SECONDS = 1.0
MAX_RECONNECT_SECONDS = 80.0
UNAVAILABLE_STATUSES = (401, 403, 404, 501)
"""Statuses of a Hub that has no event stream for this bucket, or not for this credential."""

_MAX_EVENT = 16 * 1024 * 1024
_MAX_CURSOR = 4096

OnChange = Callable[[bool, "list[str] | None"], None]
"""Receives whether the stream is live, and the paths that changed; ``None`` if any path may have changed."""


class BucketStream:
    """Follow one bucket in a thread until :meth:`stop`.

    :param hub: a Hub client that nothing else uses, because its session belongs to the thread.
    :param bucket: the bucket to follow.
    :param on_change: called in that thread for each change, and when the stream opens or closes.
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
        """Start the thread."""
        threads.begin(self._thread)

    def stop(self) -> None:
        """Stop the thread soon, without waiting for it."""
        self._stop.set()
        response = self._response
        shutdown = getattr(response.raw, "shutdown", None) if response is not None else None
        if shutdown is not None:  # since urllib3 2.3; with earlier versions, the thread ends at the next heartbeat
            try:
                shutdown()
            except (ValueError, RuntimeError, OSError):
                log.debug("The event stream of %s was closed already.", self._bucket)

    def _run(self) -> None:
        pause = MIN_RECONNECT_SECONDS
        while not self._stop.is_set():
            was_ready = False
            try:
                for is_ready, paths in self._session():
                    was_ready = was_ready or is_ready
                    self._on_change(is_ready, paths)
            except _StreamUnavailableError as error:
                log.info("The event stream of %s is unavailable (%s). Falling back to polling.", self._bucket, error)
                self._on_change(False, [])
                return
            except Exception as error:
                # Any error: if the thread ended here, the bucket would no longer be polled often enough.
                log.debug("The event stream of %s was interrupted: %s", self._bucket, type(error).__name__)
            if self._stop.is_set():
                return
            self._on_change(False, [])
            pause = MIN_RECONNECT_SECONDS if was_ready else min(MAX_RECONNECT_SECONDS, pause * 2)
            self._stop.wait(pause)

    def _session(self) -> Iterator[tuple[bool, list[str] | None]]:
        """Follow until the stream ends, and yield the arguments of :data:`OnChange`."""
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
                raise _StreamUnavailableError("the response is not an event stream")
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
                    # Without a cursor to resume from, earlier changes are not sent: everything may have changed.
                    yield True, ([] if is_resumed else None)
                elif name == "changes":
                    yield is_ready, _paths(data)


class _StreamUnavailableError(Exception):
    """The Hub offers no event stream for this bucket; retrying does not change that."""


def _paths(data: dict[str, Any]) -> list[str] | None:
    try:
        changes = answers.sequence(data.get("changes"), "changes")
        return [answers.path(answers.mapping(change, "a change").get("path")) for change in changes]
    except answers.WrongAnswerError:
        return None


def _events(response: requests.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield server-sent events by name; events whose data is not a JSON object are skipped."""
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
                raise requests.exceptions.ContentDecodingError("an event of unlimited length")


def _lines(response: requests.Response) -> Iterator[str]:
    # Byte by byte unless the response is chunked: a larger read would block until more data arrives.
    size = 1 << 16 if getattr(response.raw, "chunked", False) else 1
    rest = bytearray()
    for piece in response.iter_content(size):
        first, *more = piece.split(b"\n")
        rest += first
        if len(rest) > _MAX_EVENT:
            raise requests.exceptions.ContentDecodingError("an event of unlimited length")
        for part in more:
            yield rest.rstrip(b"\r").decode("utf-8", "replace")
            rest = bytearray(part)
