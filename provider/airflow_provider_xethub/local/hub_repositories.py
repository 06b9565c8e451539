"""Hub routes about repositories as a whole: create, delete, describe; branches, tags, history; who asks.

Shapes from ``huggingface_hub`` 2.4 and ``@huggingface/hub`` 2.17, which read them.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.access import AccessError
from airflow_provider_xethub.local.history import HEADS, PULLS, TAGS, Commit
from airflow_provider_xethub.local.hub_errors import BadRequestError, ConflictError, HubError
from airflow_provider_xethub.local.hub_request import (
    Hub,
    HubRequest,
    hub_route,
    iso_time,
    page_response,
    text_field,
)
from airflow_provider_xethub.local.repositories import Repository
from airflow_provider_xethub.local.trees import Entry, pointer_text
from airflow_provider_xethub.repo import DEFAULT_REVISION, SCOPES, Scope

_COMMITS_PER_PAGE = 1000


def routes(hub: Hub) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, "/api/whoami-v2", who_am_i),
        hub_route(hub, "/api/validate-yaml", validate_yaml, "POST"),
        hub_route(hub, "/api/repos/create", create, "POST"),
        hub_route(hub, "/api/repos/delete", delete, "DELETE"),
        hub_route(hub, "/api/repos/move", move, "POST"),
        hub_route(hub, one, describe, "GET"),
        hub_route(hub, f"{one}/revision/{{revision}}", describe, "GET"),
        hub_route(hub, f"{one}/settings", settings, "PUT"),
        hub_route(hub, f"{one}/auth-check", auth_check, "GET"),
        hub_route(hub, f"{one}/auth-check/{{scope}}", auth_check, "GET"),
        hub_route(hub, f"{one}/refs", refs, "GET"),
        hub_route(hub, f"{one}/branch/{{branch}}", create_branch, "POST"),
        hub_route(hub, f"{one}/branch/{{branch}}", delete_branch, "DELETE"),
        hub_route(hub, f"{one}/tag/{{revision}}", create_tag, "POST"),
        hub_route(hub, f"{one}/tag/{{revision}}", delete_tag, "DELETE"),
        hub_route(hub, f"{one}/commits/{{revision}}", commits, "GET"),
        hub_route(hub, f"{one}/super-squash/{{revision}}", squash, "POST"),
        hub_route(hub, "/api/{kind}", list_all, "GET"),
    ]


def who_am_i(request: HubRequest) -> Response:
    """Say whose Hub token this is, and of which role."""
    identity = request.identity
    if identity is None:
        raise AccessError(401, "Invalid username or password.")
    token: dict[str, Any] = {
        "displayName": identity.token_name,
        "role": identity.role,
        "createdAt": iso_time(identity.created),
    }
    if identity.role == "fineGrained":
        token["fineGrained"] = {
            "global": [],
            "scoped": [_scoped(key, scope) for key, scope in identity.grants.items()],
        }
    return JSONResponse(
        {
            "type": "user",
            "id": f"user-{identity.user}",
            "name": identity.user,
            "fullname": identity.user,
            "email": f"{identity.user}@example.invalid",
            "emailVerified": True,
            "isPro": False,
            "canPay": False,
            "periodEnd": None,
            "avatarUrl": "",
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def validate_yaml(_: HubRequest) -> Response:
    """Accept any model or dataset card: cards mean nothing here."""
    return JSONResponse({"errors": [], "warnings": []})


def create(request: HubRequest) -> Response:
    """Create a repository. The answer to one that exists carries its URL, which ``exist_ok`` reads."""
    body = request.json()
    name = _named(request, body)
    request.hub.access.check_writer(request.identity, name)
    private = body.get("private") is True or body.get("visibility") == "private"
    try:
        repository = request.hub.repositories.create(name, private=private, author=request.user)
    except ConflictError as error:
        repository = request.hub.repositories.get(name)
        raise ConflictError(error.message, url=request.origin + repository.web_path) from error
    return JSONResponse(
        {
            "url": request.origin + repository.web_path,
            "name": repository.repo_id,
            "id": repository.id,
            "private": repository.private,
        }
    )


def delete(request: HubRequest) -> Response:
    """Delete a repository and what it may read in CAS."""
    name = _named(request, request.json())
    request.require("write", name)
    request.hub.repositories.delete(name)
    request.hub.content.forget_repository(name)
    return Response("OK")


def move(request: HubRequest) -> Response:
    """Rename a repository; what it may read in CAS moves along."""
    body = request.json()
    kind = text_field(body, "type", "model") + "s"
    name, new_name = (f"{kind}/{text_field(body, field)}" for field in ("fromRepo", "toRepo"))
    if new_name.count("/") != 2:
        raise BadRequestError(f"{new_name!r} is not of the form 'namespace/name'.")
    request.require("write", name)
    request.hub.access.check_writer(request.identity, new_name)
    with request.hub.repositories.db.write():
        request.hub.repositories.move(name, new_name)
        request.hub.content.move_repository(name, new_name)
    return Response("OK")


def settings(request: HubRequest) -> Response:
    """Make a repository private or public; other settings mean nothing here."""
    body = request.json()
    request.require("write")
    private = {"private": True, "public": False}.get(body.get("visibility", ""), body.get("private"))
    if isinstance(private, bool):
        request.hub.repositories.set_private(request.repository, private)
    return JSONResponse({"private": request.hub.repositories.get(request.repository).private})


def auth_check(request: HubRequest) -> Response:
    """Answer 200 to who may read, or with ``/write`` to who may write."""
    scope = request.param("scope") or "read"
    if scope not in SCOPES:
        raise BadRequestError(f"Scope {scope!r} is not known; use 'read' or 'write'.")
    granted: Scope = "write" if scope == "write" else "read"
    request.require(granted)
    return JSONResponse({})


def list_all(request: HubRequest) -> Response:
    """List the repositories of one type that the Hub token may see."""
    if request.param("kind") not in ("models", "datasets", "spaces"):
        raise HubError(404, f"The local Hub has no route /api/{request.param('kind')}.")
    author, search = request.query("author"), request.query("search").lower()
    visible = [
        repository
        for repository in request.hub.repositories.find_all(request.param("kind"))
        if not repository.private or (request.identity and request.identity.allows(repository.name, "read"))
        if not author or repository.repo_id.split("/")[0] == author
        if search in repository.repo_id.lower()
    ]
    return page_response(request, visible, lambda repository: _summary(request, repository, DEFAULT_REVISION), 1000)


def describe(request: HubRequest) -> Response:
    """Describe a repository at a revision, with its files."""
    request.require("read")
    repository = request.hub.repositories.get(request.repository)
    answer = _summary(request, repository, request.param("revision") or DEFAULT_REVISION)
    commit = request.hub.repositories.resolve(repository.name, answer["sha"])
    files = [entry for entry in request.hub.repositories.entries(repository.name, commit) if entry.kind != "directory"]
    answer["siblings"] = [_sibling(entry, blobs=request.flag("blobs")) for entry in files]
    answer["usedStorage"] = sum(entry.size for entry in files)
    return JSONResponse(answer)


def refs(request: HubRequest) -> Response:
    """List branches, tags and, if asked for, pull requests."""
    request.require("read")
    found = request.hub.repositories.refs(request.repository)

    def under(prefix: str) -> list[dict[str, str]]:
        return [
            {"name": ref.ref.removeprefix(prefix), "ref": ref.ref, "targetCommit": ref.commit}
            for ref in found
            if ref.ref.startswith(prefix)
        ]

    answer = {"branches": under(HEADS), "converts": [], "tags": under(TAGS)}
    if request.flag("include_prs"):
        answer["pullRequests"] = under(PULLS)
    return JSONResponse(answer)


def create_branch(request: HubRequest) -> Response:
    """Create a branch at a revision."""
    body = request.json()
    request.require("write")
    request.hub.repositories.create_branch(
        request.repository,
        request.param("branch"),
        text_field(body, "startingPoint", DEFAULT_REVISION),
        overwrite=body.get("overwrite") is True,
    )
    return Response("OK")


def delete_branch(request: HubRequest) -> Response:
    """Delete a branch."""
    request.require("write")
    request.hub.repositories.delete_branch(request.repository, request.param("branch"))
    return Response("OK")


def create_tag(request: HubRequest) -> Response:
    """Create a tag at the revision of the URL."""
    body = request.json()
    request.require("write")
    request.hub.repositories.create_tag(
        request.repository, text_field(body, "tag"), request.param("revision"), text_field(body, "message", "")
    )
    return Response("OK")


def delete_tag(request: HubRequest) -> Response:
    """Delete a tag."""
    request.require("write")
    request.hub.repositories.delete_tag(request.repository, request.param("revision"))
    return Response("OK")


def commits(request: HubRequest) -> Response:
    """List the history of a revision, newest first."""
    request.require("read")
    history = request.hub.repositories.commits(request.repository, request.param("revision"))
    return page_response(request, history, _describe_commit, _COMMITS_PER_PAGE)


def squash(request: HubRequest) -> Response:
    """Replace the history of a branch by one commit."""
    body = request.json()
    request.require("write")
    branch = request.param("revision")
    request.hub.repositories.squash(
        request.repository, branch, text_field(body, "message", f"Super-squash branch '{branch}'"), request.user
    )
    return Response("OK")


def _named(request: HubRequest, body: dict[str, Any]) -> str:
    """Return the repository that a create or delete request means; without a namespace it is the user's own."""
    name = text_field(body, "name")
    namespace = text_field(body, "organization", request.user)
    repo_id = name if "/" in name else f"{namespace}/{name}"
    if repo_id.count("/") != 1:
        raise BadRequestError(f"{repo_id!r} is not of the form 'namespace/name'.")
    kind = text_field(body, "type", "model")
    if kind not in ("model", "dataset", "space"):
        raise BadRequestError(f"Repository type {kind!r} is not known; use model, dataset or space.")
    return f"{kind}s/{repo_id}"


def _scoped(key: str, scope: str) -> dict[str, Any]:
    kind, _, repo_id = key.partition("/")
    entity = {"type": kind.removesuffix("s"), "name": repo_id} if repo_id else {"type": "org", "name": key}
    permissions = ["repo.content.read"] + (["repo.write"] if scope == "write" else [])
    return {"entity": entity, "permissions": permissions}


def _summary(request: HubRequest, repository: Repository, revision: str) -> dict[str, Any]:
    commit = request.hub.repositories.resolve(repository.name, revision)
    answer: dict[str, Any] = {
        "_id": repository.id,
        "id": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": commit.id,
        "lastModified": iso_time(commit.created),
        "createdAt": iso_time(repository.created),
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
    }
    if repository.kind == "models":
        answer["modelId"] = repository.repo_id
    return answer


def _sibling(entry: Entry, *, blobs: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        answer |= {"size": entry.size, "blobId": entry.oid}
        if entry.sha256 is not None:
            pointer = pointer_text(entry.sha256, entry.size)
            answer["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": len(pointer)}
    return answer


def _describe_commit(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "date": iso_time(commit.created),
        "authors": [{"user": commit.author, "avatar": ""}],
    }
