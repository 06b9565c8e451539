"""Responses to requests that match no route: the repository does not exist, or the local Hub has no such route.

Clients must be able to distinguish the two. A name without a namespace, such as ``gpt2``, is a repository on the real
Hub; the local Hub has no repositories without a namespace.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from xethub_local.hub.request import HubBackend, error_response
from xethub_local.pages import routes as pages
from xethub_local.store.access import AccessError, Identity
from xethub_local.store.errors import REPOSITORY_NOT_FOUND, HubError

_OF_A_REPOSITORY = re.compile(
    r"/api/(?P<kind>models|datasets|spaces|buckets)/(?P<api_name>[^/]+(?:/[^/]+)?)"
    r"|/(?:(?P<web_kind>datasets|spaces|buckets)/)?(?P<web_name>[^/]+)/(?:resolve|raw)/"
)
_LISTS = re.compile(r"/api/spaces/(?:hardware|templates|semantic-search|zero-gpu/quota)")

Handler = Callable[[Request, Exception], Awaitable[Response]]


def handlers(hub: HubBackend) -> Mapping[int, Handler]:
    """Return the handlers of requests that match no route, or whose method the route does not support."""

    async def missing(request: Request, error: Exception) -> Response:
        return await run_in_threadpool(_answer, hub, request, error)

    return {404: missing, 405: missing}


def _answer(hub: HubBackend, request: Request, error: Exception) -> Response:
    path = str(request.scope["path"])
    status = error.status_code if isinstance(error, HTTPException) else 404
    try:
        identity = hub.access.identify(request.headers.get("authorization"))
        if _names_no_repository(hub, path, identity):
            raise AccessError(404 if identity else 401, REPOSITORY_NOT_FOUND, "RepoNotFound")
        if status == 405:
            raise HubError(405, f"{path} does not support the method {request.method}.")
        if pages.wants_page(request):
            return pages.error_page(HubError(404, f"The page {path} does not exist."))
        raise HubError(404, f"The local Hub has no route {request.method} {path}.")
    except HubError as refusal:
        return error_response(refusal)


def _names_no_repository(hub: HubBackend, path: str, identity: Identity | None) -> bool:
    found = _OF_A_REPOSITORY.match(path)
    if found is None or _LISTS.fullmatch(path):
        return False
    kind = found["kind"] or found["web_kind"] or "models"
    name = f"{kind}/{unquote(found['api_name'] or found['web_name'])}"
    return not hub.access.may_read(identity, hub.repositories.spelling(name))
