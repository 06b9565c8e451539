"""One Hub request as the route functions see it, and the answers they give.

Route functions are plain functions and run in the thread pool, because all of them ask SQLite. Paths are matched as
they arrived, percent-encoded: a revision such as ``refs%2Fpr%2F1`` is one segment.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.access import Access, Identity
from airflow_provider_xethub.local.commits import CommitWriter
from airflow_provider_xethub.local.content import ContentStore
from airflow_provider_xethub.local.hub_errors import BadRequestError, HubError
from airflow_provider_xethub.local.repositories import Repositories
from airflow_provider_xethub.repo import Scope, check_path

MAX_JSON_BYTES = 32 * 1024 * 1024
_SPOOL_BYTES = 4 * 1024 * 1024

PublicUrl = Callable[[Request], str]


@dataclass(frozen=True)
class Hub:
    """What the Hub routes work with. ``public_url`` gives the origin that clients reach this server at."""

    repositories: Repositories
    commits: CommitWriter
    access: Access
    content: ContentStore
    public_url: PublicUrl
    cas_path: str


@dataclass(frozen=True)
class HubRequest:
    """A request, who asks, and its body in a temporary file."""

    hub: Hub
    http: Request
    identity: Identity | None
    body: BinaryIO
    kind: str = ""

    @property
    def origin(self) -> str:
        """Where clients reach this server, such as ``http://127.0.0.1:7777``."""
        return self.hub.public_url(self.http)

    @property
    def cas_url(self) -> str:
        """The CAS URL that Xet tokens carry."""
        return self.origin + self.hub.cas_path

    @property
    def repository(self) -> str:
        """The repository of the URL, such as ``datasets/acme/corpus``; not known to exist."""
        return "/".join((self.kind or self.param("kind"), self.param("namespace"), self.param("name")))

    @property
    def user(self) -> str:
        """The name of who asks; empty where nobody knows."""
        return self.identity.user if self.identity else ""

    def param(self, name: str) -> str:
        """Return a decoded part of the URL's path, empty where the route has no such part.

        :raises BadRequestError: it is not UTF-8.
        """
        try:
            return unquote(self.http.path_params.get(name, ""), errors="strict")
        except UnicodeDecodeError as error:
            raise BadRequestError(f"The URL's {name} is not UTF-8.") from error

    def path(self) -> str:
        """Return the path inside the repository that the URL names.

        :raises BadRequestError: it breaks a rule.
        """
        path = self.param("path")
        try:
            check_path(path)
        except XetInputError as error:
            raise BadRequestError(str(error)) from error
        return path

    def query(self, name: str) -> str:
        """Return a query parameter, empty where it is missing."""
        return self.http.query_params.get(name, "")

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set to ``1`` or ``true``."""
        return self.query(name).lower() in ("1", "true")

    def number(self, name: str, default: int) -> int:
        """Return a query parameter that is a whole number of at least 0.

        :raises BadRequestError: it is something else.
        """
        text = self.query(name)
        if not text:
            return default
        number = whole_number(text)
        if number is None:
            raise BadRequestError(f"The query parameter {name} must be a whole number, not {text[:40]!r}.")
        return number

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object; an empty body is an empty object.

        :raises BadRequestError: it is not a JSON object.
        """
        return parse_object(self.body.read(), "The request body")

    def form_or_json(self) -> dict[str, Any]:
        """Return the body's fields, from a form (as lists of texts) or from JSON.

        :raises BadRequestError: it is neither.
        """
        if not self.http.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return self.json()
        try:
            return dict(parse_qs(self.body.read().decode("ascii"), keep_blank_values=True, errors="strict"))
        except ValueError as error:
            raise BadRequestError(f"The request body is not a form: {error}.") from error

    def require(self, scope: Scope, repository: str | None = None) -> None:
        """Refuse who may not do this in the repository of the URL, or in another one.

        :raises AccessError: see :meth:`airflow_provider_xethub.local.access.Access.check`.
        """
        self.hub.access.check(self.identity, repository or self.repository, scope)


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object; nothing but white space is an empty one.

    :raises BadRequestError: it is not JSON, or not an object.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
        if b"\\u" in text:
            # JSON can escape half a character, which neither SQLite nor a file name can hold.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"{what} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequestError(f"{what} must be a JSON object, not {type(value).__name__}.")
    return value


def whole_number(text: str) -> int | None:
    """Return a number of 1 to 18 decimal digits, or ``None`` where it is something else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def text_field(value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a text from a JSON object. ``null`` counts as missing.

    :raises BadRequestError: it is missing and has no default, or is no text.
    """
    found = value.get(name)
    if found is None:
        found = default
    if not isinstance(found, str):
        raise BadRequestError(f"The field {name!r} must be a text" + (", and is missing." if found is None else "."))
    return found


def web_path(kind: str) -> str:
    """Return the route path of a repository's page and files; models have no prefix."""
    return ("" if kind == "models" else f"/{kind}") + "/{namespace}/{name}"


def hub_route(
    hub: Hub,
    path: str,
    function: Callable[[HubRequest], Response],
    *methods: str,
    max_body: int = MAX_JSON_BYTES,
    identifies: bool = True,
    kind: str = "",
) -> Route:
    """Return a route that reads the body, identifies who asks, and runs ``function`` in the thread pool.

    :param identifies: ``False`` where the URL authorises itself and the header does not matter.
    :param kind: ``models``, ``datasets``, ``spaces`` or ``buckets``, where the path has no ``{kind}``.
    """

    async def endpoint(request: Request) -> Response:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as body:
            try:
                await _read_body(request, cast(BinaryIO, body), max_body)
                return await run_in_threadpool(answer, request, cast(BinaryIO, body))
            except HubError as error:
                return error_response(error)
            except ClientDisconnect:
                return Response(status_code=400)

    def answer(request: Request, body: BinaryIO) -> Response:
        identity = hub.access.identify(request.headers.get("authorization")) if identifies else None
        return function(HubRequest(hub, request, identity, body, kind))

    return Route(path, endpoint, methods=list(methods) or ["GET"])


async def _read_body(request: Request, body: BinaryIO, limit: int) -> None:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise HubError(413, f"The request body is larger than {limit} bytes, which is the limit of this route.")
        body.write(piece)
    body.seek(0)


def error_response(error: HubError) -> Response:
    """Return the answer for an error: JSON body, and the headers that clients read first."""
    # A header can hold neither line breaks nor arbitrary unicode.
    message = " ".join(error.message.split()).encode("ascii", "backslashreplace").decode()
    headers = {"X-Error-Message": message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.extra}, error.status, headers)


def next_page_link(request: HubRequest, cursor: int) -> dict[str, str]:
    """Return the ``Link`` header that leads to the page beginning at ``cursor``."""
    parameters = [(key, value) for key, value in request.http.query_params.multi_items() if key != "cursor"]
    query = "&".join(f"{quote(key)}={quote(value)}" for key, value in (*parameters, ("cursor", str(cursor))))
    return {"Link": f'<{request.origin}{request.http.scope["path"]}?{query}>; rel="next"'}


def page_response(request: HubRequest, items: Sequence[Any], describe: Callable[[Any], object], limit: int) -> Response:
    """Return one page of a list as JSON, with a ``Link`` to the next one and the total."""
    start = request.number("cursor", 0)
    limit = max(1, min(limit, request.number("limit", limit)))
    headers = {"X-Total-Count": str(len(items))}
    if start + limit < len(items):
        headers |= next_page_link(request, start + limit)
    return JSONResponse([describe(item) for item in items[start : start + limit]], headers=headers)


def iso_time(seconds: float) -> str:
    """Return UNIX seconds the way the Hub writes times: ``2026-01-01T00:00:00.000Z``."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
