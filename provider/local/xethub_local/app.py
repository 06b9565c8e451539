"""The local Hub as one ASGI application: Hub routes, CAS routes, pages, faults and the request log."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Collection
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xethub_local.cas import routes as cas_routes
from xethub_local.cas.request import origin_of
from xethub_local.control import api as control_api
from xethub_local.control.fault_middleware import FaultMiddleware
from xethub_local.control.faults import Faults
from xethub_local.control.request_log import ROUTE, RequestLog, RequestLogMiddleware
from xethub_local.control.server_state import ServerState
from xethub_local.http.cors import Cors
from xethub_local.hub import (
    buckets,
    cards,
    commits,
    discussions,
    files,
    gates,
    large_files,
    lfs,
    listing,
    refs,
    repositories,
    token_exchange,
)
from xethub_local.hub.hosts import KnownHosts
from xethub_local.hub.request import HubBackend, HubRequest, hub_route
from xethub_local.local_store import LocalStore
from xethub_local.metadata.repositories import KINDS
from xethub_local.metadata.revision_files import RevisionFiles
from xethub_local.openapi.document import openapi_route
from xethub_local.pages import missing
from xethub_local.pages import routes as page_routes
from xethub_local.store.access import Access
from xethub_local.store.errors import HubError

_CONTROL = control_api.PREFIX.encode()


def build_app(
    store: LocalStore | Path,
    *,
    public_url: str | Callable[[], str] | None = None,
    hosts: Collection[str] = (),
    any_address: bool = False,
    origins: Collection[str] = (),
    faults: Faults | None = None,
    log: RequestLog | None = None,
) -> ASGIApp:
    """Return the application over a data folder.

    :param public_url: origin at which clients reach this server, without trailing slash. Default: the ``Host`` of each
        request, so that a container may reach it under a name of its own.
    :param hosts, any_address: see :class:`xethub_local.hub.hosts.KnownHosts`.
    :param origins: see :class:`xethub_local.http.cors.Cors`.
    """
    store = store if isinstance(store, LocalStore) else LocalStore(store)
    control = ServerState(store, faults or Faults(), log or RequestLog(), store.access.settings)
    # hf-xet remembers uploads by CAS URL, so each data folder needs a URL of its own.
    cas_path = f"/cas/{store.instance_id}"
    origin = _origin(public_url)
    hub = HubBackend(store.repositories, store.commits, store.access, store.content, store.scans, origin, cas_path)
    web_routes: list[BaseRoute] = []
    # Models come last: their paths have no prefix and would match everything, even the page of a bucket named "raw".
    for kind in sorted(KINDS, key=lambda kind: kind == "models"):
        if kind != "buckets":
            web_routes += files.file_routes(hub, kind)
            web_routes.append(lfs.batch_route(hub, kind))
        web_routes += page_routes.routes(hub, store.bucket_files, kind)
    routes: list[BaseRoute] = [
        *cas_routes.routes(
            store.content,
            store.access,
            base_path=cas_path,
            origin=origin,
            in_revision=RevisionFiles(store.repositories).has,
            on_report=control.log.add_report,
        ),
        openapi_route(),
        *control_api.routes(control, origin),
        *page_routes.local_routes(hub, control.log, control.faults, store.publishers),
        Mount(control_api.PREFIX.rstrip("/"), _no_control_route),
        hub_route(hub, "/api/agent-harnesses", _no_harnesses, "GET", identifies=False),
        *token_exchange.routes(hub, store.publishers, store.issuer),
        *buckets.routes(hub, store.bucket_files),
        *repositories.routes(hub),
        *cards.routes(hub),
        *large_files.routes(hub),
        *listing.routes(hub),
        *lfs.api_routes(hub),
        *commits.routes(hub),
        *discussions.routes(hub),
        *gates.routes(hub),
        *refs.routes(hub),
        *files.api_routes(hub),
        page_routes.index_route(hub, store.bucket_files),
        *web_routes,
    ]
    app = Starlette(routes=routes, exception_handlers=missing.handlers(hub))
    app.router.redirect_slashes = False
    route_of = _record_templates(routes, cas_path)
    plain = _CommonHeaders(app, store.access)
    faulty = FaultMiddleware(plain, control.faults, store.access.now)
    logged = Cors(RequestLogMiddleware(faulty, control.log, route_of), origins)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        # Control requests must work whatever faults are armed, and they leave no trace in the request log.
        is_control = scope["type"] == "http" and scope["raw_path"].startswith(_CONTROL)
        await (plain if is_control else logged)(scope, receive, send)

    return KnownHosts(dispatch, hosts, public_url=public_url, any_address=any_address)


def _record_templates(routes: list[BaseRoute], cas_path: str) -> Callable[[Scope], str]:
    """Make each route record its path template for the request log.

    :return: a function that finds the template for a request that no route has answered, such as one that a fault
        answered first.
    """
    templates = []
    for route in routes:
        if isinstance(route, Route):
            template = route.path_format.replace(cas_path, "/cas/{instance}")
            templates.append((route.path_regex, route.methods or (), template))
            route.app = _TemplateRecorder(route.app, template)

    def route_of(scope: Scope) -> str:
        path = scope["raw_path"].decode("latin-1")
        found = [template for regex, methods, template in templates if scope["method"] in methods and regex.match(path)]
        return found[0] if found else "(no route)"

    return route_of


class _TemplateRecorder:
    """Wraps the application of one route and records in the scope that it was reached."""

    def __init__(self, app: ASGIApp, template: str) -> None:
        self._app = app
        self._template = template

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if ROUTE in scope:
            scope[ROUTE].append(f"{scope['method']} {self._template}")
        await self._app(scope, receive, send)


@lru_cache(4)
def _http_date(second: int) -> bytes:
    """Return the ``Date`` header of a second; thousands of responses share one."""
    return formatdate(second, usegmt=True).encode()


class _CommonHeaders:
    """Adds ``Date`` and ``X-Request-Id`` to every response, and routes on the path as it arrived."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        # A random prefix and a counter: unique without reading random bytes for each request.
        self._id_prefix = secrets.token_hex(10).encode()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = _http_date(int(self._access.now()))
                request_id = b"%s%012x" % (self._id_prefix, next(self._numbers))
                message["headers"] = [
                    *message["headers"],
                    (b"date", date),
                    (b"x-request-id", request_id),
                ]
            await send(message)

        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        await self._app({**scope, "path": raw_path.decode("latin-1")}, receive, complete)


def _origin(public_url: str | Callable[[], str] | None) -> Callable[[Request], str]:
    def origin(request: Request) -> str:
        if callable(public_url):
            return public_url()
        return public_url or origin_of(request)

    return origin


def _no_harnesses(_: HubRequest) -> Response:
    """Answer that the local Hub has no agent harnesses."""
    raise HubError(404, "The local Hub has no agent harnesses.")


async def _no_control_route(*_: object) -> None:
    # Without this, the page of a model in a namespace of that name would answer.
    raise HTTPException(404)
