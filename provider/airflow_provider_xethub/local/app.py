"""The local Hub as one ASGI application: Hub routes, CAS routes, pages, faults and the request log."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_xethub.local import (
    cas_api,
    hub_buckets,
    hub_commit,
    hub_files,
    hub_lfs,
    hub_listing,
    hub_repositories,
    pages,
)
from airflow_provider_xethub.local.access import EVERYTHING, Access, load_signing_key
from airflow_provider_xethub.local.buckets import BucketFiles
from airflow_provider_xethub.local.commits import CommitWriter
from airflow_provider_xethub.local.content import ContentStore
from airflow_provider_xethub.local.data_folder import write_once
from airflow_provider_xethub.local.database import Database
from airflow_provider_xethub.local.faults import FaultMiddleware, Faults
from airflow_provider_xethub.local.hub_errors import HubError
from airflow_provider_xethub.local.hub_request import Hub, HubRequest, error_response, hub_route
from airflow_provider_xethub.local.repositories import KINDS, Repositories
from airflow_provider_xethub.local.request_log import RequestLog, RequestLogMiddleware

BUILT_IN_USER = "local"
WRITE_TOKEN, READ_TOKEN = "write", "read"
_INSTANCE_FILE = "instance.id"


class LocalStore:
    """Everything of a local Hub that is kept in its data folder.

    :param folder: created if missing. Two processes may use one folder.
    :param token_life: seconds that a new Xet token lives.
    :raises OSError: the folder cannot be created, read or written.
    """

    def __init__(self, folder: Path, *, token_life: int = 900) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.instance_id = _instance_id(folder)
        self.db = Database(folder)
        self.access = Access(self.db, load_signing_key(folder), token_life=token_life)
        self.content = ContentStore(folder, self.db)
        self.repositories = Repositories(self.db, clock=lambda: self.access.clock())
        self.commits = CommitWriter(self.repositories)
        self.bucket_files = BucketFiles(self.db)
        everywhere_write = self.access.add_user(
            BUILT_IN_USER, role="write", grants={EVERYTHING: "write"}, token_name=WRITE_TOKEN
        )
        everywhere_read = self.access.add_user(
            BUILT_IN_USER, role="read", grants={EVERYTHING: "read"}, token_name=READ_TOKEN
        )
        self.tokens = {WRITE_TOKEN: everywhere_write, READ_TOKEN: everywhere_read}

    def close(self) -> None:
        """Close the database."""
        self.db.close()


def build_app(
    store: LocalStore | Path,
    *,
    public_url: str | Callable[[], str] | None = None,
    faults: Faults | None = None,
    log: RequestLog | None = None,
) -> ASGIApp:
    """Return the application over a data folder.

    :param public_url: origin that clients reach this server at, without trailing slash; by default the ``Host`` of
        each request, so that a container may reach it under another name than the machine itself.
    """
    store = store if isinstance(store, LocalStore) else LocalStore(store)
    # hf-xet remembers uploads by CAS URL: with another data folder it must be another URL.
    cas_path = f"/cas/{store.instance_id}"
    origin = _origin(public_url)
    hub = Hub(store.repositories, store.commits, store.access, store.content, origin, cas_path)
    web_routes: list[BaseRoute] = []
    for kind in ("datasets", "spaces", "models"):  # models last: their paths have no prefix and match anything
        web_routes += hub_files.file_routes(hub, kind)
        web_routes.append(hub_lfs.batch_route(hub, kind))
    for kind in sorted(KINDS, key=lambda kind: kind == "models"):
        web_routes += pages.routes(hub, store.bucket_files, kind)
    routes: list[BaseRoute] = [
        *cas_api.routes(store.content, store.access, base_path=cas_path),
        hub_route(hub, "/api/agent-harnesses", _no_harnesses, "GET", identifies=False),
        *hub_buckets.routes(hub, store.bucket_files),
        *hub_repositories.routes(hub),
        *hub_listing.routes(hub),
        *hub_lfs.api_routes(hub),
        *hub_commit.routes(hub),
        *hub_files.api_routes(hub),
        pages.index_route(hub),
        *web_routes,
    ]
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})
    app.router.redirect_slashes = False
    inner = FaultMiddleware(_Envelope(app, store.access), faults or Faults())
    return RequestLogMiddleware(inner, log or RequestLog())


class _Envelope:
    """Routes on the path as it arrived, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._access.clock(), usegmt=True).encode()
                request_id = uuid.uuid4().hex.encode()
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
        return public_url or f"{request.url.scheme}://{request.url.netloc}"

    return origin


def _no_harnesses(_: HubRequest) -> Response:
    raise HubError(404, "The local Hub has no agent harnesses.")


def _not_found(request: Request, _: Exception) -> Response:
    return error_response(HubError(404, f"The local Hub has no route {request.method} {request.scope['path']}."))


def _not_allowed(request: Request, _: Exception) -> Response:
    return error_response(HubError(405, f"{request.method} is not offered at {request.scope['path']}."))


def _instance_id(folder: Path) -> str:
    return write_once(folder / _INSTANCE_FILE, lambda: secrets.token_hex(8).encode()).decode("ascii")
