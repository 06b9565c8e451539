"""The routes of shards, reconstructions and data.

Source: the Xet protocol's API page, version 1.1, and the requests of hf-xet 1.8 and @huggingface/hub 2.17.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from xethub_local.cas.data import data_response
from xethub_local.cas.request import (
    Endpoint,
    Origin,
    cas_route,
    raw_target,
    read_body,
    require,
    require_prefix,
)
from xethub_local.cas.shard_frames import shard_frames
from xethub_local.cas.xorbs import PREFIX
from xethub_local.content.store import (
    ContentStore,
    ShardReceipt,
    StoredFile,
    UnknownFileError,
    branch_of,
)
from xethub_local.content.xorbs import UnknownXorbError
from xethub_local.formats import FormatError, chunk_windows, reconstruction
from xethub_local.formats.byte_range import parse_file_range, parse_ranges
from xethub_local.formats.hashing import from_hex
from xethub_local.store.access import Access, AccessError, XetGrant

MAX_SHARD_BODY = 64 * 1024 * 1024

MAX_BATCH_FILES = 1000
_MAX_BATCH_BODY = 256 * 1024
# The first is in the protocol; hf-xet 1.8 and @huggingface/hub 2.17 send the second.
_CHUNK_PREFIXES = ("default-merkledb", PREFIX)

InRevision = Callable[[str, str, str], bool]
"""Returns whether a file is in a revision; called with repository, revision and Xet hash."""

_BUCKETS = "buckets/"

ToJson = Callable[[reconstruction.Reconstruction, reconstruction.MakeUrl], dict[str, Any]]


def routes(
    content: ContentStore, access: Access, origin: Origin, in_revision: InRevision, *, base_path: str
) -> list[Route]:
    """Return the routes of shards, reconstructions and data below the path of a CAS URL."""
    api = _Files(content, access, origin, in_revision, base_path)
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/chunks/{prefix}/{hash}", api.find_chunk),
        ("POST", "/v1/shards", api.add_shard_v1),
        ("POST", "/v2/shards", api.add_shard_v2),
        ("HEAD", "/v1/files/{hash}", api.find_file),
        ("GET", "/v1/reconstructions", api.reconstruct_many),
        ("POST", "/v1/reconstructions", api.reconstruct_listed),
        ("GET", "/v1/reconstructions/{hash}", partial(api.reconstruct, reconstruction.to_json_v1)),
        ("GET", "/v2/reconstructions/{hash}", partial(api.reconstruct, reconstruction.to_json_v2)),
        ("GET", "/v2/file-chunk-hashes/{hash}", api.describe_chunks),
        ("GET", "/data/{hash}", api.send_data),
    ]
    return [cas_route(base_path, method, path, endpoint) for method, path, endpoint in table]


class _Files:
    """The endpoints, over one content store."""

    def __init__(
        self, content: ContentStore, access: Access, origin: Origin, in_revision: InRevision, base_path: str
    ) -> None:
        self._content = content
        self._access = access
        self._origin = origin
        self._in_revision = in_revision
        self._base_path = base_path

    async def find_chunk(self, request: Request) -> Response:
        """Find the xorb of a chunk, and return it with the xorbs uploaded together with it, as a shard."""
        grant = require(self._access, request, "read")
        require_prefix(request, *_CHUNK_PREFIXES)
        chunk_hash = request.path_params["hash"]
        # Clients ask once per file, so this must be cheap: it runs without a thread.
        xorb_hash = self._content.deduplication.find(from_hex(chunk_hash), grant.repository)
        if xorb_hash is None:
            # Send no body: hf-xet 1.8 does not read it, and would open a new connection for its next query.
            return Response(status_code=404)
        body = await run_in_threadpool(
            self._content.deduplication.build_response, xorb_hash, grant.repository, self._access.now()
        )
        return Response(body, media_type="application/octet-stream")

    async def add_shard_v1(self, request: Request) -> Response:
        """Check a shard and register its files."""
        grant = require(self._access, request, "write")
        register = await self._shard_registration(request, grant)
        receipt = await run_in_threadpool(register)
        return JSONResponse({"result": int(receipt.is_new)})

    async def add_shard_v2(self, request: Request) -> Response:
        """Check a shard and register its files, and report progress meanwhile."""
        grant = require(self._access, request, "write")
        register = await self._shard_registration(request, grant)
        return StreamingResponse(
            shard_frames(register), headers={"Cache-Control": "no-cache"}, media_type="application/x-ndjson"
        )

    async def _shard_registration(self, request: Request, grant: XetGrant) -> Callable[..., ShardReceipt]:
        body = await read_body(request, MAX_SHARD_BODY, "The shard", too_large=400)
        return partial(self._content.add_shard, body, repository=grant.repository, revision=grant.revision)

    async def find_file(self, request: Request) -> Response:
        """Report whether a file is readable, and its size."""
        grant = require(self._access, request, "read")
        file = self._readable_file(grant, request.path_params["hash"])
        return Response(status_code=200, headers={"Content-Length": str(file.size)})

    async def reconstruct(self, to_json: ToJson, request: Request) -> Response:
        """Return which chunks of which xorbs make up a file, and their URLs."""
        grant = require(self._access, request, "read")
        file = self._readable_file(grant, request.path_params["hash"])
        start, end = parse_file_range(request.headers.get("range"), file.size) or (0, None)
        found = self._content.reconstruct(file.xet_hash, start, end)
        return JSONResponse(to_json(found, partial(self._data_url, request)))

    async def reconstruct_many(self, request: Request) -> Response:
        """Return the same for several files at once."""
        grant = require(self._access, request, "read")
        return await self._reconstruct_each(request, grant, request.query_params.getlist("file_id"))

    async def reconstruct_listed(self, request: Request) -> Response:
        """Return the same for several files that the body lists."""
        grant = require(self._access, request, "read")
        body = await read_body(request, _MAX_BATCH_BODY, "The list of files")
        return await self._reconstruct_each(request, grant, _parse_keys(body))

    async def _reconstruct_each(self, request: Request, grant: XetGrant, wanted: list[str]) -> Response:
        names = list(dict.fromkeys(wanted))
        if not 0 < len(names) <= MAX_BATCH_FILES:
            raise FormatError(f"Request 1 to {MAX_BATCH_FILES} files at once, not {len(names)}.")
        files = [self._readable_file(grant, name) for name in names]
        found = await run_in_threadpool(
            lambda: {file.xet_hash: self._content.reconstruct(file.xet_hash) for file in files}
        )
        return JSONResponse(reconstruction.to_json_batch(found, partial(self._data_url, request)))

    async def describe_chunks(self, request: Request) -> Response:
        """Return which parts of a file to chunk again to change some of its bytes, and its other chunks."""
        grant = require(self._access, request, "read")
        file = self._readable_file(grant, request.path_params["hash"])
        dirty = chunk_windows.parse_dirty(request.headers.get("x-range-dirty"), file.size)
        return JSONResponse(
            await run_in_threadpool(
                lambda: chunk_windows.describe(self._content.segments_with_chunks(file.xet_hash), dirty)
            )
        )

    async def send_data(self, request: Request) -> Response:
        """Send the bytes of a xorb that a signed URL authorises."""
        self._access.verify_data_url(raw_target(request))
        signed = _parse_signed_ranges(request.query_params["range"])
        xorb_hash = request.path_params["hash"]
        path = self._content.xorbs.path(xorb_hash)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise UnknownXorbError(f"Xorb {xorb_hash} is not stored here.") from None
        ranges = parse_ranges(request.headers.get("range"), size)
        if ranges is None:
            # 403 by the protocol: the URL authorises nothing else.
            raise AccessError(403, "This data URL requires the Range header that it was issued for.")
        for start, end in ranges:
            if not any(first <= start and end <= last for first, last in signed):
                allowed = ", ".join(f"{first} to {last - 1}" for first, last in signed)
                raise AccessError(403, f"This data URL is for bytes {allowed}, not for {start} to {end - 1}.")
        return data_response(path, ranges, size)

    def _readable_file(self, grant: XetGrant, xet_hash: str) -> StoredFile:
        from_hex(xet_hash)
        file = self._content.file(xet_hash)
        if file is None:
            raise UnknownFileError(f"File {xet_hash} is not stored here.")
        if not self._may_read(grant, xet_hash):
            # The protocol limits a token to repository and revision. It is a guess that the status is 403, and not 404.
            raise AccessError(
                403,
                f"File {xet_hash} is not in {grant.repository}@{grant.revision}, which this token is for, and was "
                "not uploaded there either.",
            )
        return file

    def _may_read(self, grant: XetGrant, xet_hash: str) -> bool:
        if grant.repository.startswith(_BUCKETS):  # buckets have no revisions
            return self._content.is_readable(grant.repository, xet_hash)
        revision = branch_of(grant.revision)
        return self._content.is_uploaded(grant.repository, revision, xet_hash) or self._in_revision(
            grant.repository, revision, xet_hash
        )

    def _data_url(self, request: Request, xorb_hash: str, pieces: tuple[reconstruction.FetchRange, ...]) -> str:
        ranges = ",".join(f"{piece.start}-{piece.end}" for piece in pieces)
        target = self._access.sign_data_url(f"{self._base_path}/data/{xorb_hash}?range={ranges}")
        return f"{self._origin(request)}{target}"


def _parse_keys(body: bytes | bytearray) -> list[str]:
    """Parse the file hashes in the body of a batch request."""
    try:
        keys = json.loads(bytes(body))
        named = [(key["prefix"], key["hash"]) for key in keys if isinstance(keys, list)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f'Request files with [{{"prefix": "{PREFIX}", "hash": "0123…"}}, …].') from error
    for prefix, name in named:
        if prefix != PREFIX or not isinstance(name, str):
            raise FormatError(f"Each file needs the prefix {PREFIX!r} and its hash, 64 hex digits.")
    return [name for _, name in named]


def _parse_signed_ranges(text: str) -> list[tuple[int, int]]:
    pairs = (pair.partition("-") for pair in text.split(","))
    return [(int(start), int(end)) for start, _, end in pairs]
