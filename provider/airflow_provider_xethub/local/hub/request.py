"""One Hub request as the route functions see it, and the answers they give.

Route functions are plain functions and run in the thread pool, because all of them ask SQLite. Paths are matched as
they arrived, percent-encoded: a revision such as ``refs%2Fpr%2F1`` is one segment.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.content.store import ContentStore
from airflow_provider_xethub.local.http.json_fields import parse_object, whole_number
from airflow_provider_xethub.local.metadata.commits import CommitWriter
from airflow_provider_xethub.local.metadata.repositories import RESERVED_NAMESPACES, Repositories
from airflow_provider_xethub.local.store.access import Access, Identity
from airflow_provider_xethub.local.store.errors import BadRequestError, HubError, RepoNotFoundError
from airflow_provider_xethub.local.store.paths import require_path
from airflow_provider_xethub.xet.repo import Scope

MAX_JSON_BYTES = 32 * 1024 * 1024
_SPOOL_BYTES = 4 * 1024 * 1024
_NO_SUCH_REPOSITORY = "FOREIGN KEY constraint failed"  # all foreign keys lead to one

PublicUrl = Callable[[Request], str]


@dataclass(frozen=True)
class HubBackend:
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

    hub: HubBackend
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
        return require_path(self.param("path"))

    def query(self, name: str) -> str:
        """Return a query parameter, empty where it is missing."""
        return self.http.query_params.get(name, "")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Whether a query parameter is set to ``1`` or ``true``; ``default`` where it is missing or empty."""
        value = self.query(name).lower()
        return value in ("1", "true") if value else default

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

        :raises AccessError: see :meth:`airflow_provider_xethub.local.store.access.Access.check`.
        """
        self.hub.access.check(self.identity, repository or self.repository, scope)

    def require_files(self, repository: str | None = None) -> None:
        """Refuse who may not read files here. Of a gated repository, others see only that they exist.

        :raises AccessError: as :meth:`require`.
        :raises HubError: 401 or 403 ``GatedRepo``: nobody let them in.
        """
        name = repository or self.repository
        self.require("read", name)
        if not self._is_let_in(name):
            raise HubError(
                403 if self.identity else 401,
                _restricted(name, self.identity),
                "GatedRepo",
            )

    @property
    def proposes(self) -> bool:
        """Whether a commit of this request is, or adds to, a pull request of who asks."""
        if self.flag("create_pr"):
            return True
        reference, _, number = self.param("revision").rpartition("/")
        if reference != "refs/pr" or self.identity is None or (known := whole_number(number)) is None:
            return False
        found = self.hub.commits.discussions.find(self.repository, known)
        return found is not None and found.author == self.user

    def require_commit(self) -> None:
        """Refuse who may neither commit to the URL's revision nor propose it in a pull request.

        :raises AccessError: as :meth:`require`.
        :raises HubError: as :meth:`require_files`.
        """
        if self.proposes:
            self.require_files()
            self.hub.access.check_proposer(self.identity, self.repository)
        else:
            self.require("write")

    def may_read_files(self, repository: str, *, is_private: bool) -> bool:
        """Whether who asks may read files of a repository that exists."""
        is_visible = not is_private or (self.identity is not None and self.identity.allows(repository, "read"))
        return is_visible and self._is_let_in(repository)

    def _is_let_in(self, repository: str) -> bool:
        gates = self.hub.repositories.gates
        if gates.mode(repository) is None:
            return True
        identity = self.identity
        return identity is not None and (
            identity.allows(repository, "write") or gates.status(repository, identity.user) == "accepted"
        )


def _restricted(repository: str, identity: Identity | None) -> str:
    kind, _, repo_id = repository.partition("/")
    what = f"Access to {kind.removesuffix('s')} {repo_id} is restricted"
    if identity is None:
        return f"{what}. You must have access to it and be authenticated to access it. Please log in."
    return f"{what} and you are not in the authorized list. Ask its owner for access."


def web_path(kind: str) -> str:
    """Return the route path of a repository's page and files; models have no prefix."""
    return ("" if kind == "models" else f"/{kind}") + "/{namespace}/{name}"


def hub_route(
    hub: HubBackend,
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
        asked = HubRequest(hub, request, identity, body, kind)
        try:
            if (moved := _moved(asked)) is not None:
                return moved
            return function(asked)
        except sqlite3.IntegrityError as error:
            if str(error) != _NO_SUCH_REPOSITORY:
                raise
            raise RepoNotFoundError(asked.repository) from error  # deleted since it was looked at

    for name in ("revision", "kind", "namespace"):
        path = path.replace(f"{{{name}}}", f"{{{name}:{name}}}")
    update_wrapper(endpoint, function)  # by which the OpenAPI description finds its name and docstring
    return Route(path, endpoint, methods=list(methods) or ["GET"])


def _moved(request: HubRequest) -> Response | None:
    """Return the way to a repository that is spelled otherwise, or was renamed, for who may see it."""
    parts = request.http.path_params
    if not {"namespace", "name"} <= parts.keys():
        return None
    name = request.hub.repositories.moved_to(request.repository)
    if name is None or not request.hub.access.may_read(request.identity, name):
        return None
    path, query = str(request.http.scope["path"]), request.http.scope["query_string"].decode("latin-1")
    path = path.replace(f"/{parts['namespace']}/{parts['name']}", f"/{name.partition('/')[2]}", 1)
    location = f"{path}?{query}" if query else path
    # Word for word the Hub's, and without its origin: the same one that was asked.
    return Response(f"Temporary Redirect. Redirecting to {location}", 307, {"Location": location}, "text/plain")


class _RevisionConvertor(StringConvertor):
    """One segment, or a pull request's reference with its slashes, which JavaScript escapes in some calls only."""

    regex = r"refs/(?:pr|convert|heads|tags)/[^/]+|[^/]+"


class _KindConvertor(StringConvertor):
    """A type of repositories with commits; other words there are no routes of ours."""

    regex = "models|datasets|spaces"


class _NamespaceConvertor(StringConvertor):
    """A namespace; a reserved one begins other addresses, which those of models would hide."""

    regex = rf"(?!(?:{'|'.join(sorted(RESERVED_NAMESPACES))})/)[^/]+"


register_url_convertor("namespace", _NamespaceConvertor())
register_url_convertor("revision", _RevisionConvertor())
register_url_convertor("kind", _KindConvertor())


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
    # A header can hold neither line breaks and other control characters nor arbitrary unicode.
    message = "".join(one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in error.message)
    headers = {"X-Error-Message": message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.extra}, error.status, headers)


def next_page_link(request: HubRequest, cursor: int | str) -> dict[str, str]:
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
