"""Hub routes that serve files and issue Xet tokens: resolve, raw, the refresh routes.

Clients read the Xet hash, the size, the content id and the refresh route from the headers of ``resolve``, and the
Xet token from the headers or the JSON of the refresh route. Source: ``huggingface_hub`` 2.4, hf-xet 1.8,
``@huggingface/hub`` 2.17.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from xethub_local.formats import entity_tag
from xethub_local.formats.byte_range import (
    UnsatisfiableRangeError,
    content_range,
    parse_range,
)
from xethub_local.hub.listing import base_commit
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, web_path
from xethub_local.metadata.history import Commit
from xethub_local.metadata.trees import Entry, pointer_text
from xethub_local.repo import Scope
from xethub_local.store.errors import EntryNotFoundError, HubError

_FILE_INFO = "application/vnd.xet-fileinfo+json"
_BINARY = "application/octet-stream"
_TEXT = "text/plain; charset=utf-8"
_UNSAFE_IN_NAME = re.compile(r"[^ !#-\[\]-~]|%")
# Files are untrusted content at the origin of our own pages, so browsers must not run them as pages.
_INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}


@dataclass(frozen=True)
class Download:
    """A file to send.

    ``headers`` contain the ``ETag``, with its quotation marks. ``read`` yields the bytes from start to end (excluded)
    in pieces of bounded size. ``disposition`` is ``attachment``, or ``inline`` for content that browsers show as text.
    """

    size: int
    content_type: str
    headers: dict[str, str]
    read: Callable[[int, int], Iterator[bytes]]
    is_xet: bool = False
    disposition: str = "attachment"


def api_routes(hub: HubBackend) -> list[Route]:
    """Return the refresh routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/xet-read-token/{{revision}}", read_token, "GET"),
        hub_route(hub, f"{one}/xet-write-token/{{revision}}", write_token, "GET"),
    ]


def file_routes(hub: HubBackend, kind: str) -> list[Route]:
    """Return the routes of the files of one type of repository."""
    one, rest = web_path(kind), "{revision}/{path:path}"
    return [
        hub_route(hub, f"{one}/resolve/{rest}", resolve, "GET", "HEAD", kind=kind),
        hub_route(hub, f"{one}/raw/{rest}", raw, "GET", "HEAD", kind=kind),
    ]


def read_token(request: HubRequest) -> Response:
    """Issue a Xet token for reading at a revision."""
    request.require_files()
    request.hub.repositories.resolve(request.repository, request.param("revision"))
    return xet_token_response(request, "read", request.param("revision"))


def write_token(request: HubRequest) -> Response:
    """Issue a Xet token for writing to a revision that exists, or for a new pull request."""
    request.require_commit()
    base_commit(request)
    return xet_token_response(request, "write", request.param("revision"), proposes=request.proposes)


def xet_token_response(request: HubRequest, scope: Scope, revision: str, *, proposes: bool = False) -> Response:
    """Issue a Xet token and return it in headers and JSON, because clients read one or the other.

    :param proposes: whether the token is for uploading the files of a pull request.
    :raises AccessError: the Hub token does not allow this scope.
    """
    token, expiry = request.hub.access.issue_xet_token(
        request.identity, scope, request.repository, revision, proposes=proposes
    )
    return JSONResponse(
        {"accessToken": token, "exp": expiry, "casUrl": request.cas_url},
        headers=xet_token_headers(request, token, expiry) | {"Cache-Control": "no-store"},
    )


def xet_token_headers(request: HubRequest, token: str, expiry: int) -> dict[str, str]:
    """Return the headers that carry a Xet token."""
    return {
        "X-Xet-Cas-Url": request.cas_url,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expiry),
    }


def resolve(request: HubRequest) -> Response:
    """Return a file with its headers, or a range of it."""
    commit, entry = _file(request)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.sha256 or entry.oid}"'}
    if entry.xet_hash is None:
        return download_response(request, _regular(request, entry, headers))
    if not request.hub.content.is_readable(request.repository, entry.xet_hash):
        # The content was deleted permanently, its pointer was not.
        raise EntryNotFoundError(request.repository, entry.path, commit.id)
    refresh_route = f"/api/{request.repository}/xet-read-token/{commit.id}"
    headers["X-Linked-ETag"] = headers["ETag"]
    return download_response(request, xet_download(request, entry.xet_hash, entry.size, refresh_route, headers))


def raw(request: HubRequest) -> Response:
    """Return what git itself stores: the content of a regular file, the pointer of a Xet file."""
    commit, entry = _file(request)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.oid}"'}
    if entry.sha256 is None:
        return download_response(request, _regular(request, entry, headers, "inline"))
    text = pointer_text(entry.sha256, entry.size).encode()

    def read(start: int, end: int) -> Iterator[bytes]:
        return iter([text[start:end]])

    return download_response(request, Download(len(text), _TEXT, headers, read, disposition="inline"))


def xet_download(
    request: HubRequest, xet_hash: str, size: int, refresh_route: str, headers: dict[str, str]
) -> Download:
    """Return the download of a file in CAS: headers that lead to CAS, and the bytes for clients that do not use it."""
    reconstruction = f"{request.cas_url}/v1/reconstructions/{xet_hash}"
    return Download(
        size,
        _BINARY,
        {
            **headers,
            "X-Xet-Hash": xet_hash,
            "X-Linked-Size": str(size),
            "X-Xet-Refresh-Route": request.origin + refresh_route,
            "Link": f'<{request.origin}{refresh_route}>; rel="xet-auth", '
            f'<{reconstruction}>; rel="xet-reconstruction-info"',
        },
        lambda start, end: request.hub.content.read_file(xet_hash, start, end),
        is_xet=True,
    )


def download_response(request: HubRequest, download: Download) -> Response:
    """Return a file (200), a range of it (206), "not modified" (304), or "range not satisfiable" (416).

    :raises HubError: 412, the ``ETag`` of the file does not match ``If-Match``.
    """
    request_headers = request.http.headers
    headers = {**download.headers, **_INERT, "Accept-Ranges": "bytes", "Cache-Control": "no-cache", "Vary": "Accept"}
    if not request.query("noContentDisposition"):
        headers["Content-Disposition"] = _disposition(download.disposition, request.param("path").rpartition("/")[2])
    etag = headers["ETag"]
    if (if_match := request_headers.get("if-match")) is not None and not entity_tag.names(if_match, etag):
        raise HubError(412, f"The ETag of {request.param('path')!r} is {etag} now, which does not match If-Match.")
    if entity_tag.names(request_headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    if download.is_xet and _FILE_INFO in request_headers.get("accept", ""):
        return JSONResponse({}, headers=headers, media_type=_FILE_INFO)
    is_head = request.http.method == "HEAD"  # Range has no meaning there: HEAD returns the headers of the whole file
    is_ranged = not is_head and entity_tag.range_is_wanted(request_headers.get("if-range"), etag)
    wanted = request_headers.get("range") if is_ranged else None
    if download.size == 0 and wanted:
        # An empty file has no satisfiable range. It is sent whole; this header tells @huggingface/hub that it is empty.
        headers["Content-Range"], wanted = "bytes */0", None
    try:
        parsed = parse_range(wanted, download.size)
    except UnsatisfiableRangeError as error:
        return JSONResponse({"error": str(error)}, 416, headers | {"Content-Range": error.content_range})
    start, end = parsed or (0, download.size)
    headers["Content-Length"] = str(end - start)
    if parsed:
        headers["Content-Range"] = content_range(start, end, download.size)
    status = 206 if parsed else 200
    if is_head or start == end:
        return Response(status_code=status, headers=headers, media_type=download.content_type)
    return StreamingResponse(_sent(download.read(start, end)), status, headers, download.content_type)


async def _sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces that the thread pool reads, and close their file even if the client disconnects."""
    try:
        while piece := await run_in_threadpool(next, pieces, b""):
            yield piece
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


def _disposition(kind: str, filename: str) -> str:
    """Return ``Content-Disposition`` with the name twice: unchanged, and in ASCII, which Python reads."""
    if not filename:
        return kind
    return f"{kind}; filename*=UTF-8''{quote(filename, safe='')}; filename=\"{_UNSAFE_IN_NAME.sub('_', filename)}\";"


def _file(request: HubRequest) -> tuple[Commit, Entry]:
    request.require_files()
    commit = request.hub.repositories.resolve(request.repository, request.param("revision"))
    entry = request.hub.repositories.entry(request.repository, commit, request.path())
    if entry.kind == "directory":
        raise EntryNotFoundError(request.repository, entry.path, commit.id)
    return commit, entry


def _regular(request: HubRequest, entry: Entry, headers: dict[str, str], disposition: str = "attachment") -> Download:
    def read(start: int, end: int) -> Iterator[bytes]:
        return iter([request.hub.repositories.blob(entry.oid)[start:end]])

    return Download(entry.size, _TEXT, headers, read, disposition=disposition)
