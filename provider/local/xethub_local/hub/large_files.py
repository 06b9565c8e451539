"""Hub routes that list and permanently delete the files in CAS of all revisions of a repository.

The JSON follows ``huggingface_hub`` 2.4, which parses it.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import flag_field, list_field, object_field
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, page_response
from xethub_local.metadata import large_files
from xethub_local.metadata.history import HEADS
from xethub_local.metadata.large_files import LargeFile
from xethub_local.store.timestamps import iso_time

_FILES_PER_PAGE = 1000


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    files = "/api/{kind}/{namespace}/{name}/lfs-files"
    return [
        hub_route(hub, files, lfs_files, "GET"),
        hub_route(hub, f"{files}/batch", delete_lfs_files, "POST"),
    ]


def lfs_files(request: HubRequest) -> Response:
    """List the files of all revisions, and of commits that no revision can reach any more, with content in CAS.

    Content that was uploaded and never committed is not listed. Whether the real Hub lists it is not documented.
    """
    request.require("read")
    found = [
        file
        for file in large_files.find(request.hub.repositories, request.repository)
        if file.entry.xet_hash and request.hub.content.is_readable(request.repository, file.entry.xet_hash)
    ]
    return page_response(request, found, _describe, _FILES_PER_PAGE)


def delete_lfs_files(request: HubRequest) -> Response:
    """Delete the content of files permanently; with ``rewriteHistory`` remove them from all commits, too."""
    deletions = object_field(request.json(), "deletions")
    request.require("write")
    oids, name = {*list_field(deletions, "sha", str, "strings")}, request.repository
    repositories = request.hub.repositories
    with repositories.db.write():
        deleted = [file.entry for file in large_files.find(repositories, name) if file.entry.oid in oids]
        if flag_field(deletions, "rewriteHistory"):
            large_files.remove_from_history(repositories, name, oids)
        request.hub.content.forget(name, [entry.xet_hash for entry in deleted if entry.xet_hash])
    return JSONResponse({})


def _describe(file: LargeFile) -> dict[str, Any]:
    return {
        "fileOid": file.entry.oid,
        "filename": file.entry.path,
        "oid": file.entry.sha256,
        "pushedAt": iso_time(file.pushed),
        "ref": file.ref and file.ref.removeprefix(HEADS),
        "size": file.entry.size,
        "xetHash": file.entry.xet_hash,
    }
