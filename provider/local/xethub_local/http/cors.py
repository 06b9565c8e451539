"""Cross-origin requests (CORS): which responses scripts of other origins may read in a browser.

By default none, because otherwise any page in a browser on this machine could read public repositories and fetch tokens
for them. Origins that are allowed when the server starts may read the API, CAS and files, but neither the pages, which
show private repositories to everyone on this machine, nor the control API.
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
# Source: the headers that the real Hub exposes, and those that the JavaScript client reads.
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
    """Answers preflight requests, and adds the headers that let browsers read a response.

    :param origins: allowed origins, such as ``http://localhost:3000``; ``*`` allows all.
    :raises ValueError: one of them is not an origin.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(map(checked_origin, origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or pass the request to the application."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        named = {"*", (origin or "").lower()} & self._origins
        if origin is None or not named or not is_open(scope["raw_path"].decode("latin-1")):
            await self._app(scope, receive, send)
            return
        allowed = "*" if "*" in named else origin
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            allowing = {
                "Access-Control-Allow-Origin": allowed,
                "Vary": "Origin",
                "Access-Control-Allow-Methods": _METHODS,
                # "*" would not include Authorization.
                "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
                "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
            }
            await Response(status_code=204, headers=allowing)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"access-control-allow-origin", allowed.encode("latin-1")),
                    (b"vary", b"Origin"),
                    (b"access-control-expose-headers", _EXPOSED.encode()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def checked_origin(text: str) -> str:
    """Return an origin in the form that browsers send, or ``*``.

    :raises ValueError: it is not an origin.
    """
    origin = text.strip().lower().removesuffix("/")
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text!r} is not an origin; use SCHEME://HOST or SCHEME://HOST:PORT, or * for all.")
    return origin


def is_open(path: str) -> bool:
    """Return whether scripts of other origins may read this path, given percent-encoded as it arrived."""
    if path.startswith(("/api/", "/cas/", "/v1/telemetry")):
        return True
    parts = path.split("/")[1:]
    if parts[0] in _WEB_KINDS:
        parts = parts[1:]
    # A repository id has two segments, so only the third decides: later ones may be the name of a file.
    _, name, route, *_ = (*parts, "", "", "")
    return route in ("resolve", "raw") or (name.endswith(".git") and route == "info")
