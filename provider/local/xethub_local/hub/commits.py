"""Hub routes that make commits and pull requests.

A commit is NDJSON: a ``header`` line, then one line for each change. The JSON follows ``huggingface_hub`` 2.4 and
``@huggingface/hub`` 2.17.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.content.store import EMPTY_FILE
from xethub_local.formats.hashing import HASH_HEX
from xethub_local.http.json_fields import (
    list_field,
    number_field,
    object_field,
    parse_object,
    text_field,
)
from xethub_local.hub.cards import require_valid_card
from xethub_local.hub.readable import readable_file
from xethub_local.hub.request import HubBackend, HubRequest, hub_route
from xethub_local.metadata.commits import (
    Change,
    DeleteFile,
    DeleteFolder,
    NewCommit,
    PutRegular,
    PutXet,
)
from xethub_local.store.errors import BadRequestError

MAX_COMMIT_BODY = 256 * 1024 * 1024
_EMPTY_SHA256 = hashlib.sha256().hexdigest()
# As for .git, the real Hub refuses changes to it: huggingface_hub 2.4, tests/test_commit_api.py.
_CLIENT_CACHE = "/.cache/huggingface/"


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/commit/{{revision}}", commit, "POST", max_body=MAX_COMMIT_BODY),
        hub_route(hub, f"{one}/lfs-files/duplicate", duplicate, "POST"),
    ]


def commit(request: HubRequest) -> Response:
    """Make a commit, on a branch or in a new pull request."""
    request.require_commit()
    lines = _lines(request)
    key, header = next(lines, ("", {}))
    if key != "header":
        raise BadRequestError("The first line of a commit must be a 'header' with a 'summary'.")
    summary = text_field(header, "summary")
    if not summary.strip():
        raise BadRequestError("The commit summary must not be empty.")
    made = request.hub.commits.commit(
        request.repository,
        request.param("revision"),
        (require_valid_card(_change(request, key, value)) for key, value in lines),
        title=summary,
        message=text_field(header, "description", ""),
        author=request.user,
        parent_commit=text_field(header, "parentCommit", "") or None,
        create_pr=request.flag("create_pr"),
    )
    return JSONResponse(_describe_new(request, made))


def duplicate(request: HubRequest) -> Response:
    """Give another repository access to files of this one, so that a commit there can refer to them."""
    body = request.json()
    request.require_files()
    target, files = object_field(body, "target"), list_field(body, "files", dict, "objects")
    target_name = f"{text_field(target, 'type', 'model')}s/{text_field(target, 'name')}"
    request.require("write", target_name)
    failed = []
    for file in files:
        sha256 = text_field(file, "sha256")
        stored = request.hub.content.file_by_sha256(sha256, repository=request.repository)
        if stored is None:
            failed.append({"sha256": sha256, "error": f"{request.repository} has no such file."})
        elif stored != EMPTY_FILE:
            request.hub.content.grant(target_name, stored.xet_hash)
    return JSONResponse({"failed": failed})


def _lines(request: HubRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(request.body, 1):
        if not line.strip():
            continue
        record = parse_object(line, f"Line {number} of the commit")
        key, value = record.get("key"), record.get("value")
        if not isinstance(key, str) or not isinstance(value, dict):
            raise BadRequestError(f"Line {number} of the commit must have a 'key' (string) and a 'value' (object).")
        yield key, value


def _change(request: HubRequest, key: str, value: dict[str, Any]) -> Change:
    path = text_field(value, "path")
    if _CLIENT_CACHE in f"/{path}/":
        raise BadRequestError(
            f"The path {path[:80]!r} is inside the cache folder of a client, which is never committed."
        )
    if key == "file":
        return PutRegular(path, _decoded(value, path))
    if key == "lfsFile":
        return _large_file(request, value, path)
    if key == "deletedFile":
        return DeleteFile(path)
    if key == "deletedFolder":
        return DeleteFolder(path)
    raise BadRequestError(
        f"The change {key!r} is not known; use file, lfsFile, deletedFile or deletedFolder, after one header."
    )


def inline_files(body: dict[str, Any]) -> list[PutRegular]:
    """Return the files in the optional field ``files`` of a body.

    :raises BadRequestError: the field is not a list of files.
    """
    files = list_field(body, "files", dict, "objects")
    return [PutRegular(path := text_field(file, "path"), _decoded(file, path)) for file in files]


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
    sha256, size = text_field(value, "oid"), number_field(value, "size", -1)
    if text_field(value, "algo", "sha256") != "sha256" or not HASH_HEX.fullmatch(sha256):
        raise BadRequestError(f"The oid of {path!r} must be a sha256, 64 hex digits.")
    if sha256 == _EMPTY_SHA256:
        return PutRegular(path, b"")
    stored = readable_file(request, sha256)
    if stored is None:
        raise BadRequestError(
            f"LFS pointer pointed to a file that does not exist: {path!r} with sha256 {sha256} was not uploaded to "
            f"{request.repository}. Upload it before the commit."
        )
    if size not in (-1, stored.size):  # a copy has no size in the commit
        raise BadRequestError(f"{path!r} has {stored.size} bytes in CAS, but {size} bytes in the commit.")
    # Granted for the branch, so that a running download can finish after a later commit replaces the file.
    branch = None if request.flag("create_pr") else request.param("revision")
    request.hub.content.grant(request.repository, stored.xet_hash, branch)
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
