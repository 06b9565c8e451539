"""Hub routes that say what a repository holds: tree, paths-info, and preupload, which compares with it.

Shapes from ``huggingface_hub`` 2.4 and ``@huggingface/hub`` 2.17, which read them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.history import Commit
from airflow_provider_xethub.local.hub_errors import BadRequestError
from airflow_provider_xethub.local.hub_request import (
    Hub,
    HubRequest,
    hub_route,
    iso_time,
    page_response,
    text_field,
)
from airflow_provider_xethub.local.trees import Entry, pointer_text
from airflow_provider_xethub.local.upload_modes import GITATTRIBUTES, lfs_rules, upload_mode
from airflow_provider_xethub.repo import DEFAULT_REVISION, check_path

_ENTRIES_PER_PAGE = 1000
_MAX_FILES_PER_PREUPLOAD = 10_000


def routes(hub: Hub) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/tree/{{revision}}", tree, "GET"),
        hub_route(hub, f"{one}/tree/{{revision}}/{{path:path}}", tree, "GET"),
        hub_route(hub, f"{one}/paths-info/{{revision}}", paths_info, "POST"),
        hub_route(hub, f"{one}/preupload/{{revision}}", preupload, "POST"),
    ]


def tree(request: HubRequest) -> Response:
    """List a folder, in pages of 1000."""
    request.require("read")
    commit = request.hub.repositories.resolve(request.repository, request.param("revision"))
    folder = request.path() if request.param("path") else ""
    entries = request.hub.repositories.entries(request.repository, commit, folder, recursive=request.flag("recursive"))
    describe = _describer(request, expand=request.flag("expand"))
    return page_response(request, entries, describe, _ENTRIES_PER_PAGE)


def paths_info(request: HubRequest) -> Response:
    """Describe the given paths; those that do not exist are left out. Python sends a form, JavaScript JSON."""
    body = request.form_or_json()
    request.require("read")
    commit = request.hub.repositories.resolve(request.repository, request.param("revision"))
    paths = body.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise BadRequestError("The field 'paths' must be a list of texts.")
    expand = body.get("expand") in (True, ["true"], ["True"], ["1"])
    describe = _describer(request, expand=expand)
    found = (request.hub.repositories.find(commit, path.strip("/")) for path in paths if path.strip("/"))
    return JSONResponse([describe(entry) for entry in found if entry])


def preupload(request: HubRequest) -> Response:
    """Say for each file whether the commit carries it or CAS does, and which content is there now.

    A caller whose file has that very ``oid`` leaves it out of the commit.
    """
    body = request.json()
    request.require("write")
    commit = base_commit(request)
    files = body.get("files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise BadRequestError("The field 'files' must be a list of objects.")
    if len(files) > _MAX_FILES_PER_PREUPLOAD:
        raise BadRequestError(f"{len(files)} files are too many for one request; send at most 256.")
    rules = lfs_rules(text_field(body, "gitAttributes", _gitattributes(request, commit)))
    answers = [_preupload_one(request, commit, file, rules) for file in files]
    return JSONResponse({"files": answers, "commitOid": commit.id})


def base_commit(request: HubRequest) -> Commit:
    """Return the commit that an upload to the URL's revision builds upon.

    With ``create_pr`` Python's revision is ``main`` or, for Xet tokens, the text ``None``.

    :raises RevisionNotFoundError: there is no such revision.
    """
    revision = request.param("revision")
    if request.flag("create_pr") and revision == "None":
        revision = DEFAULT_REVISION
    return request.hub.repositories.resolve(request.repository, revision)


def describe_entry(entry: Entry) -> dict[str, Any]:
    """Return a tree entry as the Hub describes it."""
    if entry.kind == "directory":
        return {"type": "directory", "oid": entry.oid, "size": 0, "path": entry.path}
    answer: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": entry.path}
    if entry.sha256 is not None:
        pointer_size = len(pointer_text(entry.sha256, entry.size))
        answer["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": pointer_size}
        answer["xetHash"] = entry.xet_hash
    return answer


def _describer(request: HubRequest, *, expand: bool) -> Callable[[Entry], dict[str, Any]]:
    if not expand:
        return describe_entry
    known: dict[str, dict[str, str]] = {}

    def describe(entry: Entry) -> dict[str, Any]:
        if entry.commit not in known:
            commit = request.hub.repositories.resolve(request.repository, entry.commit)
            known[entry.commit] = {"id": commit.id, "title": commit.title, "date": iso_time(commit.created)}
        return {**describe_entry(entry), "lastCommit": known[entry.commit]}

    return describe


def _gitattributes(request: HubRequest, commit: Commit) -> str:
    entry = request.hub.repositories.find(commit, GITATTRIBUTES)
    if entry is None or entry.kind != "regular":
        return ""
    return request.hub.repositories.blob(entry.oid).decode("utf-8", "replace")


def _preupload_one(
    request: HubRequest, commit: Commit, file: dict[str, Any], is_lfs: Callable[[str], bool | None]
) -> dict[str, Any]:
    path, size = text_field(file, "path"), file.get("size")
    try:
        check_path(path)
        sample = base64.b64decode(text_field(file, "sample", ""), validate=True)
    except XetInputError as error:
        raise BadRequestError(str(error)) from error
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"The sample of {path!r} is not base64.") from error
    if not isinstance(size, int) or size < 0:
        raise BadRequestError(f"The size of {path!r} must be a whole number of bytes, not {size!r}.")
    mode = upload_mode(size, sample, is_lfs(path))
    answer: dict[str, Any] = {"path": path, "uploadMode": mode, "shouldIgnore": False}
    current = request.hub.repositories.find(commit, path)
    if current is not None and current.kind != "directory":
        answer["oid"] = current.sha256 or current.oid
    return answer
