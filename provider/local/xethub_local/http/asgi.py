"""Small functions on ASGI messages."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Receive


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the ``Content-Length`` of a response, or ``None`` if it has none."""
    return next((int(value) for name, value in headers if name.lower() == b"content-length"), None)


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client disconnects or the server stops."""
    while (await receive())["type"] != "http.disconnect":
        pass
