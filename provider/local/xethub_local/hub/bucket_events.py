"""The event stream of a bucket: server-sent events, ``GET /api/buckets/{id}/events``.

``changes`` carries a batch and the cursor after it; ``ready`` means that all earlier changes have been sent, ``reset``
that the client was away for too long, and ``reconnect`` that the server is stopping. Source: ``huggingface_hub`` 2.4
(``_bucket_live_follow.py``), which gives up on a stream that is silent for 90 seconds.

Each client occupies a task of the event loop, and a thread only while SQLite is queried.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xethub_local.http.asgi import wait_for_disconnect
from xethub_local.http.json_fields import whole_number
from xethub_local.hub.request import HubRequest
from xethub_local.metadata.bucket_log import BucketEvent, BucketEvents, ForgottenError
from xethub_local.store.errors import BadRequestError, HubError
from xethub_local.store.timestamps import from_iso_time

HEARTBEAT_SECONDS = 15.0
# Other processes on the same data folder change buckets, too, and cannot notify this one.
_POLL_SECONDS = 1.0


def follow(events: BucketEvents, request: HubRequest) -> Response:
    """Return the stream of events after the ``cursor`` or ``since`` of the request; without either, of new events.

    :raises BadRequestError: the cursor was never issued, or ``since`` is not a time.
    """
    try:
        return _EventStream(events, request, _start(events, request))
    except ForgottenError:
        return Response(_event("reset", {"reason": "too old"}), media_type=_EventStream.media_type)


def _start(events: BucketEvents, request: HubRequest) -> int:
    if cursor := request.query("cursor"):
        number = whole_number(cursor)
        if number is None or number > events.newest(request.repository):
            raise BadRequestError("The query parameter cursor does not come from an event of this bucket.")
        events.after(request.repository, number, 0)
        return number
    if since := request.query("since"):
        try:
            # The "+" of a time zone arrives as a space if the client did not percent-encode it.
            return events.cursor_at(request.repository, from_iso_time(since.replace(" ", "+")))
        except (ValueError, OverflowError, OSError) as error:
            raise BadRequestError(f"The query parameter since is not an ISO 8601 time: {since[:40]!r}.") from error
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
        disconnected = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            last_piece = await self._send_events(send, disconnected)
        except asyncio.CancelledError:
            # The server is stopping. Ending the response properly lets the client reconnect and resume here.
            last_piece = _event("reconnect", {"cursor": str(self._cursor)})
        finally:
            disconnected.cancel()
        if not disconnected.done() or disconnected.cancelled():
            await send({"type": "http.response.body", "body": last_piece, "more_body": False})

    async def _send_events(self, send: Send, disconnected: asyncio.Future[None]) -> bytes:
        """Send events until the client disconnects or the stream ends; return the last piece of the stream."""

        async def send_piece(piece: bytes) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        is_ready = False
        silent_seconds = 0.0
        with self._events.follow(self._request.repository) as happened:
            while not disconnected.done():
                happened.clear()
                try:
                    new_events = await run_in_threadpool(self._new_events)
                except ForgottenError:
                    return _event("reset", {"reason": "too slow"})
                except HubError:
                    return b""  # the bucket was deleted, or the client lost access to it
                for event in new_events:
                    await send_piece(_event("changes", {"cursor": str(event.id), "changes": event.changes}))
                    self._cursor, silent_seconds = event.id, 0.0
                if new_events:
                    continue
                if not is_ready:
                    await send_piece(_event("ready", {"cursor": str(self._cursor)} if self._cursor else {}))
                    is_ready = True
                if silent_seconds >= HEARTBEAT_SECONDS:
                    await send_piece(b": still here\n\n")
                    silent_seconds = 0.0
                notified: asyncio.Future[Any] = asyncio.ensure_future(happened.wait())
                await asyncio.wait((notified, disconnected), timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                notified.cancel()
                silent_seconds += _POLL_SECONDS
        return b""

    def _new_events(self) -> list[BucketEvent]:
        self._request.require("read")
        return self._events.after(self._request.repository, self._cursor)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
