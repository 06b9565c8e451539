"""Hub routes that make commits and pull requests.

A commit is NDJSON: a ``header`` line, then one line for each change. Shapes from ``huggingface_hub`` 2.4 and
``@huggingface/hub`` 2.17.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.access import AccessError
from airflow_provider_xethub.local.commits import (
    Change,
    DeleteFile,
    DeleteFolder,
    NewCommit,
    PullRequest,
    PutRegular,
    PutXet,
)
from airflow_provider_xethub.local.content import StoredFile
from airflow_provider_xethub.local.hub_errors import BadRequestError, HubError
from airflow_provider_xethub.local.hub_request import (
    Hub,
    HubRequest,
    hub_route,
    iso_time,
    parse_object,
    text_field,
    whole_number,
)

MAX_COMMIT_BODY = 256 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


def routes(hub: Hub) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/commit/{{revision}}", commit, "POST", max_body=MAX_COMMIT_BODY),
        hub_route(hub, f"{one}/lfs-files/duplicate", duplicate, "POST"),
        hub_route(hub, f"{one}/discussions", list_discussions, "GET"),
        hub_route(hub, f"{one}/discussions", open_discussion, "POST"),
        hub_route(hub, f"{one}/discussions/{{number}}", describe_discussion, "GET"),
        hub_route(hub, f"{one}/discussions/{{number}}/merge", merge, "POST"),
        hub_route(hub, f"{one}/discussions/{{number}}/status", set_status, "POST"),
    ]


def commit(request: HubRequest) -> Response:
    """Make one commit, or a pull request with it."""
    request.require("write")
    lines = _lines(request)
    key, header = next(lines, ("", {}))
    if key != "header":
        raise BadRequestError("A commit must begin with a 'header' line that has a 'summary'.")
    summary = text_field(header, "summary")
    if not summary.strip():
        raise BadRequestError("The commit summary must not be empty.")
    made = request.hub.commits.commit(
        request.repository,
        request.param("revision"),
        (_change(request, key, value) for key, value in lines),
        title=summary,
        message=text_field(header, "description", ""),
        author=request.user,
        parent_commit=text_field(header, "parentCommit", "") or None,
        create_pr=request.flag("create_pr"),
    )
    return JSONResponse(_describe_new(request, made))


def duplicate(request: HubRequest) -> Response:
    """Let another repository have files of this one, before a commit there names them."""
    body = request.json()
    request.require("read")
    target = body.get("target")
    files = body.get("files")
    if not isinstance(target, dict) or not isinstance(files, list):
        raise BadRequestError("The fields 'target' (an object) and 'files' (a list) are needed.")
    target_name = f"{text_field(target, 'type', 'model')}s/{text_field(target, 'name')}"
    request.require("write", target_name)
    failed = []
    for file in files:
        sha256 = text_field(file, "sha256") if isinstance(file, dict) else ""
        stored = request.hub.content.file_by_sha256(sha256, repository=request.repository)
        if stored is None:
            failed.append({"sha256": sha256, "error": f"{request.repository} has no such file."})
        else:
            request.hub.content.grant(target_name, stored.xet_hash)
    return JSONResponse({"failed": failed})


def list_discussions(request: HubRequest) -> Response:
    """List pull requests, newest first, all on one page."""
    request.require("read")
    found = [
        _describe_pull_request(request, pull)
        for pull in reversed(request.hub.commits.pull_requests(request.repository))
    ]
    start = len(found) if request.number("p", 0) else 0
    return JSONResponse({"discussions": found[start:], "count": len(found), "start": start})


def open_discussion(request: HubRequest) -> Response:
    """Open a pull request to be committed to; discussions without changes are not offered here."""
    body = request.json()
    request.require("write")
    if body.get("pullRequest") is not True:
        raise BadRequestError("The local Hub has pull requests only, no other discussions; set pullRequest.")
    opened = request.hub.commits.open_pull_request(
        request.repository, text_field(body, "title"), text_field(body, "description", ""), request.user
    )
    return JSONResponse({"num": opened.number, "pullRequest": True})


def describe_discussion(request: HubRequest) -> Response:
    """Describe one pull request."""
    request.require("read")
    pull = request.hub.commits.pull_request(request.repository, _number(request))
    return JSONResponse(
        {
            **_describe_pull_request(request, pull),
            "events": [],
            "filesWithConflicts": [],
            "changes": {"base": f"refs/heads/{pull.base}"},
            "diff": "",
        }
    )


def merge(request: HubRequest) -> Response:
    """Merge a pull request into its base."""
    request.require("write")
    merged = request.hub.commits.merge(request.repository, _number(request), request.user)
    return JSONResponse({"commitOid": merged.id})


def set_status(request: HubRequest) -> Response:
    """Open or close a pull request."""
    body = request.json()
    request.require("write")
    number, status = _number(request), text_field(body, "status")
    request.hub.commits.set_status(request.repository, number, status)
    return JSONResponse(
        {
            "newStatus": {
                "id": f"{number}-{status}",
                "type": "status-change",
                "createdAt": iso_time(request.hub.access.clock()),
                "author": {"name": request.user},
                "data": {"status": status},
            }
        }
    )


def readable_file(request: HubRequest, sha256: str) -> StoredFile | None:
    """Return the stored file of this sha256 that the request may bring into its repository.

    That repository uploaded it, or it lies in another one that the Hub token may read. Knowing a hash is not enough.
    """
    own = request.hub.content.file_by_sha256(sha256, repository=request.repository)
    return own or next(
        (
            file
            for repository in _readable_repositories(request)
            if (file := request.hub.content.file_by_sha256(sha256, repository=repository))
        ),
        None,
    )


def may_read_elsewhere(request: HubRequest, xet_hash: str) -> bool:
    """Whether a file lies in any repository that the Hub token may read."""
    return any(
        request.hub.content.is_readable(repository, xet_hash)
        for repository in (request.repository, *_readable_repositories(request))
    )


def _readable_repositories(request: HubRequest) -> Iterator[str]:
    for repository in request.hub.repositories.find_all():
        try:
            request.require("read", repository.name)
        except AccessError:
            continue
        yield repository.name


def _lines(request: HubRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(request.body, 1):
        if not line.strip():
            continue
        record = parse_object(line, f"Line {number} of the commit")
        key, value = record.get("key"), record.get("value")
        if not isinstance(key, str) or not isinstance(value, dict):
            raise BadRequestError(f"Line {number} of the commit must have a 'key' (text) and a 'value' (object).")
        yield key, value


def _change(request: HubRequest, key: str, value: dict[str, Any]) -> Change:
    path = text_field(value, "path")
    if key == "file":
        return PutRegular(path, _decoded(value, path))
    if key == "lfsFile":
        return _large_file(request, value, path)
    if key == "deletedFile":
        return DeleteFile(path)
    if key == "deletedFolder":
        return DeleteFolder(path)
    raise BadRequestError(
        f"{key!r} is no kind of change; use file, lfsFile, deletedFile or deletedFolder, after one header."
    )


def _decoded(value: dict[str, Any], path: str) -> bytes:
    content, encoding = text_field(value, "content"), text_field(value, "encoding", "utf-8")
    try:
        if encoding == "base64":
            return base64.b64decode(content, validate=True)
        if encoding == "utf-8":
            return content.encode()
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"The content of {path!r} is not {encoding}.") from error
    raise BadRequestError(f"The encoding {encoding!r} of {path!r} is not known; use base64 or utf-8.")


def _large_file(request: HubRequest, value: dict[str, Any], path: str) -> Change:
    sha256, size = text_field(value, "oid"), value.get("size")
    if value.get("algo", "sha256") != "sha256" or not _SHA256.fullmatch(sha256):
        raise BadRequestError(f"The oid of {path!r} must be a sha256, 64 hex digits.")
    if sha256 == _EMPTY_SHA256:
        return PutRegular(path, b"")
    stored = readable_file(request, sha256)
    if stored is None:
        raise BadRequestError(
            f"LFS pointer pointed to a file that does not exist: {path!r} with sha256 {sha256} was not uploaded to "
            f"{request.repository}. Upload it before the commit."
        )
    if size is not None and size != stored.size:
        raise BadRequestError(f"{path!r} has {stored.size} bytes in CAS; the commit says {size!r}.")
    request.hub.content.grant(request.repository, stored.xet_hash)
    return PutXet(path, stored.xet_hash, sha256, stored.size)


def _describe_new(request: HubRequest, made: NewCommit) -> dict[str, Any]:
    page = request.origin + request.hub.repositories.get(request.repository).web_path
    answer: dict[str, Any] = {
        "success": True,
        "commitOid": made.commit.id,
        "commitUrl": f"{page}/commit/{made.commit.id}",
        "hookOutput": "",
    }
    if made.pull_request is not None:
        answer["pullRequestUrl"] = f"{page}/discussions/{made.pull_request}"
    return answer


def _describe_pull_request(request: HubRequest, pull: PullRequest) -> dict[str, Any]:
    kind, _, repo_id = request.repository.partition("/")
    return {
        "num": pull.number,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": iso_time(pull.created),
        "status": pull.status,
        "isPullRequest": True,
        "repo": {"name": repo_id, "type": kind.removesuffix("s")},
    }


def _number(request: HubRequest) -> int:
    text = request.param("number")
    number = whole_number(text)
    if number is None:
        raise HubError(404, f"{request.repository} has no pull request or discussion {text[:40]!r}.")
    return number
