"""Files over HTTP: shards in, reconstructions and data out.

Source: the Xet protocol's API page, and what hf-xet 1.8 and @huggingface/hub 2.17 send and accept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_xethub.local.access import Access, AccessError, XetGrant
from airflow_provider_xethub.local.cas_request import Endpoint, Origin, cas_route, raw_target, read_body, require
from airflow_provider_xethub.local.content import ContentStore, StoredFile, UnknownFileError
from airflow_provider_xethub.local.data_answer import data_answer
from airflow_provider_xethub.local.formats import FormatError, reconstruction
from airflow_provider_xethub.local.formats.byte_range import parse_range, parse_ranges
from airflow_provider_xethub.local.formats.hashing import from_hex
from airflow_provider_xethub.local.shard_progress import shard_frames
from airflow_provider_xethub.local.xorb_store import UnknownXorbError

MAX_SHARD_BODY = 128 * 1024 * 1024

MAX_BATCH_FILES = 1000

ToJson = Callable[[reconstruction.Reconstruction, reconstruction.MakeUrl], dict[str, Any]]


def routes(content: ContentStore, access: Access, origin: Origin, *, base_path: str) -> list[Route]:
    """Return the routes of shards, reconstructions and data beneath a CAS URL's path."""
    api = _Files(content, access, origin, base_path)
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/chunks/{prefix}/{hash}", api.find_chunk),
        ("POST", "/v1/shards", api.add_shard_v1),
        ("POST", "/v2/shards", api.add_shard_v2),
        ("GET", "/v1/reconstructions", api.reconstruct_many),
        ("GET", "/v1/reconstructions/{hash}", partial(api.reconstruct, reconstruction.to_json_v1)),
        ("GET", "/v2/reconstructions/{hash}", partial(api.reconstruct, reconstruction.to_json_v2)),
        ("GET", "/data/{hash}", api.send_data),
    ]
    return [cas_route(base_path, method, path, endpoint) for method, path, endpoint in table]


class _Files:
    """The endpoints, over one content store."""

    def __init__(self, content: ContentStore, access: Access, origin: Origin, base_path: str) -> None:
        self._content = content
        self._access = access
        self._origin = origin
        self._base_path = base_path

    async def find_chunk(self, request: Request) -> Response:
        """Say in which xorb a chunk lies, with the xorbs that were uploaded together with it, as a shard."""
        grant = require(self._access, request, "read")
        chunk_hash = request.path_params["hash"]
        # Clients ask once per file, so this must cost next to nothing: no thread for it.
        xorb_hash = self._content.deduplication.find(from_hex(chunk_hash), grant.repository)
        if xorb_hash is None:
            # Without a body: hf-xet 1.8 does not read it, and would need a new connection for its next query.
            return Response(status_code=404)
        body = await run_in_threadpool(
            self._content.deduplication.answer, xorb_hash, grant.repository, self._access.now()
        )
        return Response(body, media_type="application/octet-stream")

    async def add_shard_v1(self, request: Request) -> Response:
        """Check a shard and register its files."""
        grant = require(self._access, request, "write")
        body = await read_body(request, MAX_SHARD_BODY, "The shard")
        receipt = await run_in_threadpool(self._content.add_shard, body, repository=grant.repository)
        return JSONResponse({"result": int(receipt.is_new)})

    async def add_shard_v2(self, request: Request) -> Response:
        """Check a shard and register its files, and say meanwhile how far that is."""
        grant = require(self._access, request, "write")
        body = await read_body(request, MAX_SHARD_BODY, "The shard")
        register = partial(self._content.add_shard, body, repository=grant.repository)
        return StreamingResponse(shard_frames(register), media_type="application/x-ndjson")

    async def reconstruct(self, to_json: ToJson, request: Request) -> Response:
        """Say which chunks of which xorbs make up a file, and where to get them."""
        grant = require(self._access, request, "read")
        file = self._readable_file(grant, request.path_params["hash"])
        start, end = parse_range(request.headers.get("range"), file.size) or (0, None)
        plan = self._content.reconstruct(file.xet_hash, start, end)
        return JSONResponse(to_json(plan, partial(self._data_url, request)))

    async def reconstruct_many(self, request: Request) -> Response:
        """Say the same of several files at once."""
        grant = require(self._access, request, "read")
        names = list(dict.fromkeys(request.query_params.getlist("file_id")))
        if not 0 < len(names) <= MAX_BATCH_FILES:
            raise FormatError(f"Ask for 1 to {MAX_BATCH_FILES} files with file_id=…, not for {len(names)}.")
        files = [self._readable_file(grant, name) for name in names]
        plans = await run_in_threadpool(
            lambda: {file.xet_hash: self._content.reconstruct(file.xet_hash) for file in files}
        )
        return JSONResponse(reconstruction.to_json_batch(plans, partial(self._data_url, request)))

    async def send_data(self, request: Request) -> Response:
        """Give the bytes of a xorb that the signed URL is for."""
        self._access.verify_data_url(raw_target(request))
        signed = _parse_signed(request.query_params["range"])
        xorb_hash = request.path_params["hash"]
        path = self._content.xorb_path(xorb_hash)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise UnknownXorbError(f"Xorb {xorb_hash} is not stored here.") from None
        ranges = parse_ranges(request.headers.get("range"), size) or signed
        for start, end in ranges:
            if not any(first <= start and end <= last for first, last in signed):
                allowed = ", ".join(f"{first} to {last - 1}" for first, last in signed)
                raise AccessError(403, f"This data URL is for bytes {allowed}, not for {start} to {end - 1}.")
        return data_answer(path, ranges, size)

    def _readable_file(self, grant: XetGrant, xet_hash: str) -> StoredFile:
        from_hex(xet_hash)
        file = self._content.file(xet_hash)
        if file is None:
            raise UnknownFileError(f"File {xet_hash} is not stored here.")
        if not self._content.is_readable(grant.repository, xet_hash):
            raise AccessError(
                403,
                f"File {xet_hash} was never uploaded or committed to {grant.repository}, which this token is for.",
            )
        return file

    def _data_url(self, request: Request, xorb_hash: str, pieces: tuple[reconstruction.FetchRange, ...]) -> str:
        ranges = ",".join(f"{piece.start}-{piece.end}" for piece in pieces)
        target = self._access.sign_data_url(f"{self._base_path}/data/{xorb_hash}?range={ranges}")
        return f"{self._origin(request)}{target}"


def _parse_signed(text: str) -> list[tuple[int, int]]:
    pairs = (pair.partition("-") for pair in text.split(","))
    return [(int(start), int(end)) for start, _, end in pairs]
