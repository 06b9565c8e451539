"""Xorbs over HTTP: how an upload's bytes arrive.

Source: the Xet protocol's API page, and what hf-xet 1.8 and @huggingface/hub 2.17 send and accept. Grants are
answered 404 on purpose ("not supported"); any other error there fails the client's upload.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.access import Access
from airflow_provider_xethub.local.cas_request import cas_route, error_answer, read_body, require
from airflow_provider_xethub.local.content import ContentStore

MAX_XORB_BODY = 66 * 1024 * 1024


def routes(content: ContentStore, access: Access, *, base_path: str) -> list[Route]:
    """Return the routes of xorbs beneath a CAS URL's path."""
    api = _Xorbs(content, access)
    return [
        cas_route(base_path, "POST", "/v1/xorb-grants/{prefix}/{hash}", api.refuse_grant),
        cas_route(base_path, "POST", "/v1/xorbs/{prefix}/{hash}", api.add),
        cas_route(base_path, "HEAD", "/v1/xorbs/{prefix}/{hash}", api.find),
    ]


class _Xorbs:
    """The endpoints, over one content store."""

    def __init__(self, content: ContentStore, access: Access) -> None:
        self._content = content
        self._access = access

    async def refuse_grant(self, request: Request) -> Response:
        require(self._access, request, "write")
        return error_answer(404, "Xorb grants are not offered here; post the xorb itself.")

    async def find(self, request: Request) -> Response:
        require(self._access, request, "read")
        return Response(status_code=200 if self._content.has_xorb(request.path_params["hash"]) else 404)

    async def add(self, request: Request) -> Response:
        require(self._access, request, "write")
        xorb_hash = request.path_params["hash"]
        body = await read_body(request, MAX_XORB_BODY, f"Xorb {xorb_hash}")
        was_inserted = await run_in_threadpool(self._content.add_xorb, xorb_hash, body)
        return JSONResponse({"was_inserted": was_inserted})
