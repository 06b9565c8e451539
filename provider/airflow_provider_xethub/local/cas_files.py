"""Files over HTTP: shards in, reconstructions and data out.

Source: the Xet protocol's API page, and what hf-xet 1.8 and @huggingface/hub 2.17 send and accept. Deduplication
queries are answered 404 on purpose ("unknown chunk").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_xethub.local.access import Access, AccessError
from airflow_provider_xethub.local.cas_request import Endpoint, cas_route, error_answer, read_body, require
from airflow_provider_xethub.local.content import ContentStore, UnknownFileError
from airflow_provider_xethub.local.formats import reconstruction
from airflow_provider_xethub.local.formats.byte_range import content_range, parse_range
from airflow_provider_xethub.local.formats.hashing import from_hex
from airflow_provider_xethub.local.shard_progress import shard_frames
from airflow_provider_xethub.local.xorb_store import UnknownXorbError

MAX_SHARD_BODY = 128 * 1024 * 1024

_SEND_BYTES = 1024 * 1024
_FEW_BYTES = 64 * 1024

ToJson = Callable[[reconstruction.Reconstruction, Callable[[str, reconstruction.FetchRange], str]], dict[str, Any]]


def routes(content: ContentStore, access: Access, *, base_path: str) -> list[Route]:
    """Return the routes of shards, reconstructions and data beneath a CAS URL's path."""
    api = _Files(content, access, base_path)
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/chunks/{prefix}/{hash}", api.find_chunk),
        ("POST", "/v1/shards", api.add_shard_v1),
        ("POST", "/v2/shards", api.add_shard_v2),
        ("GET", "/v1/reconstructions/{hash}", partial(api.reconstruct, reconstruction.to_json_v1)),
        ("GET", "/v2/reconstructions/{hash}", partial(api.reconstruct, reconstruction.to_json_v2)),
        ("GET", "/data/{hash}", api.send_data),
    ]
    return [cas_route(base_path, method, path, endpoint) for method, path, endpoint in table]


class _Files:
    """The endpoints, over one content store."""

    def __init__(self, content: ContentStore, access: Access, base_path: str) -> None:
        self._content = content
        self._access = access
        self._base_path = base_path

    async def find_chunk(self, request: Request) -> Response:
        require(self._access, request, "read")
        return error_answer(404, "Deduplication across uploads is not offered here.")

    async def add_shard_v1(self, request: Request) -> Response:
        grant = require(self._access, request, "write")
        body = await read_body(request, MAX_SHARD_BODY, "The shard")
        receipt = await run_in_threadpool(self._content.add_shard, body, repository=grant.repository)
        return JSONResponse({"result": int(receipt.is_new)})

    async def add_shard_v2(self, request: Request) -> Response:
        grant = require(self._access, request, "write")
        body = await read_body(request, MAX_SHARD_BODY, "The shard")
        register = partial(self._content.add_shard, body, repository=grant.repository)
        return StreamingResponse(shard_frames(register), media_type="application/x-ndjson")

    async def reconstruct(self, to_json: ToJson, request: Request) -> Response:
        grant = require(self._access, request, "read")
        xet_hash = request.path_params["hash"]
        from_hex(xet_hash)
        file = self._content.file(xet_hash)
        if file is None:
            raise UnknownFileError(f"File {xet_hash} is not stored here.")
        if not self._content.is_readable(grant.repository, xet_hash):
            raise AccessError(
                403,
                f"File {xet_hash} was never uploaded or committed to {grant.repository}, which this token is for.",
            )
        start, end = parse_range(request.headers.get("range"), file.size) or (0, None)
        plan = self._content.reconstruct(xet_hash, start, end)
        origin = f"{request.url.scheme}://{request.url.netloc}"
        return JSONResponse(to_json(plan, partial(self._data_url, origin)))

    async def send_data(self, request: Request) -> Response:
        self._access.verify_data_url(_raw_target(request))
        signed_start, signed_end = map(int, request.query_params["range"].split("-"))
        xorb_hash = request.path_params["hash"]
        path = self._content.xorb_path(xorb_hash)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise UnknownXorbError(f"Xorb {xorb_hash} is not stored here.") from None
        asked = parse_range(request.headers.get("range"), size)
        start, end = asked or (signed_start, signed_end)
        if start < signed_start or end > signed_end:
            raise AccessError(
                403,
                f"This data URL is for bytes {signed_start} to {signed_end - 1}, not for {start} to {end - 1}.",
            )
        headers = {"Content-Range": content_range(start, end, size), "Content-Length": str(end - start)}
        if end - start <= _FEW_BYTES:
            body = self._content.xorb_bytes(xorb_hash, start, end - 1)
            return Response(body, 206, headers, "application/octet-stream")
        return StreamingResponse(_file_bytes(path, start, end), 206, headers, "application/octet-stream")

    def _data_url(self, origin: str, xorb_hash: str, fetch: reconstruction.FetchRange) -> str:
        target = f"{self._base_path}/data/{xorb_hash}?range={fetch.start}-{fetch.end}"
        return origin + self._access.sign_data_url(target)


def _raw_target(request: Request) -> str:
    """Return path and query as they arrived, which is what the signature of a data URL is made of."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return f"{path.decode('latin-1')}?{request.scope['query_string'].decode('latin-1')}"


async def _file_bytes(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    file = await run_in_threadpool(path.open, "rb", 0)
    try:
        await run_in_threadpool(file.seek, start)
        while start < end:
            piece = await run_in_threadpool(file.read, min(_SEND_BYTES, end - start))
            if not piece:
                return
            start += len(piece)
            yield piece
    finally:
        file.close()
