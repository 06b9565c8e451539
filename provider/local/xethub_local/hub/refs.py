"""Hub routes of a repository's branches, tags and commits.

The JSON follows ``huggingface_hub`` 2.4 and ``@huggingface/hub`` 2.17, which parse it.
"""

from __future__ import annotations

import html
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import flag_field, text_field
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, page_response
from xethub_local.metadata.history import HEADS, PULLS, TAGS, Commit
from xethub_local.repo import DEFAULT_REVISION
from xethub_local.store.timestamps import iso_time

_COMMITS_PER_PAGE = 1000


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/refs", refs, "GET"),
        hub_route(hub, f"{one}/branch/{{branch}}", create_branch, "POST"),
        hub_route(hub, f"{one}/branch/{{branch}}", delete_branch, "DELETE"),
        hub_route(hub, f"{one}/tag/{{revision}}", create_tag, "POST"),
        hub_route(hub, f"{one}/tag/{{revision}}", delete_tag, "DELETE"),
        hub_route(hub, f"{one}/commits/{{revision}}", commits, "GET"),
        hub_route(hub, f"{one}/super-squash/{{revision}}", squash, "POST"),
    ]


def refs(request: HubRequest) -> Response:
    """List branches, tags and, with ``include_prs``, pull requests."""
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
    """Create a branch at a revision, or with ``emptyBranch``, which JavaScript clients can send, without any files."""
    body = request.json()
    request.require("write")
    branch, overwrite = request.param("branch"), flag_field(body, "overwrite")
    if flag_field(body, "emptyBranch"):
        request.hub.repositories.create_empty_branch(
            request.repository, branch, author=request.user, overwrite=overwrite
        )
    else:
        start = text_field(body, "startingPoint", DEFAULT_REVISION)
        request.hub.repositories.create_branch(request.repository, branch, start, overwrite=overwrite)
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
    query = request.http.query_params
    is_formatted = "formatted" in (*query.getlist("expand"), *query.getlist("expand[]"))

    def describe(commit: Commit) -> dict[str, Any]:
        return _describe_commit(commit) | ({"formatted": _formatted(commit)} if is_formatted else {})

    return page_response(request, history, describe, _COMMITS_PER_PAGE)


def squash(request: HubRequest) -> Response:
    """Replace the history of a branch by one commit."""
    body = request.json()
    request.require("write")
    branch = request.param("revision")
    request.hub.repositories.squash(
        request.repository, branch, text_field(body, "message", f"Super-squash branch '{branch}'"), request.user
    )
    return Response("OK")


def _formatted(commit: Commit) -> dict[str, str]:
    """Return the title and the message as HTML, with any markup in them escaped."""
    title, message = html.escape(commit.title), html.escape(commit.message)
    return {"title": title, "message": f"<p>{message}</p>" if message else ""}


def _describe_commit(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "date": iso_time(commit.created),
        "authors": [{"user": commit.author, "avatar": ""}],
    }
