"""Hub routes of repositories as a whole: create, delete, describe, list; and of the user.

The JSON follows ``huggingface_hub`` 2.4 and ``@huggingface/hub`` 2.17, which parse it.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import text_field
from xethub_local.hub.cards import card_of, require_valid_card
from xethub_local.hub.commits import inline_files
from xethub_local.hub.list_query import Summary, expanded, filter_of, in_order
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, page_response
from xethub_local.hub.visibility import wants_private
from xethub_local.metadata import cards, scans
from xethub_local.metadata.commits import Change, PutRegular
from xethub_local.metadata.gates import GATE_MODES
from xethub_local.metadata.repositories import KINDS, Repository
from xethub_local.metadata.trees import Entry, pointer_text
from xethub_local.repo import DEFAULT_REVISION, SCOPES
from xethub_local.store.access import EVERYTHING, AccessError, Identity
from xethub_local.store.errors import BadRequestError, ConflictError
from xethub_local.store.timestamps import iso_time


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, "/api/whoami-v2", who_am_i),
        hub_route(hub, "/api/settings/repositories", list_storage, "GET"),
        hub_route(hub, "/api/organizations/{namespace}/settings/repositories", list_storage, "GET"),
        hub_route(hub, "/api/repos/create", create, "POST"),
        hub_route(hub, "/api/repos/delete", delete, "DELETE"),
        hub_route(hub, "/api/repos/move", move, "POST"),
        hub_route(hub, one, describe, "GET"),
        hub_route(hub, f"{one}/revision/{{revision}}", describe, "GET"),
        hub_route(hub, f"{one}/settings", settings, "PUT"),
        hub_route(hub, f"{one}/duplicate", duplicate, "POST"),
        hub_route(hub, f"{one}/auth-check", auth_check, "GET"),
        hub_route(hub, f"{one}/auth-check/{{scope}}", auth_check, "GET"),
        hub_route(hub, "/api/{kind}", list_all, "GET"),
    ]


def who_am_i(request: HubRequest) -> Response:
    """Describe the Hub token of the request: its user and its role.

    A token of a user that was exchanged is described like every OAuth token, as ``@huggingface/hub`` reads it: with an
    expiry and without ``accessToken``. That of a repository has no user here, which is a guess.
    """
    identity = request.identity
    if identity is None or (identity.exchanged is not None and not identity.exchanged.resource.user):
        raise AccessError(401, "Invalid username or password.")
    if identity.exchanged is not None:
        auth: dict[str, Any] = {"type": "app_token_as_user", "expiresAt": iso_time(identity.exchanged.expires_at)}
    else:
        auth = {"type": "access_token", "accessToken": _access_token(identity)}
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
            "billingMode": "prepaid",
            "periodEnd": None,
            "avatarUrl": "",
            "orgs": [],
            "auth": auth,
        }
    )


def _access_token(identity: Identity) -> dict[str, Any]:
    token: dict[str, Any] = {
        "displayName": identity.token_name,
        "role": identity.role,
        "createdAt": iso_time(identity.created),
    }
    if identity.role == "fineGrained":
        token["fineGrained"] = {
            "canReadGatedRepos": False,
            "global": [],
            "scoped": [_scoped(identity.user, key, scope) for key, scope in identity.grants.items()],
        }
    return token


def create(request: HubRequest) -> Response:
    """Create a repository; if it exists already, the error contains its URL, which ``exist_ok`` reads."""
    body = request.json()
    name = _named(request, body)
    request.hub.access.check_writer(request.identity, name)
    private = wants_private(body) or False
    files = _first_files(body)
    try:
        with request.hub.repositories.db.write():
            repository = request.hub.repositories.create(name, private=private, author=request.user)
            if files:
                request.hub.commits.commit(name, DEFAULT_REVISION, files, title="Add first files", author=request.user)
    except ConflictError as error:
        repository = request.hub.repositories.get(request.hub.repositories.spelling(name))
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
    """Delete a repository and its access to files in CAS."""
    name = request.hub.repositories.spelling(_named(request, request.json()))
    request.require("write", name)
    request.hub.repositories.delete(name)
    request.hub.content.forget_repository(name)
    return Response("OK")


def move(request: HubRequest) -> Response:
    """Rename a repository, which keeps its access to files in CAS."""
    body = request.json()
    name, new_name = (f"{_kind(body)}/{_two_names(text_field(body, field))}" for field in ("fromRepo", "toRepo"))
    name = request.hub.repositories.spelling(name)
    request.require("write", name)
    request.hub.access.check_writer(request.identity, new_name)
    with request.hub.repositories.db.write():
        request.hub.repositories.move(name, new_name)
        request.hub.content.move_repository(name, new_name)
    return Response("OK")


def settings(request: HubRequest) -> Response:
    """Make a repository private or public, gated or not; other settings are ignored."""
    body = request.json()
    request.require("write")
    repositories, name = request.hub.repositories, request.repository
    private, gated = wants_private(body), body.get("gated")
    if gated not in (None, False, *GATE_MODES):
        raise BadRequestError(f"The field 'gated' must be false or one of {', '.join(GATE_MODES)}.")
    with repositories.db.write():
        if private is not None:
            repositories.set_private(name, private)
        if gated is not None:
            repositories.gates.set_mode(name, gated or None)
    return JSONResponse({"private": repositories.get(name).private, "gated": repositories.gates.mode(name) or False})


def duplicate(request: HubRequest) -> Response:
    """Create a repository with the branches, tags and commits of this one, without copying file content."""
    body = request.json()
    kind = request.param("kind")
    request.require_files()
    new_name = f"{kind}/{_two_names(text_field(body, 'repository'))}"
    request.hub.access.check_writer(request.identity, new_name)
    url = request.origin + Repository(new_name, "", False, 0).web_path
    with request.hub.repositories.db.write():
        try:
            request.hub.repositories.duplicate(request.repository, new_name, private=wants_private(body))
        except ConflictError as error:
            raise ConflictError(error.message, url=url) from error
        request.hub.content.share_repository(request.repository, new_name)
    return JSONResponse({"url": url, "filesCopyPending": False})


def auth_check(request: HubRequest) -> Response:
    """Check that the Hub token can read the files, or with ``/write`` that it can write."""
    scope = request.param("scope") or "read"
    if scope not in SCOPES:
        raise BadRequestError(f"Scope {scope!r} is not known; use 'read' or 'write'.")
    if scope == "write":
        request.require("write")
    else:
        request.require_files()
    return JSONResponse({})


def list_all(request: HubRequest) -> Response:
    """List the repositories of one type that the Hub token can see."""
    query = request.http.query_params
    matches = filter_of(query)
    visible = [
        _summary(request, repository, DEFAULT_REVISION)
        for repository in request.hub.repositories.find_all(request.param("kind"))
        if request.can_see(repository)
    ]
    found = in_order(query, [summary for summary in visible if matches(summary)])
    more = {*query.getlist("expand"), *query.getlist("expand[]")}
    with_files, with_card = (
        name in more or request.flag("full") or request.flag(name) for name in ("siblings", "cardData")
    )

    def describe_one(summary: Summary) -> Summary:
        answer = dict(summary)
        if with_files:
            answer["siblings"] = _siblings(request, f"{request.param('kind')}/{answer['id']}", answer["sha"])
        if not with_card:
            del answer["cardData"]
        return expanded(query, answer)

    return page_response(request, found, describe_one, 1000)


def list_storage(request: HubRequest) -> Response:
    """List the repositories and buckets of the user, or of a namespace, with the bytes that they store."""
    if request.identity is None:
        raise AccessError(401, "Listing your own repositories requires a Hub token; none was sent.")
    namespace = request.param("namespace") or request.user
    found = [
        repository
        for repository in request.hub.repositories.find_all()
        if repository.repo_id.split("/")[0] == namespace and request.can_see(repository)
    ]

    def describe_storage(repository: Repository) -> dict[str, Any]:
        return {
            "id": repository.repo_id,
            "type": repository.kind.removesuffix("s"),
            "updatedAt": iso_time(repository.created),
            "visibility": "private" if repository.private else "public",
            "storage": request.hub.content.readable_bytes(repository.name),
            "storagePercent": 0,
        }

    return page_response(request, found, describe_storage, 1000)


def describe(request: HubRequest) -> Response:
    """Describe a repository at a revision, with its files."""
    request.require("read")
    repository = request.hub.repositories.get(request.repository)
    answer = _summary(request, repository, request.param("revision") or DEFAULT_REVISION)
    commit = request.hub.repositories.resolve(repository.name, answer["sha"])
    files = [entry for entry in request.hub.repositories.entries(repository.name, commit) if entry.kind != "directory"]
    answer["siblings"] = [_sibling(entry, blobs=request.flag("blobs")) for entry in files]
    if repository.kind == "models" and request.flag("securityStatus"):
        answer["securityRepoStatus"] = scans.summary(
            {entry.path: request.hub.scans.report(repository.name, entry.path, commit.created) for entry in files}
        )
    answer["usedStorage"] = sum(entry.size for entry in files)
    return JSONResponse(expanded(request.http.query_params, answer))


def _named(request: HubRequest, body: dict[str, Any]) -> str:
    """Return the name of the repository to create or delete; without a namespace it is in the user's own."""
    name = text_field(body, "name")
    namespace = text_field(body, "organization", request.user if request.acts_as_user else "")
    kind = _kind(body)
    if kind == "buckets":
        raise BadRequestError(
            "The field 'type' must be one of model, dataset, space; buckets have routes of their own."
        )
    return f"{kind}/{_two_names(name if '/' in name else f'{namespace}/{name}')}"


def _first_files(body: dict[str, Any]) -> list[Change]:
    """Return the first files of a new repository: those in the request of a JavaScript client, and a card.

    The card is generated if the request names a license.
    """
    files: list[Change] = [require_valid_card(file) for file in inline_files(body)]
    license_name = text_field(body, "license", "")
    if license_name and not any(file.path == cards.PATH for file in files):
        text = f"---\nlicense: {json.dumps(license_name)}\n---\n"
        files.append(PutRegular(cards.PATH, text.encode()))
    return files


def _kind(body: dict[str, Any]) -> str:
    kind = f"{text_field(body, 'type', 'model')}s"
    if kind not in KINDS:
        known = ", ".join(each.removesuffix("s") for each in KINDS)
        raise BadRequestError(f"The field 'type' must be one of {known}, not {kind[:-1]!r}.")
    return kind


def _two_names(repo_id: str) -> str:
    if repo_id.count("/") != 1:
        raise BadRequestError(f"{repo_id!r} is not of the form 'namespace/name'.")
    return repo_id


def _scoped(user: str, key: str, scope: str) -> dict[str, Any]:
    """Describe a grant as the real Hub's OpenAPI document says; a grant for everything is one for the user's own."""
    kind, _, repo_id = key.partition("/")
    if repo_id:
        entity_type, name = kind.removesuffix("s"), repo_id
    else:
        name = user if key == EVERYTHING else key
        entity_type = "user" if name == user else "org"
    permissions = ["repo.content.read"] + (["repo.write"] if scope == "write" else [])
    return {"entity": {"_id": f"{entity_type}-{name}", "type": entity_type, "name": name}, "permissions": permissions}


def _summary(request: HubRequest, repository: Repository, revision: str) -> dict[str, Any]:
    commit = request.hub.repositories.resolve(repository.name, revision)
    card = card_of(request, commit)
    answer: dict[str, Any] = {
        "_id": repository.id,
        "id": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": commit.id,
        "lastModified": iso_time(commit.created),
        "createdAt": iso_time(repository.created),
        "private": repository.private,
        "gated": request.hub.repositories.gates.mode(repository.name) or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.tags(repository.kind),
        "cardData": card.data or None,
    }
    if repository.kind == "models":
        answer["modelId"] = repository.repo_id
        for name in ("pipeline_tag", "library_name"):
            if (found := card.string(name)) is not None:
                answer[name] = found
    return answer


def _siblings(request: HubRequest, name: str, commit_id: str) -> list[dict[str, Any]]:
    commit = request.hub.repositories.resolve(name, commit_id)
    entries = request.hub.repositories.entries(name, commit)
    return [_sibling(entry, blobs=False) for entry in entries if entry.kind != "directory"]


def _sibling(entry: Entry, *, blobs: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        answer |= {"size": entry.size, "blobId": entry.oid}
        if entry.sha256 is not None:
            pointer = pointer_text(entry.sha256, entry.size)
            answer["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": len(pointer)}
    return answer
