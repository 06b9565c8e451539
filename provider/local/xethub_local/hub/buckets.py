"""Hub routes of buckets, which have no commits and no revisions; files are stored by their Xet hash.

Source: ``huggingface_hub`` 2.4 and ``@huggingface/hub`` 2.17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.content.store import EMPTY_FILE, StoredFile
from xethub_local.formats.hashing import HASH_HEX
from xethub_local.http.json_fields import list_field, number_field, parse_object, text_field
from xethub_local.hub.bucket_events import follow
from xethub_local.hub.files import download_response, xet_download, xet_token_response
from xethub_local.hub.readable import readable_xet_file
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, page_response
from xethub_local.hub.visibility import wants_private
from xethub_local.metadata.buckets import BucketBatch, BucketFile, BucketFiles, fold
from xethub_local.metadata.repositories import Repository
from xethub_local.repo import DEFAULT_REVISION, Scope
from xethub_local.store.access import AccessError
from xethub_local.store.errors import (
    REPOSITORY_NOT_FOUND,
    BadRequestError,
    ConflictError,
    EntryNotFoundError,
    HubError,
)
from xethub_local.store.paths import require_path
from xethub_local.store.timestamps import iso_time

_ENTRIES_PER_PAGE = 1000
_MAX_MTIME = 253_402_300_800_000  # the year 10000, in milliseconds
_MAX_BATCH_BODY = 64 * 1024 * 1024


def routes(hub: HubBackend, files: BucketFiles) -> list[Route]:
    """Return the routes of all buckets."""
    one = "/api/buckets/{namespace}/{name}"
    table: list[tuple[str, str, Callable[[HubRequest], Response]]] = [
        ("GET", "/api/buckets/{namespace}", partial(list_all, files)),
        ("POST", one, create),
        ("GET", one, partial(describe, files)),
        ("DELETE", one, delete),
        ("PUT", f"{one}/settings", settings),
        ("GET", f"{one}/tree", partial(tree, files)),
        ("GET", f"{one}/tree/{{path:path}}", partial(tree, files)),
        ("POST", f"{one}/paths-info", partial(paths_info, files)),
        ("POST", f"{one}/batch", partial(batch, files)),
        ("GET", f"{one}/events", partial(events, files)),
        ("GET", f"{one}/xet-read-token", partial(token, "read")),
        ("GET", f"{one}/xet-write-token", partial(token, "write")),
    ]
    resolve_path = "/buckets/{namespace}/{name}/resolve/{path:path}"
    return [
        *(
            hub_route(hub, path, function, method, kind="buckets", max_body=_MAX_BATCH_BODY)
            for method, path, function in table
        ),
        hub_route(hub, resolve_path, partial(resolve, files), "GET", "HEAD", kind="buckets"),
    ]


def create(request: HubRequest) -> Response:
    """Create a bucket; the namespace ``me`` stands for the user's own."""
    body = request.json()
    name = request.repository
    if request.param("namespace") == "me" and request.identity:
        name = f"buckets/{request.user}/{request.param('name')}"
    request.hub.access.check_writer(request.identity, name)
    url = f"{request.origin}/{name}"
    private = wants_private(body) or False
    try:
        bucket = request.hub.repositories.create(name, private=private, author=request.user)
    except ConflictError as error:
        raise ConflictError(error.message, url=url) from error
    return JSONResponse({"url": url, "id": bucket.id})


def describe(files: BucketFiles, request: HubRequest) -> Response:
    """Describe a bucket."""
    request.require("read")
    return JSONResponse(_summary(files, request.hub.repositories.get(request.repository)))


def list_all(files: BucketFiles, request: HubRequest) -> Response:
    """List the buckets of a namespace that the Hub token can see; the namespace ``me`` stands for the user's own."""
    namespace, search = request.param("namespace"), request.query("search").lower()
    if namespace == "me":
        if request.identity is None:
            raise AccessError(401, "Listing your own buckets requires a Hub token; none was sent.")
        namespace = request.user
    elif not _exists(request, namespace):  # it may be the name of a bucket without a namespace
        raise AccessError(404 if request.identity else 401, REPOSITORY_NOT_FOUND, "RepoNotFound")
    visible = [
        bucket
        for bucket in request.hub.repositories.find_all("buckets")
        if bucket.repo_id.split("/")[0] == namespace and search in bucket.repo_id.lower()
        if request.can_see(bucket)
    ]
    return page_response(request, visible, lambda bucket: _summary(files, bucket), _ENTRIES_PER_PAGE)


def _exists(request: HubRequest, namespace: str) -> bool:
    known = {name for identity in request.hub.access.identities() for name in (identity.user, *identity.grants)}
    known |= {repository.repo_id.split("/")[0] for repository in request.hub.repositories.find_all()}
    return namespace in known


def delete(request: HubRequest) -> Response:
    """Delete a bucket and its access to files in CAS."""
    request.require("write")
    request.hub.repositories.delete(request.repository)
    request.hub.content.forget_repository(request.repository)
    return Response(status_code=204)


def settings(request: HubRequest) -> Response:
    """Make a bucket private or public."""
    private = wants_private(request.json())
    request.require("write")
    if private is None:
        raise BadRequestError("The field 'private' is missing; it must be true or false.")
    request.hub.repositories.set_private(request.repository, private)
    return JSONResponse({"private": private})


def token(scope: Scope, request: HubRequest) -> Response:
    """Issue a Xet token, for the revision ``main``, because a bucket has no revisions."""
    return xet_token_response(request, scope, DEFAULT_REVISION)


def tree(files: BucketFiles, request: HubRequest) -> Response:
    """List the files whose path starts with a prefix, in pages of 1000; ``recursive=false`` lists folders instead.

    The prefix ``logs`` matches ``logs.json`` and the files in ``logs_old``, too. A missing folder is an empty list. The
    real Hub does the same according to ``huggingface_hub`` 2.4, which filters the response.
    """
    request.require("read")
    prefix = request.param("path")
    if prefix.rstrip("/"):
        require_path(prefix.rstrip("/"))
    found = files.starting_with(request.repository, prefix)
    newest = max((file.uploaded for file in found), default=0.0)

    def describe_item(item: BucketFile | str) -> dict[str, Any]:
        if isinstance(item, str):
            return {"type": "directory", "path": item, "uploadedAt": iso_time(newest)}
        return _describe(item)

    is_recursive = request.flag("recursive", default=True)
    items: Sequence[BucketFile | str] = found if is_recursive else fold(found, prefix)
    return page_response(request, items, describe_item, _ENTRIES_PER_PAGE)


def paths_info(files: BucketFiles, request: HubRequest) -> Response:
    """Describe the given files, leaving out those that do not exist."""
    body = request.form_or_json()
    request.require("read")
    paths = [require_path(path) for path in list_field(body, "paths", str, "strings")]
    found = files.get_each(request.repository, paths)
    return JSONResponse([_describe(found[path]) for path in dict.fromkeys(paths) if path in found])


def batch(files: BucketFiles, request: HubRequest) -> Response:
    """Store, copy and delete files: apply all valid lines in one transaction, and list the others."""
    request.require("write")
    failed: list[dict[str, str]] = []
    processed = 0
    with files.batch(request.repository) as changes:
        for processed, line in enumerate(_lines(request), 1):  # noqa: B007 - the count is used afterwards
            path = text_field(line, "path")
            try:
                _apply(changes, request, line, path)
            except HubError as error:
                failed.append({"path": path, "error": error.message})
    answer = {
        "success": not failed,
        "processed": processed,
        "succeeded": processed - len(failed),
        "failed": failed,
    }
    return JSONResponse(answer, 422 if failed and len(failed) == processed else 200)


def events(files: BucketFiles, request: HubRequest) -> Response:
    """Stream the changes to files after ``cursor``, ``since`` or now, until the client disconnects."""
    request.require("read")
    return follow(files.events, request)


def resolve(files: BucketFiles, request: HubRequest) -> Response:
    """Return a file with its headers, or a range of it."""
    request.require("read")
    path = request.path()
    file = files.get(request.repository, path)
    if file is None:
        raise EntryNotFoundError(request.repository, path)
    refresh_route = f"/api/{request.repository}/xet-read-token"
    headers = {"ETag": f'"{file.xet_hash}"'}
    return download_response(request, xet_download(request, file.xet_hash, file.size, refresh_route, headers))


def _lines(request: HubRequest) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(request.body, 1):
        if line.strip():
            yield parse_object(line, f"Line {number} of the batch")


def _apply(changes: BucketBatch, request: HubRequest, line: dict[str, Any], path: str) -> None:
    kind = text_field(line, "type")
    require_path(path)
    if kind == "deleteFile":
        if not changes.delete(path):
            raise EntryNotFoundError(request.repository, path)
        return
    if kind not in ("addFile", "copyFile"):
        raise BadRequestError(f"The change type {kind!r} is not known; use addFile, copyFile or deleteFile.")
    now = request.hub.access.now()
    mtime = number_field(line, "mtime", int(now * 1000))
    if mtime >= _MAX_MTIME:
        raise BadRequestError(f"The field 'mtime' of {path!r} must be milliseconds since 1970, not {mtime}.")
    stored = _stored(request, line, path, is_copy=kind == "copyFile")
    if stored != EMPTY_FILE:
        request.hub.content.grant(request.repository, stored.xet_hash)
    changes.put(BucketFile(path, stored.size, stored.xet_hash, mtime, now))


def _stored(request: HubRequest, line: dict[str, Any], path: str, *, is_copy: bool) -> StoredFile:
    xet_hash = text_field(line, "xetHash")
    if not HASH_HEX.fullmatch(xet_hash):
        raise BadRequestError(f"The field 'xetHash' of {path!r} must be 64 hex digits.")
    if is_copy:
        source = f"{text_field(line, 'sourceRepoType')}s/{text_field(line, 'sourceRepoId')}"
        request.require_files(source)
        stored = request.hub.content.file(xet_hash) if _may_be_copied(request, source, xet_hash) else None
    else:
        stored = readable_xet_file(request, xet_hash)
    if stored is None:
        raise BadRequestError(
            f"{path!r} names the Xet hash {xet_hash}, which was not uploaded to {request.repository}. "
            "Upload it before the batch."
        )
    return stored


def _may_be_copied(request: HubRequest, source: str, xet_hash: str) -> bool:
    # Every repository may read the empty file, so check that this bucket has one.
    if xet_hash == EMPTY_FILE.xet_hash and source.startswith("buckets/"):
        row = request.hub.repositories.db.first(
            "SELECT 1 FROM hub_bucket_file WHERE repository = :source AND xet_hash = :xet_hash",
            {"source": source, "xet_hash": xet_hash},
        )
        return row is not None
    return request.hub.content.is_readable(source, xet_hash)


def _summary(files: BucketFiles, bucket: Repository) -> dict[str, Any]:
    totals = files.totals(bucket.name)
    return {
        "id": bucket.repo_id,
        "private": bucket.private,
        "createdAt": iso_time(bucket.created),
        "updatedAt": iso_time(max(bucket.created, totals.updated)),
        "size": totals.size,
        "totalFiles": totals.files,
    }


def _describe(file: BucketFile) -> dict[str, Any]:
    return {"type": "file", **file.to_json()}
