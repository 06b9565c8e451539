"""The event stream of a bucket: server-sent events, ``GET /api/buckets/{id}/events``.

``changes`` carries a batch and the cursor behind it, ``ready`` says that everything before is told, ``reset`` that the
caller was away too long, and ``reconnect`` that the server stops. Source: ``huggingface_hub`` 2.4
(``_bucket_live_follow.py``), which gives up a stream on which nothing comes for 90 seconds.

A follower costs a task of the event loop, and a thread only for the moments in which SQLite is asked.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_provider_xethub.local.http.json_fields import whole_number
from airflow_provider_xethub.local.hub.request import HubRequest
from airflow_provider_xethub.local.metadata.bucket_log import BucketEvent, BucketEvents, ForgottenError
from airflow_provider_xethub.local.store.errors import BadRequestError, HubError
from airflow_provider_xethub.local.store.timestamps import from_iso_time

HEARTBEAT_SECONDS = 15.0
# Another process on the same data folder changes buckets, too, and cannot wake anybody here.
_LOOK_SECONDS = 1.0


def follow(events: BucketEvents, request: HubRequest) -> Response:
    """Return the stream from the request's ``cursor`` or ``since`` on; without either, only what comes next.

    :raises BadRequestError: the cursor was never given out, or ``since`` is no time.
    """
    try:
        return _EventStream(events, request, _start(events, request))
    except ForgottenError:
        return Response(_event("reset", {"reason": "too old"}), media_type=_EventStream.media_type)


def _start(events: BucketEvents, request: HubRequest) -> int:
    if cursor := request.query("cursor"):
        number = whole_number(cursor)
        if number is None or number > events.newest(request.repository):
            raise BadRequestError("The query parameter cursor is not one that an event of this bucket had.")
        events.after(request.repository, number, 0)
        return number
    if since := request.query("since"):
        try:
            # "+" of a time zone that was not percent-encoded arrives as a space
            return events.cursor_at(request.repository, from_iso_time(since.replace(" ", "+")))
        except (ValueError, OverflowError, OSError) as error:
            raise BadRequestError(f"The query parameter since is no ISO 8601 time: {since[:40]!r}.") from error
    return events.newest(request.repository)


class _EventStream(Response):
    media_type = "text/event-stream"

    def __init__(self, events: BucketEvents, request: HubRequest, cursor: int) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._events = events
        self._request = request
        self._cursor = cursor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own shape
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        left = asyncio.ensure_future(_disconnected(receive))
        try:
            last_words = await self._tell(send, left)
        except asyncio.CancelledError:
            # The server stops. It is ours to end the answer: the caller comes back and resumes here.
            last_words = _event("reconnect", {"cursor": str(self._cursor)})
        finally:
            left.cancel()
        if not left.done() or left.cancelled():
            await send({"type": "http.response.body", "body": last_words, "more_body": False})

    async def _tell(self, send: Send, left: asyncio.Future[None]) -> bytes:
        """Send what happens until the caller has left, and return what is still to be said."""

        async def say(text: bytes) -> None:
            await send({"type": "http.response.body", "body": text, "more_body": True})

        is_ready = False
        silence = 0.0
        with self._events.follow(self._request.repository) as happened:
            while not left.done():
                happened.clear()
                try:
                    news = await run_in_threadpool(self._news)
                except ForgottenError:
                    return _event("reset", {"reason": "too slow"})
                except HubError:
                    return b""  # the bucket is gone, or may not be seen any more
                for event in news:
                    await say(_event("changes", {"cursor": str(event.id), "changes": event.changes}))
                    self._cursor, silence = event.id, 0.0
                if news:
                    continue
                if not is_ready:
                    await say(_event("ready", {"cursor": str(self._cursor)} if self._cursor else {}))
                    is_ready = True
                if silence >= HEARTBEAT_SECONDS:
                    await say(b": still here\n\n")
                    silence = 0.0
                waking: asyncio.Future[Any] = asyncio.ensure_future(happened.wait())
                await asyncio.wait((waking, left), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                silence += _LOOK_SECONDS
        return b""

    def _news(self) -> list[BucketEvent]:
        self._request.require("read")
        return self._events.after(self._request.repository, self._cursor)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
