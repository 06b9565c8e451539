"""The git LFS batch API: how file objects arrive from Python, and how JavaScript asks for a Xet token.

Source: ``huggingface_hub`` 2.4 (``basic``, whose upload sends no credential, so that its URL must authorise itself)
and ``@huggingface/hub`` 2.17 (``xet``).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.hub_commit import readable_file
from airflow_provider_xethub.local.hub_errors import BadRequestError, HubError
from airflow_provider_xethub.local.hub_files import xet_token_headers
from airflow_provider_xethub.local.hub_request import Hub, HubRequest, hub_route, text_field, web_path
from airflow_provider_xethub.repo import DEFAULT_REVISION

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_MAX_OBJECT = 50 * 1024**3
_PIECE = 1024 * 1024


def api_routes(hub: Hub) -> list[Route]:
    """Return the routes that uploads go to."""
    one = "/api/{kind}/{namespace}/{name}/lfs-objects"
    return [
        hub_route(hub, f"{one}/verify", verify, "POST"),
        hub_route(hub, f"{one}/{{oid}}", upload, "PUT", max_body=_MAX_OBJECT, identifies=False),
    ]


def batch_route(hub: Hub, kind: str) -> Route:
    """Return the batch route of one type of repository."""
    return hub_route(hub, f"{web_path(kind)}.git/info/lfs/objects/batch", batch, "POST", kind=kind)


def batch(request: HubRequest) -> Response:
    """Say for each object whether and how to upload it."""
    body = request.json()
    if text_field(body, "operation") != "upload":
        raise BadRequestError("Only the LFS operation 'upload' is offered here; download through resolve.")
    objects, transfers = body.get("objects"), body.get("transfers", ["basic"])
    if not isinstance(objects, list) or not isinstance(transfers, list):
        raise BadRequestError("The fields 'objects' and 'transfers' must be lists.")
    request.require("write")
    ref = body.get("ref")
    revision = text_field(ref, "name", DEFAULT_REVISION) if isinstance(ref, dict) else DEFAULT_REVISION
    transfer = "xet" if "xet" in transfers else "basic"
    answers = []
    for item in objects:
        oid, size = _object(item)
        answer: dict[str, Any] = {"oid": oid, "size": size}
        if readable_file(request, oid) is None:
            answer["actions"] = (
                _xet_actions(request, revision) if transfer == "xet" else _basic_actions(request, oid, size)
            )
        answers.append(answer)
    return JSONResponse({"transfer": transfer, "objects": answers, "hash_algo": "sha256"}, media_type=_MEDIA_TYPE)


def upload(request: HubRequest) -> Response:
    """Store the bytes of an object. Its signed URL says who may: no other credential is asked for."""
    scope = request.http.scope
    query = scope["query_string"].decode("latin-1")
    request.hub.access.verify_data_url(f"{scope['path']}?{query}")
    oid, size = request.param("oid"), request.number("size", 0)
    digest, length = hashlib.sha256(), 0
    while piece := request.body.read(_PIECE):
        digest.update(piece)
        length += len(piece)
    if (length, digest.hexdigest()) != (size, oid):
        raise BadRequestError(
            f"The upload to {request.repository} has {length} bytes with sha256 {digest.hexdigest()}; "
            f"announced were {size} bytes with {oid}."
        )
    request.body.seek(0)
    request.hub.content.add_plain(request.body, repository=request.repository)
    return Response()


def verify(request: HubRequest) -> Response:
    """Say whether an object has arrived."""
    oid, size = _object(request.json())
    request.require("write")
    stored = readable_file(request, oid)
    if stored is None or stored.size != size:
        raise HubError(404, f"Object {oid} with {size} bytes was not uploaded to {request.repository}.")
    return JSONResponse({"oid": oid, "size": size}, media_type=_MEDIA_TYPE)


def _object(item: object) -> tuple[str, int]:
    oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if not isinstance(oid, str) or not _SHA256.fullmatch(oid) or not isinstance(size, int) or size < 0:
        raise BadRequestError("Each LFS object must have 'oid', a sha256 of 64 hex digits, and 'size', in bytes.")
    return oid, size


def _basic_actions(request: HubRequest, oid: str, size: int) -> dict[str, Any]:
    base = f"/api/{request.repository}/lfs-objects"
    href = request.hub.access.sign_data_url(f"{base}/{oid}?size={size}")
    return {
        "upload": {"href": request.origin + href, "header": {}},
        "verify": {"href": f"{request.origin}{base}/verify", "header": {}},
    }


def _xet_actions(request: HubRequest, revision: str) -> dict[str, Any]:
    token, expiry = request.hub.access.issue_xet_token(request.identity, "write", request.repository, revision)
    quoted = revision.replace("%", "%25").replace("/", "%2F")
    return {
        "upload": {
            "href": f"{request.origin}/api/{request.repository}/xet-write-token/{quoted}",
            "header": {**xet_token_headers(request, token, expiry), "X-Xet-Session-Id": "local"},
        }
    }
