"""Hub routes that list the content of a repository: tree, paths-info, and preupload, which compares with it.

The JSON follows ``huggingface_hub`` 2.4 and ``@huggingface/hub`` 2.17, which parse it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import list_field, number_field, text_field
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, next_page_link
from xethub_local.metadata.history import Commit
from xethub_local.metadata.trees import Entry, pointer_text
from xethub_local.metadata.upload_modes import (
    GITATTRIBUTES,
    GITIGNORE,
    ignored_paths,
    lfs_rules,
    upload_mode,
)
from xethub_local.repo import DEFAULT_REVISION
from xethub_local.store.errors import BadRequestError
from xethub_local.store.paths import require_path
from xethub_local.store.timestamps import iso_time

# The limits of the real Hub.
_ENTRIES_PER_PAGE = 1000
_EXPANDED_PER_PAGE = 50
_MAX_FILES_PER_PREUPLOAD = 10_000


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/tree/{{revision}}", tree, "GET"),
        hub_route(hub, f"{one}/tree/{{revision}}/{{path:path}}", tree, "GET"),
        hub_route(hub, f"{one}/paths-info/{{revision}}", paths_info, "POST"),
        hub_route(hub, f"{one}/preupload/{{revision}}", preupload, "POST"),
    ]


def tree(request: HubRequest) -> Response:
    """List a folder in pages of 1000 entries, or of 50 with details; the cursor is the path of the last entry."""
    request.require("read")
    commit = request.hub.repositories.resolve(request.repository, request.param("revision"))
    folder = request.path() if request.param("path") else ""
    expand = request.flag("expand")
    most = _EXPANDED_PER_PAGE if expand else _ENTRIES_PER_PAGE
    limit = max(1, min(most, request.number("limit", most)))
    entries = request.hub.repositories.entries(
        request.repository,
        commit,
        folder,
        recursive=request.flag("recursive"),
        after=_path_cursor(request),
        limit=limit + 1,
    )
    headers = {}
    if len(entries) > limit:
        entries.pop()
        headers = next_page_link(request, base64.urlsafe_b64encode(entries[-1].path.encode()).decode())
    describe = _describer(request, expand=expand)
    return JSONResponse([describe(entry) for entry in entries], headers=headers)


def paths_info(request: HubRequest) -> Response:
    """Describe the given paths, leaving out those that do not exist. Python clients send a form, JavaScript JSON."""
    body = request.form_or_json()
    request.require("read")
    commit = request.hub.repositories.resolve(request.repository, request.param("revision"))
    paths = [require_path(path.strip("/")) for path in list_field(body, "paths", str, "strings") if path.strip("/")]
    describe = _describer(request, expand=body.get("expand") in (True, ["true"], ["True"], ["1"]))
    found = request.hub.repositories.find_each(commit, paths)
    return JSONResponse([describe(found[path]) for path in dict.fromkeys(paths) if path in found])


def preupload(request: HubRequest) -> Response:
    """Return for each file whether to send it in the commit or upload it to CAS, and the id of its current content.

    Clients leave files whose ``oid`` is unchanged out of the commit.
    """
    body = request.json()
    request.require_commit()
    commit = base_commit(request)
    files = list_field(body, "files", dict, "objects")
    if len(files) > _MAX_FILES_PER_PREUPLOAD:
        raise BadRequestError(f"A request with {len(files)} files is too large; send at most 256 files.")
    paths = [require_path(text_field(file, "path")) for file in files]
    present = request.hub.repositories.find_each(commit, [*paths, GITATTRIBUTES, GITIGNORE])
    is_lfs = lfs_rules(text_field(body, "gitAttributes", _text(request, present.get(GITATTRIBUTES))))
    is_ignored = ignored_paths(text_field(body, "gitIgnore", _text(request, present.get(GITIGNORE))))
    answers = []
    for path, file in zip(paths, files, strict=True):
        mode = upload_mode(number_field(file, "size"), _sample(file, path), is_lfs(path))
        answer: dict[str, Any] = {"path": path, "uploadMode": mode, "shouldIgnore": is_ignored(path)}
        current = present.get(path)
        if current is not None and current.kind != "directory":
            answer["oid"] = current.sha256 or current.oid
        answers.append(answer)
    return JSONResponse({"files": answers, "commitOid": commit.id})


def base_commit(request: HubRequest) -> Commit:
    """Return the parent of a commit to the URL's revision.

    With ``create_pr`` the revision that Python clients send is ``main`` or, for Xet tokens, the string ``None``.

    :raises RevisionNotFoundError: the revision does not exist.
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
    known: dict[str, Commit] = {}

    def describe(entry: Entry) -> dict[str, Any]:
        if entry.commit not in known:
            known[entry.commit] = request.hub.repositories.resolve(request.repository, entry.commit)
        commit = known[entry.commit]
        last = {"id": commit.id, "title": commit.title, "date": iso_time(commit.created)}
        answer = {**describe_entry(entry), "lastCommit": last}
        if entry.kind != "directory":
            report = request.hub.scans.report(request.repository, entry.path, commit.created)
            answer |= {} if report is None else {"securityFileStatus": report}
        return answer

    return describe


def _text(request: HubRequest, entry: Entry | None) -> str:
    if entry is None or entry.kind != "regular":
        return ""
    return request.hub.repositories.blob(entry.oid).decode("utf-8", "replace")


def _path_cursor(request: HubRequest) -> str:
    try:
        return base64.b64decode(request.query("cursor"), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise BadRequestError("The query parameter cursor does not come from a Link header.") from error


def _sample(file: dict[str, Any], path: str) -> bytes:
    try:
        return base64.b64decode(text_field(file, "sample", ""), validate=True)
    except ValueError as error:
        raise BadRequestError(f"The sample of {path!r} is not base64.") from error
