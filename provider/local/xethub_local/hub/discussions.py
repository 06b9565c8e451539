"""Hub routes of discussions and pull requests.

The JSON follows ``huggingface_hub`` 2.4 (``community.py``), which parses it.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import flag_field, text_field, whole_number
from xethub_local.hub.request import HubBackend, HubRequest, hub_route
from xethub_local.metadata.differences import diff_text
from xethub_local.metadata.discussions import Discussion, DiscussionEvent
from xethub_local.store.errors import BadRequestError, HubError, RevisionNotFoundError
from xethub_local.store.timestamps import iso_time

_PER_PAGE = 50


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    every = "/api/{kind}/{namespace}/{name}/discussions"
    one = f"{every}/{{number}}"
    return [
        hub_route(hub, every, list_discussions, "GET"),
        hub_route(hub, every, open_discussion, "POST"),
        hub_route(hub, one, describe_discussion, "GET"),
        hub_route(hub, f"{one}/merge", merge, "POST"),
        hub_route(hub, f"{one}/status", set_status, "POST"),
        hub_route(hub, f"{one}/title", set_title, "POST"),
        hub_route(hub, f"{one}/comment", comment, "POST"),
        hub_route(hub, f"{one}/comment/{{comment}}/edit", edit_comment, "POST"),
        hub_route(hub, f"{one}/comment/{{comment}}/hide", hide_comment, "POST"),
    ]


def list_discussions(request: HubRequest) -> Response:
    """List discussions and pull requests, newest first, in pages numbered from 0."""
    request.require("read")
    kind, status, author = request.query("type"), request.query("status"), request.query("author")
    found = [
        discussion
        for discussion in reversed(request.hub.commits.discussions.find_all(request.repository))
        if kind in ("", "all") or discussion.is_pull_request == (kind == "pull_request")
        if status in ("", "all") or (discussion.status in ("open", "draft")) == (status == "open")
        if author in ("", discussion.author)
    ]
    start = request.number("p", 0) * _PER_PAGE
    shown = [_describe(request, discussion) for discussion in found[start : start + _PER_PAGE]]
    return JSONResponse({"discussions": shown, "count": len(found), "start": start})


def open_discussion(request: HubRequest) -> Response:
    """Open a discussion, or a pull request without commits.

    The latter is a draft, as ``HfApi.create_pull_request`` documents; ``HfApi.change_discussion_status`` publishes it.
    """
    body = request.json()
    is_pull_request = flag_field(body, "pullRequest")
    request.require("read")
    _require_user(request)
    if is_pull_request:
        request.require_files()
        request.hub.access.check_proposer(request.identity, request.repository)
    title, description = _not_empty(body, "title"), text_field(body, "description", "")
    name, commits = request.repository, request.hub.commits
    opened = (
        commits.open_pull_request(name, title, description, request.user)
        if is_pull_request
        else commits.discussions.open(name, title, description, request.user)
    )
    return JSONResponse({"num": opened.number, "pullRequest": is_pull_request})


def describe_discussion(request: HubRequest) -> Response:
    """Describe a discussion with all its events."""
    request.require("read")
    number = _number(request)
    discussions = request.hub.commits.discussions
    discussion = discussions.get(request.repository, number)
    events = discussions.events(request.repository, number)
    answer = {**_describe(request, discussion), "events": [_describe_event(event) for event in events]}
    if discussion.is_pull_request:
        changes = {"base": f"refs/heads/{discussion.base}"}
        merges = [event.data["mergeCommitId"] for event in events if event.data.get("mergeCommitId")]
        changes |= {"mergeCommitId": merges[0]} if merges else {}
        answer |= {"filesWithConflicts": _conflicts(request, discussion), "changes": changes, "diff": ""}
        if request.flag("diff"):
            answer["diff"] = _diff(request, discussion)
    return JSONResponse(answer)


def merge(request: HubRequest) -> Response:
    """Merge a pull request into its base."""
    text = text_field(request.json(), "comment", "")
    request.require("write")
    number = _number(request)
    merged = request.hub.commits.merge(request.repository, number, request.user)
    if text:
        request.hub.commits.discussions.comment(request.repository, number, request.user, text)
    return JSONResponse({"commitOid": merged.id})


def set_status(request: HubRequest) -> Response:
    """Open or close a discussion."""
    body = request.json()
    number, status = _number(request), text_field(body, "status")
    _require_author(request, number)
    if status not in ("open", "closed"):
        raise BadRequestError(f"Status {status!r} is not known; use 'open' or 'closed'.")
    discussions = request.hub.commits.discussions
    changed = discussions.set_status(request.repository, number, request.user, status)
    if text := text_field(body, "comment", ""):
        discussions.comment(request.repository, number, request.user, text)
    return JSONResponse({"newStatus": _describe_event(changed)})


def set_title(request: HubRequest) -> Response:
    """Change the title of a discussion."""
    title = _not_empty(request.json(), "title")
    number = _number(request)
    _require_author(request, number)
    changed = request.hub.commits.discussions.set_title(request.repository, number, request.user, title)
    return JSONResponse({"newTitle": _describe_event(changed)})


def comment(request: HubRequest) -> Response:
    """Comment on a discussion; everyone who can see it may do so."""
    text = _not_empty(request.json(), "comment")
    request.require("read")
    _require_user(request)
    number = _number(request)
    discussions = request.hub.commits.discussions
    discussions.get(request.repository, number)
    return JSONResponse(
        {"newMessage": _describe_event(discussions.comment(request.repository, number, request.user, text))}
    )


def edit_comment(request: HubRequest) -> Response:
    """Replace the text of a comment."""
    return _change_comment(request, _not_empty(request.json(), "content"))


def hide_comment(request: HubRequest) -> Response:
    """Hide a comment permanently."""
    return _change_comment(request, None)


def _change_comment(request: HubRequest, text: str | None) -> Response:
    number, comment_id = _number(request), request.param("comment")
    events = request.hub.commits.discussions.events(request.repository, number)
    authors = [event.author for event in events if event.id == comment_id]
    request.require("read" if request.acts_as_user and request.user in authors else "write")
    changed = request.hub.commits.discussions.change_comment(
        request.repository, number, comment_id, text=text, hidden=text is None
    )
    return JSONResponse({"updatedComment": _describe_event(changed)})


def _describe(request: HubRequest, discussion: Discussion) -> dict[str, Any]:
    kind, _, repo_id = request.repository.partition("/")
    return {
        "num": discussion.number,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": iso_time(discussion.created),
        "status": discussion.status,
        "isPullRequest": discussion.is_pull_request,
        "repo": {"name": repo_id, "type": kind.removesuffix("s")},
    }


def _conflicts(request: HubRequest, pull_request: Discussion) -> list[str]:
    if pull_request.status == "merged":
        return []
    try:
        return request.hub.commits.conflicts(request.repository, pull_request)
    except RevisionNotFoundError:  # its base was deleted
        return []


def _diff(request: HubRequest, pull_request: Discussion) -> str:
    try:
        before, after = request.hub.commits.changed_by(request.repository, pull_request)
    except RevisionNotFoundError:  # its base was deleted
        return ""
    return diff_text(before, after, request.hub.repositories.blob)


def _describe_event(event: DiscussionEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "createdAt": iso_time(event.created),
        "author": {"name": event.author},
        "data": event.data,
    }


def _not_empty(body: dict[str, Any], name: str) -> str:
    text = text_field(body, name)
    if not text.strip():
        raise BadRequestError(f"The field {name!r} must not be empty.")
    return text


def _require_author(request: HubRequest, number: int) -> None:
    """Reject callers who neither opened the discussion nor have write access to the repository."""
    discussion = request.hub.commits.discussions.find(request.repository, number)
    is_own = discussion is not None and request.acts_as_user and discussion.author == request.user
    request.require("read" if is_own else "write")


def _require_user(request: HubRequest) -> None:
    if request.identity is None:
        raise HubError(401, f"Writing in discussions of {request.repository} requires a Hub token; none was sent.")
    if not request.acts_as_user:
        request.require("write")


def _number(request: HubRequest) -> int:
    text = request.param("number")
    number = whole_number(text)
    if number is None:
        raise HubError(404, f"{request.repository} has no pull request or discussion {text[:40]!r}.")
    return number
