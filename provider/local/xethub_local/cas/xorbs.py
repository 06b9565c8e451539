"""The routes of xorbs, uploaded directly or with a grant.

Source: the Xet protocol's API page, version 1.1, and the requests of hf-xet 1.8 and @huggingface/hub 2.17.
"""

from __future__ import annotations

import secrets

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.cas.request import (
    Origin,
    cas_route,
    error_response,
    raw_target,
    read_body,
    require,
    require_prefix,
)
from xethub_local.cas.xorb_body import MAX_XORB_BODY, XorbBodyWriter
from xethub_local.content.store import ContentStore
from xethub_local.content.xorb_grants import (
    UncommittedXorb,
    UncommittedXorbs,
    XorbGrant,
    parse_request,
)
from xethub_local.formats import FormatError
from xethub_local.formats.hashing import from_hex
from xethub_local.store.access import Access

PREFIX = "default"
"""The only prefix for xorbs."""

_MAX_GRANT_BODY = 4096


def routes(content: ContentStore, access: Access, origin: Origin, *, base_path: str) -> list[Route]:
    """Return the routes of xorbs below the path of a CAS URL."""
    api = _Xorbs(content, access, origin, base_path)
    return [
        cas_route(base_path, "POST", "/v1/xorb-grants/{prefix}/{hash}", api.give_grant),
        cas_route(base_path, "PUT", "/uploads/{hash}", api.upload),
        cas_route(base_path, "POST", "/v1/xorb-commits/{prefix}/{hash}/grant/{grant}", api.commit),
        cas_route(base_path, "POST", "/v1/xorbs/{prefix}/{hash}", api.add),
        cas_route(base_path, "HEAD", "/v1/xorbs/{prefix}/{hash}", api.find),
    ]


class _Xorbs:
    """The endpoints, over one content store."""

    def __init__(self, content: ContentStore, access: Access, origin: Origin, base_path: str) -> None:
        self._content = content
        self._access = access
        self._origin = origin
        self._base_path = base_path
        self._writer = XorbBodyWriter()
        self._uncommitted = UncommittedXorbs(access.now)

    async def find(self, request: Request) -> Response:
        """Report whether a xorb is stored here, and its size."""
        require(self._access, request, "read")
        require_prefix(request, PREFIX)
        size = self._content.xorbs.size(request.path_params["hash"])
        return Response(status_code=200, headers={"Content-Length": str(size)})

    async def add(self, request: Request) -> Response:
        """Check a serialized xorb completely and store it."""
        require(self._access, request, "write")
        require_prefix(request, PREFIX)
        with self._content.xorbs.begin_upload(request.path_params["hash"]) as incoming:
            await self._writer.write_body(request, incoming)
            was_inserted = await run_in_threadpool(lambda: self._content.xorbs.store(incoming, incoming.finish()))
        return JSONResponse({"was_inserted": was_inserted})

    async def give_grant(self, request: Request) -> Response:
        """Return a signed URL for uploading a xorb, or report that it is already stored."""
        repository = require(self._access, request, "write").repository
        require_prefix(request, PREFIX)
        xorb_hash = request.path_params["hash"]
        from_hex(xorb_hash)
        length, checksum = parse_request(
            await read_body(request, _MAX_GRANT_BODY, "The request for a grant"), MAX_XORB_BODY
        )
        await run_in_threadpool(self._uncommitted.discard_expired)
        if self._content.xorbs.has(xorb_hash):
            return JSONResponse({"was_inserted": False})
        grant = XorbGrant(secrets.token_hex(16), repository, length, checksum)
        target = self._access.sign_data_url(f"{self._base_path}/uploads/{xorb_hash}?{grant.to_query()}")
        url = f"{self._origin(request)}{target}"
        return JSONResponse({"id": grant.grant_id, "method": "PUT", "url": url, "headers": {}}, 201)

    async def upload(self, request: Request) -> Response:
        """Check a xorb uploaded to its signed URL, and keep it until it is committed."""
        # This request has no token: the signed URL contains the permission.
        self._access.verify_data_url(raw_target(request))
        grant = XorbGrant.from_query(request.url.query)
        xorb_hash = request.path_params["hash"]
        if self._content.xorbs.has(xorb_hash):
            return error_response(412, f"Xorb {xorb_hash} is already stored here.")
        announced = request.headers.get("content-length")
        if announced != str(grant.length):
            raise FormatError(
                f"Xorb {xorb_hash} is refused: its grant is for {grant.length} bytes, "
                f"but the client announced {announced or 'an unknown number'}."
            )
        incoming = self._content.xorbs.begin_upload(xorb_hash)
        try:
            await self._writer.write_body(request, incoming)
            grant.check(incoming)
            found = await run_in_threadpool(incoming.finish)
        except BaseException:
            incoming.discard()
            raise
        expires_at = self._access.now() + self._access.data_url_life
        self._uncommitted.add(grant.grant_id, UncommittedXorb(incoming, found, grant.repository, expires_at))
        return Response(status_code=200)

    async def commit(self, request: Request) -> Response:
        """Store a xorb that was uploaded with a grant."""
        repository = require(self._access, request, "write").repository
        require_prefix(request, PREFIX)
        xorb_hash = request.path_params["hash"]
        upload = self._uncommitted.take(request.path_params["grant"], repository, xorb_hash)
        if upload is not None:
            with upload.incoming as incoming:
                was_inserted = await run_in_threadpool(self._content.xorbs.store, incoming, upload.found)
            return JSONResponse({"was_inserted": was_inserted})
        if self._content.xorbs.has(xorb_hash):  # committed before, or already stored
            return JSONResponse({"was_inserted": False})
        return error_response(404, f"Xorb {xorb_hash} was not uploaded with this grant; request a new one.")
