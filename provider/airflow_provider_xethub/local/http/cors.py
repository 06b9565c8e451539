"""Which answers scripts of other origins may read in a browser (CORS).

None may, unless its origin was named when the server was started: any page in a browser on this machine could read
public repositories and fetch tokens for them otherwise. One that was named may read the API, CAS and files. It may not
read the pages, which show private repositories to everybody on this machine, nor the control API.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WEB_KINDS = ("datasets", "spaces", "buckets")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_PREFLIGHT_SECONDS = "7200"
# Source: what the real Hub exposes, and what the JavaScript client reads.
_EXPOSED = ", ".join(
    (
        "X-Repo-Commit",
        "X-Request-Id",
        "X-Error-Code",
        "X-Error-Message",
        "X-Total-Count",
        "ETag",
        "Link",
        "Accept-Ranges",
        "Content-Range",
        "X-Linked-Size",
        "X-Linked-ETag",
        "X-Xet-Hash",
        "X-Xet-Refresh-Route",
        "X-Xet-Cas-Url",
        "X-Xet-Access-Token",
        "X-Xet-Token-Expiration",
    )
)


class Cors:
    """Answers preflights, and adds the headers that let browsers read an answer.

    :param origins: those that may, such as ``http://localhost:3000``; ``*`` lets all.
    :raises ValueError: one of them is not an origin.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(map(checked_origin, origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        named = {"*", (origin or "").lower()} & self._origins
        if origin is None or not named or not is_open(scope["raw_path"].decode("latin-1")):
            await self._app(scope, receive, send)
            return
        allowed = "*" if "*" in named else origin
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = {
                "Access-Control-Allow-Origin": allowed,
                "Vary": "Origin",
                "Access-Control-Allow-Methods": _METHODS,
                # "*" would leave Authorization out.
                "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
                "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
            }
            await Response(status_code=204, headers=answer)(scope, receive, send)
            return

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"access-control-allow-origin", allowed.encode("latin-1")),
                    (b"vary", b"Origin"),
                    (b"access-control-expose-headers", _EXPOSED.encode()),
                ]
            await send(message)

        await self._app(scope, receive, opened)


def checked_origin(text: str) -> str:
    """Return an origin as browsers write it, or ``*``.

    :raises ValueError: it is something else.
    """
    origin = text.strip().lower().removesuffix("/")
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text!r} is not an origin; use SCHEME://HOST or SCHEME://HOST:PORT, or * for all.")
    return origin


def is_open(path: str) -> bool:
    """Return whether scripts of other origins may read what is at this path, as it arrived, percent-encoded."""
    if path.startswith(("/api/", "/cas/", "/v1/telemetry")):
        return True
    parts = path.split("/")[1:]
    if parts[0] in _WEB_KINDS:
        parts = parts[1:]
    # A repository has two names. What comes third decides: further on, it may be the name of anybody's file.
    _, name, route, *_ = (*parts, "", "", "")
    return route in ("resolve", "raw") or (name.endswith(".git") and route == "info")
