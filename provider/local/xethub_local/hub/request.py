"""A Hub request as route functions receive it, and the responses that they return.

Route functions are plain functions and run in the thread pool, because all of them query SQLite. Paths are matched as
they arrived, percent-encoded, so that a revision such as ``refs%2Fpr%2F1`` is one segment.
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

from xethub_local.content.store import ContentStore
from xethub_local.http.json_fields import parse_object, whole_number
from xethub_local.metadata.commits import CommitWriter
from xethub_local.metadata.repositories import RESERVED_NAMESPACES, Repositories, Repository
from xethub_local.metadata.scans import Scans
from xethub_local.repo import Scope
from xethub_local.store.access import Access, Identity
from xethub_local.store.errors import BadRequestError, HubError, RepoNotFoundError
from xethub_local.store.paths import require_path

MAX_JSON_BYTES = 32 * 1024 * 1024
_SPOOL_BYTES = 4 * 1024 * 1024
_NO_SUCH_REPOSITORY = "FOREIGN KEY constraint failed"  # all foreign keys refer to a repository

PublicUrl = Callable[[Request], str]


@dataclass(frozen=True)
class HubBackend:
    """The stores that Hub routes work with, and the URLs of the server.

    :param public_url: returns the origin at which the client of a request reaches the server.
    """

    repositories: Repositories
    commits: CommitWriter
    access: Access
    content: ContentStore
    scans: Scans
    public_url: PublicUrl
    cas_path: str


@dataclass(frozen=True)
class HubRequest:
    """A request, the identity of its sender, and its body in a temporary file."""

    hub: HubBackend
    http: Request
    identity: Identity | None
    body: BinaryIO
    kind: str = ""

    @property
    def origin(self) -> str:
        """The origin at which the client reaches this server, such as ``http://127.0.0.1:7777``."""
        return self.hub.public_url(self.http)

    @property
    def cas_url(self) -> str:
        """The CAS URL that Xet tokens carry."""
        return self.origin + self.hub.cas_path

    @property
    def repository(self) -> str:
        """The repository of the URL, such as ``datasets/acme/corpus``, even if it does not exist."""
        return "/".join((self.kind or self.param("kind"), self.param("namespace"), self.param("name")))

    @property
    def user(self) -> str:
        """The name of the user, or an empty string for anonymous requests."""
        return self.identity.user if self.identity else ""

    @property
    def acts_as_user(self) -> bool:
        """Whether the Hub token does what its user may do: one exchanged for an ID token does not."""
        return self.identity is not None and self.identity.exchanged is None

    def param(self, name: str) -> str:
        """Return a decoded parameter of the URL's path, or an empty string if the route has no such parameter.

        :raises BadRequestError: the parameter is not UTF-8.
        """
        try:
            return unquote(self.http.path_params.get(name, ""), errors="strict")
        except UnicodeDecodeError as error:
            raise BadRequestError(f"The URL's {name} is not UTF-8.") from error

    def path(self) -> str:
        """Return the path inside the repository from the URL.

        :raises BadRequestError: the path is not valid.
        """
        return require_path(self.param("path"))

    def query(self, name: str) -> str:
        """Return a query parameter, or an empty string if it is missing."""
        return self.http.query_params.get(name, "")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return whether a query parameter is ``1`` or ``true``; ``default`` if it is missing or empty."""
        value = self.query(name).lower()
        return value in ("1", "true") if value else default

    def number(self, name: str, default: int) -> int:
        """Return a query parameter that is a whole number of at least 0.

        :raises BadRequestError: the parameter is something else.
        """
        text = self.query(name)
        if not text:
            return default
        number = whole_number(text)
        if number is None:
            raise BadRequestError(f"The query parameter {name} must be a whole number, not {text[:40]!r}.")
        return number

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body; an empty body is an empty object.

        :raises BadRequestError: the body is not a JSON object.
        """
        return parse_object(self.body.read(), "The request body")

    def form_or_json(self) -> dict[str, Any]:
        """Return the fields of the body, from a form (as lists of strings) or from JSON.

        :raises BadRequestError: the body is neither.
        """
        if not self.http.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return self.json()
        try:
            return dict(parse_qs(self.body.read().decode("ascii"), keep_blank_values=True, errors="strict"))
        except ValueError as error:
            raise BadRequestError(f"The request body is not a form: {error}.") from error

    def require(self, scope: Scope, repository: str | None = None) -> None:
        """Check that the identity has this access to the repository of the URL, or to another one.

        :raises AccessError: see :meth:`xethub_local.store.access.Access.check`.
        """
        self.hub.access.check(self.identity, repository or self.repository, scope)

    def require_files(self, repository: str | None = None) -> None:
        """Check that the identity can read the content of files, for which a gated repository must grant access.

        :raises AccessError: as :meth:`require`.
        :raises HubError: 401 or 403 ``GatedRepo``: the gated repository has not granted access.
        """
        name = repository or self.repository
        self.require("read", name)
        if not self._passes_gate(name):
            raise HubError(
                403 if self.identity else 401,
                _restricted(name, self.identity),
                "GatedRepo",
            )

    @property
    def proposes(self) -> bool:
        """Whether a commit of this request opens a pull request, or adds to one that the user opened."""
        if self.flag("create_pr"):
            return True
        reference, _, number = self.param("revision").rpartition("/")
        if reference != "refs/pr" or self.identity is None or (known := whole_number(number)) is None:
            return False
        found = self.hub.commits.discussions.find(self.repository, known)
        return found is not None and found.author == self.user

    def require_commit(self) -> None:
        """Check that the identity can commit to the URL's revision, or propose the commit in a pull request.

        :raises AccessError: as :meth:`require`.
        :raises HubError: as :meth:`require_files`.
        """
        if self.proposes:
            self.require_files()
            self.hub.access.check_proposer(self.identity, self.repository)
        else:
            self.require("write")

    def can_see(self, repository: Repository) -> bool:
        """Return whether the identity can see that a repository exists."""
        return self._can_read(repository.name, is_private=repository.private)

    def can_read_files(self, repository: str, *, is_private: bool) -> bool:
        """Return whether the identity can read the content of files of an existing repository."""
        return self._can_read(repository, is_private=is_private) and self._passes_gate(repository)

    def _can_read(self, repository: str, *, is_private: bool) -> bool:
        return not is_private or (self.identity is not None and self.identity.allows(repository, "read"))

    def _passes_gate(self, repository: str) -> bool:
        gates = self.hub.repositories.gates
        if gates.mode(repository) is None:
            return True
        identity = self.identity
        return identity is not None and (
            identity.owns_gate(repository) or gates.status(repository, identity.user) == "accepted"
        )


def _restricted(repository: str, identity: Identity | None) -> str:
    kind, _, repo_id = repository.partition("/")
    what = f"Access to {kind.removesuffix('s')} {repo_id} is restricted"
    if identity is None:
        return f"{what}. You must have access to it and be authenticated to access it. Please log in."
    return f"{what} and you are not in the authorized list. Ask its owner for access."


def web_path(kind: str) -> str:
    """Return the route path of the page and the files of a repository; models have no prefix."""
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
    """Return a route that reads the body, identifies the user, and runs ``function`` in the thread pool.

    :param identifies: whether to read the ``Authorization`` header; ``False`` for signed URLs and public routes.
    :param kind: ``models``, ``datasets``, ``spaces`` or ``buckets``, if the path has no ``{kind}``.
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
        hub_request = HubRequest(hub, request, identity, body, kind)
        try:
            if (redirect := _redirect(hub_request)) is not None:
                return redirect
            return function(hub_request)
        except sqlite3.IntegrityError as error:
            if str(error) != _NO_SUCH_REPOSITORY:
                raise
            raise RepoNotFoundError(hub_request.repository) from error  # deleted while the request was handled

    for name in ("revision", "kind", "namespace"):
        path = path.replace(f"{{{name}}}", f"{{{name}:{name}}}")
    update_wrapper(endpoint, function)  # for the OpenAPI document, which needs the name and the docstring
    return Route(path, endpoint, methods=list(methods) or ["GET"])


def _redirect(request: HubRequest) -> Response | None:
    """Return a redirect if the repository was renamed or has another spelling, and the user can see it."""
    parts = request.http.path_params
    if not {"namespace", "name"} <= parts.keys():
        return None
    name = request.hub.repositories.moved_to(request.repository)
    if name is None or not request.hub.access.may_read(request.identity, name):
        return None
    path, query = str(request.http.scope["path"]), request.http.scope["query_string"].decode("latin-1")
    path = path.replace(f"/{parts['namespace']}/{parts['name']}", f"/{name.partition('/')[2]}", 1)
    location = f"{path}?{query}" if query else path
    # The same words as the real Hub's, and without an origin, so that the client stays on the one it uses.
    return Response(f"Temporary Redirect. Redirecting to {location}", 307, {"Location": location}, "text/plain")


class _RevisionConvertor(StringConvertor):
    """One segment, or a full reference with slashes, which JavaScript clients escape in some calls only."""

    regex = r"refs/(?:pr|convert|heads|tags)/[^/]+|[^/]+"


class _KindConvertor(StringConvertor):
    """A type of repository that has commits."""

    regex = "models|datasets|spaces"


class _NamespaceConvertor(StringConvertor):
    """A namespace that is not reserved: the URLs of models would otherwise hide other routes."""

    regex = rf"(?!(?:{'|'.join(sorted(RESERVED_NAMESPACES))})/)[^/]+"


register_url_convertor("namespace", _NamespaceConvertor())
register_url_convertor("revision", _RevisionConvertor())
register_url_convertor("kind", _KindConvertor())


async def _read_body(request: Request, body: BinaryIO, limit: int) -> None:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise HubError(413, f"The request body exceeds the limit of {limit:,} bytes.")
        body.write(piece)
    body.seek(0)


def error_response(error: HubError) -> Response:
    """Return the response for an error: a JSON body, and the headers that clients read first."""
    # A header cannot contain control characters, such as line breaks, or arbitrary Unicode.
    message = "".join(one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in error.message)
    headers = {"X-Error-Message": message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.extra}, error.status, headers)


def next_page_link(request: HubRequest, cursor: int | str) -> dict[str, str]:
    """Return the ``Link`` header of the page that starts at ``cursor``."""
    parameters = [(key, value) for key, value in request.http.query_params.multi_items() if key != "cursor"]
    query = "&".join(f"{quote(key)}={quote(value)}" for key, value in (*parameters, ("cursor", str(cursor))))
    return {"Link": f'<{request.origin}{request.http.scope["path"]}?{query}>; rel="next"'}


def page_response(request: HubRequest, items: Sequence[Any], describe: Callable[[Any], object], limit: int) -> Response:
    """Return one page of a list as JSON, with the total and a ``Link`` to the next page."""
    start = request.number("cursor", 0)
    limit = max(1, min(limit, request.number("limit", limit)))
    headers = {"X-Total-Count": str(len(items))}
    if start + limit < len(items):
        headers |= next_page_link(request, start + limit)
    return JSONResponse([describe(item) for item in items[start : start + limit]], headers=headers)
