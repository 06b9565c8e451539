"""The server's own OpenAPI 3.1 description: ``GET /_local/openapi.json``.

It cannot drift from what is served: paths and methods come from the route table, summaries from the docstrings of the
route functions. Only the schemas are written by hand, in the modules beside this one, keyed by route function; a test
finds routes without a schema. Web pages are left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from xethub_local import __version__
from xethub_local.openapi.cas import CAS_OPERATIONS
from xethub_local.openapi.control import CONTROL_OPERATIONS
from xethub_local.openapi.hub import HUB_OPERATIONS
from xethub_local.openapi.operation import (
    HASH,
    JSON,
    TEXT,
    Credential,
    Operation,
    Schema,
    choice,
    fields,
)

PATH = "/_local/openapi.json"
OPERATIONS: Mapping[str, Operation] = {**HUB_OPERATIONS, **CAS_OPERATIONS, **CONTROL_OPERATIONS}
"""Parameters, bodies and responses of the routes, keyed by route function, such as ``hub.commits.commit``."""

_LOCAL = "xethub_local."
_PAGES = "pages."
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_PATH_PARAMETERS: Mapping[str, Schema] = {
    "kind": choice("models", "datasets", "spaces"),
    "hash": HASH,
    "oid": HASH,
    "prefix": choice("default", "default-merkledb"),
    "scope": choice("read", "write"),
    "number": {"type": "integer", "minimum": 1},
    "id": {"type": "integer", "minimum": 1},
}
_SECURITY: Mapping[Credential, list[dict[str, list[str]]]] = {
    "hub": [{"hubToken": []}, {}],  # {}: reading public repositories needs no credential
    "xet": [{"xetToken": []}],
    "signed": [{"signedUrl": []}],
    "none": [],
}
_SECURITY_SCHEMES = {
    "hubToken": {"type": "http", "scheme": "bearer", "description": "A Hub token from `xethub-local tokens`."},
    "xetToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "A Xet token from a refresh route.",
    },
    "signedUrl": {"type": "apiKey", "in": "query", "name": "sig", "description": "A URL that this server signed."},
}
_BODILESS = frozenset({204, 304})


def openapi_route() -> Route:
    """Return the route of the OpenAPI document, which needs no credential."""
    return Route(PATH, answer_openapi, methods=["GET"])


async def answer_openapi(request: Request) -> Response:
    """Describe every route of this server."""
    return JSONResponse(describe(request.app.routes))


def describe(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of the routes. A route without a schema is listed with its path and summary only."""
    paths: dict[str, dict[str, Any]] = {}
    for route, name in described_routes(routes):
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        function = _function(route)
        for method in sorted(route.methods or ()):
            operation = _describe(method, path, function, OPERATIONS.get(name, Operation()))
            paths.setdefault(path, {})[method.lower()] = {"tags": [name.rpartition(".")[0]], **operation}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "xethub local Hub",
            "version": __version__,
            "description": "The part of the Hugging Face Hub and of Xet CAS that their clients use, and the control "
            "API of this server under `/_local/`.",
        },
        "paths": paths,
        "components": {"securitySchemes": _SECURITY_SCHEMES, "schemas": {"Error": fields({"error": TEXT})}},
    }


def described_routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[Route, str]]:
    """Yield each route except web pages, with its key in :data:`OPERATIONS`."""
    for route in routes:
        if isinstance(route, Route):
            function = _function(route)
            name = f"{function.__module__}.{function.__name__}".removeprefix(_LOCAL)
            if not name.startswith(_PAGES):
                yield route, name


def _function(route: Route) -> Callable[..., Any]:
    function = inspect.unwrap(route.endpoint)
    return function.func if isinstance(function, partial) else function


def _describe(method: str, path: str, function: Callable[..., Any], operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS.get(name, TEXT)}
        for name in _PATH_PARAMETER.findall(path)
    ]
    for location, schemas in (("query", operation.query), ("header", operation.headers)):
        parameters += [{"name": name, "in": location, "schema": schema} for name, schema in schemas.items()]
    described: dict[str, Any] = {
        "summary": (inspect.getdoc(function) or "").partition("\n")[0],
        "parameters": parameters,
        "responses": _responses(method, operation),
        "security": _SECURITY[operation.credential],
    }
    if operation.body and method not in ("GET", "HEAD"):
        content = {media_type: {"schema": schema} for media_type, schema in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(method: str, operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in operation.status:
        responses[str(status)] = {"description": "Success."}
        if operation.media_type and status not in _BODILESS and method != "HEAD":
            responses[str(status)]["content"] = {operation.media_type: {"schema": operation.response}}
    for status in operation.errors_without_body:
        responses[str(status)] = {"description": "The request failed; the response has no body."}
    responses["4XX"] = {"description": "The request failed; `error` says why and what to do."}
    if method != "HEAD":
        responses["4XX"]["content"] = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return responses
