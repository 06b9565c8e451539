"""Hub routes of gated repositories: requesting access and granting it.

The JSON follows ``huggingface_hub`` 2.4. On the real Hub, users request access with a form on a web page; here a
request without a form is enough.
"""

from __future__ import annotations

from typing import Any, cast

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import text_field
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, page_response
from xethub_local.metadata.gates import STATUSES, AccessRequest, Status
from xethub_local.store.errors import BadRequestError, ConflictError, HubError
from xethub_local.store.timestamps import iso_time

_REQUESTS_PER_PAGE = 1000


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/ask-access", request_access, "POST"),
        hub_route(hub, f"{one}/user-access-request/grant", grant, "POST"),
        hub_route(hub, f"{one}/user-access-request/handle", handle, "POST"),
        hub_route(hub, f"{one}/user-access-request/{{status}}", list_requests, "GET"),
    ]


def request_access(request: HubRequest) -> Response:
    """Request access, which an automatic gate grants at once, and a manual one when someone accepts."""
    request.require("read")
    if request.identity is None:
        raise HubError(401, f"Requesting access to {request.repository} requires a Hub token; none was sent.")
    if not request.acts_as_user:
        raise HubError(403, f"An exchanged token cannot request access to {request.repository}; its user can.")
    gates = request.hub.repositories.gates
    mode = gates.mode(request.repository)
    if mode is None:
        raise BadRequestError(f"{request.repository} is not gated.")
    if gates.status(request.repository, request.user) is None:
        gates.set_status(request.repository, request.user, "accepted" if mode == "auto" else "pending")
    return JSONResponse({"status": gates.status(request.repository, request.user)})


def grant(request: HubRequest) -> Response:
    """Grant access to a user who has not requested it, or whose request is open or rejected."""
    request.require("write")
    user = text_field(request.json(), "user")
    if request.hub.repositories.gates.status(request.repository, user) == "accepted":
        raise ConflictError(f"{user} already has access to {request.repository}.")
    return _decide(request, user, "accepted")


def handle(request: HubRequest) -> Response:
    """Accept or reject an access request, or set it back to pending."""
    body = request.json()
    status = text_field(body, "status")
    if status not in STATUSES:
        raise BadRequestError(f"The field 'status' must be one of {', '.join(STATUSES)}, not {status!r}.")
    # The id of an access request is the name of its user.
    user = text_field(body, "user" if body.get("user") is not None else "requestId")
    request.require("write")
    before = request.hub.repositories.gates.status(request.repository, user)
    if before is None:
        raise HubError(404, f"{user!r} has not requested access to {request.repository}.")
    if before == status:
        raise ConflictError(f"The access request of {user!r} for {request.repository} is already {status}.")
    return _decide(request, user, cast(Status, status))


def list_requests(request: HubRequest) -> Response:
    """List the access requests with a given status."""
    request.require("write")
    status = request.param("status")
    if status not in STATUSES:
        raise HubError(404, f"The status of access requests is one of {', '.join(STATUSES)}, not {status[:40]!r}.")
    found = request.hub.repositories.gates.requests(request.repository, status)
    return page_response(request, found, _describe, _REQUESTS_PER_PAGE)


def _decide(request: HubRequest, user: str, status: Status) -> Response:
    request.require("write")
    request.hub.repositories.gates.set_status(request.repository, user, status)
    return JSONResponse({"user": user, "status": status})


def _describe(access_request: AccessRequest) -> dict[str, Any]:
    return {
        "requestId": access_request.user,
        "user": {"user": access_request.user, "fullname": access_request.user},
        "status": access_request.status,
        "timestamp": iso_time(access_request.created),
    }
