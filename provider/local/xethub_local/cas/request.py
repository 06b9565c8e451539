"""Check the token of a CAS request, read its body, and turn errors into responses.

Source: the Xet protocol's API page, version 1.1, and the statuses that hf-xet 1.8 distinguishes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import update_wrapper

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.content.store import UnknownFileError
from xethub_local.content.xorbs import UnknownXorbError
from xethub_local.formats import FormatError
from xethub_local.formats.byte_range import UnsatisfiableRangeError
from xethub_local.repo import Scope
from xethub_local.store.access import Access, AccessError, XetGrant

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

Origin = Callable[[Request], str]
"""Returns the origin at which the client of a request reaches this server; data URLs use it."""


def origin_of(request: Request) -> str:
    """Return the origin in the request itself."""
    return f"{request.url.scheme}://{request.url.netloc}"


class TooLargeError(ValueError):
    """A request body exceeds its limit: 413, or 400 where the protocol says so."""

    def __init__(self, message: str, status: int = 413) -> None:
        super().__init__(message)
        self.status = status


def cas_route(base_path: str, method: str, path: str, endpoint: Endpoint) -> Route:
    """Return a CAS route that turns errors of its endpoint into responses."""
    return Route(f"{base_path}{path}", _with_errors(endpoint), methods=[method])


def require(access: Access, request: Request, scope: Scope) -> XetGrant:
    """Verify the request's token, and return what it allows.

    :raises AccessError: 401 without a valid token; 403 if its scope is insufficient.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    grant = access.verify_xet_token(token.strip() if kind.lower() == "bearer" else "")
    if scope == "write" and grant.scope != "write":
        raise AccessError(403, f"Uploading to {grant.repository} needs a write token; this one is for reading.")
    return grant


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response with an error message."""
    return JSONResponse({"error": message}, status, headers)


def require_prefix(request: Request, *known: str) -> None:
    """Check the prefix in the path.

    :raises FormatError: the prefix is unknown. Status 400 is a guess: the protocol does not specify one.
    """
    prefix = request.path_params["prefix"]
    if prefix not in known:
        raise FormatError(f"The prefix {prefix[:40]!r} is not known; use {' or '.join(known)}.")


async def read_body(request: Request, limit: int, name: str, *, too_large: int = 413) -> bytearray:
    """Read a request body.

    :param name: subject of the error message.
    :param too_large: status for a body over the limit.
    :raises TooLargeError: it exceeds ``limit`` bytes; the rest is not read.
    """
    refusal = TooLargeError(f"{name} is refused: its body exceeds {limit} bytes.", too_large)
    if announced_length(request) > limit:
        raise refusal
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise refusal
    return body


def announced_length(request: Request) -> int:
    """Return the length of the body that the client announced; 0 where it announced none."""
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def raw_target(request: Request) -> str:
    """Return path and query as they arrived, which is what a URL's signature covers."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return f"{path.decode('latin-1')}?{request.scope['query_string'].decode('latin-1')}"


def _with_errors(endpoint: Endpoint) -> Endpoint:
    async def respond(request: Request) -> Response:
        try:
            return await endpoint(request)
        except AccessError as error:
            return error_response(error.status, error.message)
        except FormatError as error:
            return error_response(400, str(error))
        except (UnknownFileError, UnknownXorbError) as error:
            return error_response(404, str(error))
        except TooLargeError as error:
            return error_response(error.status, str(error))
        except UnsatisfiableRangeError as error:
            return error_response(416, str(error), {"Content-Range": error.content_range})
        except ClientDisconnect:
            _log.info("The client disconnected during %s %s.", request.method, request.url.path)
            return Response(status_code=499)

    update_wrapper(respond, endpoint)  # the OpenAPI description reads its name and docstring
    return respond
