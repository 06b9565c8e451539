"""The git LFS batch API, with which Python clients upload file objects and JavaScript clients request a Xet token.

There are three upload transfers: ``xet``, ``basic`` (one PUT) and ``multipart`` (a PUT for each part, then a POST that
lists them), and one download transfer, ``basic``. The URLs of ``basic`` and ``multipart`` are signed, because clients
send no credential there. Source: ``huggingface_hub`` 2.4 (``lfs.py``), ``@huggingface/hub`` 2.17 (``commit.ts``), the
git LFS batch API.

A multipart upload has no state between its requests. Each part is stored as a file that no repository can read, and
the ``ETag`` in the response is a signed receipt for it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.content.store import ContentStore, StoredFile
from xethub_local.formats.hashing import HASH_HEX
from xethub_local.http.json_fields import text_field
from xethub_local.hub.files import Download, download_response, xet_token_headers
from xethub_local.hub.readable import readable_file
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, web_path
from xethub_local.repo import DEFAULT_REVISION
from xethub_local.store.errors import BadRequestError, HubError

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_MAX_OBJECT = 50 * 1024**3
_MAX_PARTS = 1000
_PIECE = 1024 * 1024
# A multiple of the size of the xorbs of plain bytes, so that the joined file reuses the xorbs of its parts.
PART_BYTES = 16 * 1024 * 1024


def api_routes(hub: HubBackend) -> list[Route]:
    """Return the routes that upload, verify and download objects."""
    one = "/api/{kind}/{namespace}/{name}/lfs-objects"
    part = f"{one}/{{oid}}/parts/{{number}}"
    return [
        hub_route(hub, f"{one}/verify", verify, "POST"),
        hub_route(hub, f"{one}/{{oid}}", upload, "PUT", max_body=_MAX_OBJECT, identifies=False),
        hub_route(hub, part, upload_part, "PUT", max_body=_MAX_OBJECT, identifies=False),
        hub_route(hub, f"{one}/{{oid}}/complete", complete, "POST", identifies=False),
        hub_route(hub, f"{one}/{{oid}}/content", download, "GET", "HEAD", identifies=False),
    ]


def batch_route(hub: HubBackend, kind: str) -> Route:
    """Return the batch route of one type of repository."""
    return hub_route(hub, f"{web_path(kind)}.git/info/lfs/objects/batch", batch, "POST", kind=kind)


def batch(request: HubRequest) -> Response:
    """Return for each object whether and how to upload it, or where to download it."""
    body = request.json()
    operation = text_field(body, "operation")
    if operation not in ("upload", "download"):
        raise BadRequestError(f"The LFS operation {operation!r} is not known; use 'upload' or 'download'.")
    items, transfers = body.get("objects"), body.get("transfers", ["basic"])
    if not isinstance(items, list) or not isinstance(transfers, list):
        raise BadRequestError("The fields 'objects' and 'transfers' must be lists.")
    if operation == "upload":  # the request does not say whether a commit or a pull request will follow
        request.require_files()
        request.hub.access.check_proposer(request.identity, request.repository)
    else:
        request.require("read")
    objects = [_object(item) for item in items]
    if operation == "download":
        transfer, answers = "basic", [_to_download(request, oid, size) for oid, size in objects]
    else:
        transfer = _transfer(transfers, objects)
        ref = body.get("ref")
        revision = text_field(ref, "name", DEFAULT_REVISION) if isinstance(ref, dict) else DEFAULT_REVISION
        answers = [_to_upload(request, transfer, revision, oid, size) for oid, size in objects]
    return JSONResponse({"transfer": transfer, "objects": answers, "hash_algo": "sha256"}, media_type=_MEDIA_TYPE)


def upload(request: HubRequest) -> Response:
    """Store the bytes of an object, authorised by the signed URL."""
    _verify_url(request)
    oid = request.param("oid")
    received = _received(request)
    if received != (request.number("size", 0), oid):
        raise BadRequestError(
            f"The upload to {request.repository} has {received[0]} bytes with sha256 {received[1]}, "
            f"not {request.number('size', 0)} bytes with sha256 {oid}."
        )
    request.hub.content.add_plain(request.body, repository=request.repository)
    return Response()


def upload_part(request: HubRequest) -> Response:
    """Store one part of an object, and return the receipt that the completion requires."""
    _verify_url(request)
    length, sha256 = _received(request)
    if length != request.number("size", 0):
        raise BadRequestError(
            f"Part {request.param('number')} of {request.param('oid')} has {length} bytes, "
            f"not {request.number('size', 0)}."
        )
    request.hub.content.add_plain(request.body)
    return Response(headers={"ETag": f'"{_receipt(request, request.param("number"), sha256)}"'})


def complete(request: HubRequest) -> Response:
    """Join the parts of an object, and give the repository access to it."""
    _verify_url(request)
    oid, size = request.param("oid"), request.number("size", 0)
    content = request.hub.content
    parts = _parts(request, -(-size // request.number("part", PART_BYTES)))
    joined = content.add_plain(cast(BinaryIO, io.BufferedReader(_Joined(content, parts), _PIECE)))
    if (joined.size, joined.sha256) != (size, oid):
        raise BadRequestError(
            f"The {len(parts)} parts for {request.repository} have {joined.size} bytes with sha256 {joined.sha256}, "
            f"not {size} bytes with sha256 {oid}."
        )
    content.grant(request.repository, joined.xet_hash)
    return JSONResponse({"oid": oid, "size": size}, media_type=_MEDIA_TYPE)


def download(request: HubRequest) -> Response:
    """Return the bytes of an object, or a range of them, authorised by the signed URL."""
    _verify_url(request)
    oid = request.param("oid")
    stored = request.hub.content.file_by_sha256(oid, repository=request.repository)
    if stored is None:
        raise HubError(404, f"Object {oid} is no longer in {request.repository}.")
    xet_hash, headers = stored.xet_hash, {"ETag": f'"{oid}"'}

    def read(start: int, end: int) -> Iterator[bytes]:
        return request.hub.content.read_file(xet_hash, start, end)

    return download_response(request, Download(stored.size, "application/octet-stream", headers, read))


def verify(request: HubRequest) -> Response:
    """Check that an object was uploaded."""
    oid, size = _object(request.json())
    request.hub.access.check_proposer(request.identity, request.repository)
    stored = readable_file(request, oid)
    if stored is None or stored.size != size:
        raise HubError(404, f"Object {oid} with {size} bytes was not uploaded to {request.repository}.")
    return JSONResponse({"oid": oid, "size": size}, media_type=_MEDIA_TYPE)


class _Joined(io.RawIOBase):
    """A stream of the bytes of several stored files, one after the other."""

    def __init__(self, content: ContentStore, files: list[StoredFile]) -> None:
        self._pieces = itertools.chain.from_iterable(content.read_file(file.xet_hash) for file in files)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return that the stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the current piece; return 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _parts(request: HubRequest, expected: int) -> list[StoredFile]:
    listed = request.json().get("parts")
    receipts: dict[object, object] = {}
    for part in listed if isinstance(listed, list) else []:
        if isinstance(part, dict) and isinstance(number := part.get("partNumber"), int):
            receipts[number] = part.get("etag")
    if receipts.keys() != set(range(1, expected + 1)):
        raise BadRequestError(
            f"The field 'parts' must list the parts 1 to {expected} of {request.param('oid')}, each with its etag."
        )
    return [_stored_part(request, number, receipts[number]) for number in range(1, expected + 1)]


def _stored_part(request: HubRequest, number: int, etag: object) -> StoredFile:
    receipt = etag.strip('"') if isinstance(etag, str) else ""
    # Knowing a sha256 must not give access to the file, so only a receipt that was issued for this part is accepted.
    request.hub.access.verify_data_url(_receipt_of(request, number) + receipt)
    stored = request.hub.content.file_by_sha256(receipt[:64])
    if stored is None:
        raise BadRequestError(f"Part {number} of {request.param('oid')} is missing; upload it again.")
    return stored


def _receipt(request: HubRequest, number: str, sha256: str) -> str:
    prefix = _receipt_of(request, number)
    return request.hub.access.sign_data_url(prefix + sha256).removeprefix(prefix)


def _receipt_of(request: HubRequest, number: str | int) -> str:
    return f"/api/{request.repository}/lfs-objects/{request.param('oid')}/stored/{number}?sha256="


def _received(request: HubRequest) -> tuple[int, str]:
    """Return the length and the sha256 of the body, and rewind it."""
    digest, length = hashlib.sha256(), 0
    while piece := request.body.read(_PIECE):
        digest.update(piece)
        length += len(piece)
    request.body.seek(0)
    return length, digest.hexdigest()


def _verify_url(request: HubRequest) -> None:
    scope = request.http.scope
    request.hub.access.verify_data_url(f"{scope['path']}?{scope['query_string'].decode('latin-1')}")


def _object(item: object) -> tuple[str, int]:
    oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if not isinstance(oid, str) or not HASH_HEX.fullmatch(oid) or not isinstance(size, int) or size < 0:
        raise BadRequestError("Each LFS object must have 'oid', a sha256 of 64 hex digits, and 'size', in bytes.")
    return oid, size


def _transfer(offered: list[Any], objects: list[tuple[str, int]]) -> str:
    if "xet" in offered:
        return "xet"
    return "multipart" if "multipart" in offered and any(size > PART_BYTES for _, size in objects) else "basic"


def _to_upload(request: HubRequest, transfer: str, revision: str, oid: str, size: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": oid, "size": size}
    if readable_file(request, oid) is not None:
        return answer
    if transfer == "xet":
        return answer | {"actions": _xet_actions(request, revision)}
    upload_action = (
        _multipart_action(request, oid, size)
        if transfer == "multipart" and size > PART_BYTES
        else _signed_action(request, f"{oid}?size={size}")
    )
    verify_action = {"href": f"{request.origin}/api/{request.repository}/lfs-objects/verify", "header": {}}
    return answer | {"actions": {"upload": upload_action, "verify": verify_action}}


def _to_download(request: HubRequest, oid: str, size: int) -> dict[str, Any]:
    stored = request.hub.content.file_by_sha256(oid, repository=request.repository)
    if stored is None or stored.size != size:
        missing = f"Object {oid} with {size} bytes is not in {request.repository}."
        return {"oid": oid, "size": size, "error": {"code": 404, "message": missing}}
    action = _signed_action(request, f"{oid}/content?size={size}")
    return {"oid": oid, "size": size, "authenticated": True, "actions": {"download": action}}


def _signed_action(request: HubRequest, target: str) -> dict[str, Any]:
    href = request.hub.access.sign_data_url(f"/api/{request.repository}/lfs-objects/{target}")
    return {"href": request.origin + href, "header": {}, "expires_in": int(request.hub.access.data_url_life)}


def _multipart_action(request: HubRequest, oid: str, size: int) -> dict[str, Any]:
    """Return an action whose ``header`` holds the size of a part and the URL of each part, as clients expect."""
    part = PART_BYTES * max(1, -(-size // (PART_BYTES * _MAX_PARTS)))
    action = _signed_action(request, f"{oid}/complete?size={size}&part={part}")
    action["header"]["chunk_size"] = str(part)
    for number, start in enumerate(range(0, size, part), 1):
        signed = _signed_action(request, f"{oid}/parts/{number}?size={min(part, size - start)}")
        action["header"][f"{number:05}"] = signed["href"]
    return action


def _xet_actions(request: HubRequest, revision: str) -> dict[str, Any]:
    token, expiry = request.hub.access.issue_xet_token(request.identity, "write", request.repository, revision)
    quoted = revision.replace("%", "%25").replace("/", "%2F")
    return {
        "upload": {
            "href": f"{request.origin}/api/{request.repository}/xet-write-token/{quoted}",
            "header": {**xet_token_headers(request, token, expiry), "X-Xet-Session-Id": "local"},
        }
    }
