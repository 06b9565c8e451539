"""A careless server: what it was sent comes back in its errors, their headers and the addresses of its redirects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from leaks.cases import ECHO

_HEADERS = (b"authorization", b"x-proxy-key")


class Echo:
    """Puts the credentials of a request into its response, where a fault has a placeholder for them.

    :param app: the local Hub.
    :param more: what a proxy might repeat, for requests that came through it.
    """

    def __init__(self, app: Any, more: Iterable[str] = ()) -> None:
        self._app = app
        self._more = list(more)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start: dict[str, Any] = {}

        async def echoing(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            if start:
                message = self._filled(start, message, scope)
                await send(dict(start))
                start.clear()
            await send(message)

        # The local Hub closes connections by this.
        setattr(echoing, "__self__", getattr(send, "__self__", None))  # noqa: B010 - a function has no such attribute
        await self._app(scope, receive, echoing)

    def _filled(self, start: dict[str, Any], message: Any, scope: Any) -> Any:
        body = message.get("body", b"")
        if ECHO.encode() not in body and not any(ECHO.encode() in value for _, value in start["headers"]):
            return message
        given = [value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS]
        # The proxy of the tests forwards each request over a connection of its own.
        if (b"connection", b"close") in [(name, value.lower()) for name, value in scope["headers"]]:
            given += self._more
        target = scope["raw_path"].decode("latin-1") + "?" + scope["query_string"].decode("latin-1")
        text = "; ".join([*given, target])
        wanted = ECHO.encode()
        is_json = any(name.lower() == b"content-type" and b"json" in value for name, value in start["headers"])
        body = body.replace(wanted, json.dumps(text)[1:-1].encode() if is_json else text.encode())
        special = {b"content-length": str(len(body)).encode()}
        headers = []
        for name, value in start["headers"]:
            filled = quote(text, safe="") if name.lower() == b"location" else text
            headers.append((name, special.get(name.lower(), value.replace(wanted, filled.encode()))))
        start["headers"] = headers
        return {**message, "body": body}
