"""Hub routes of gated repositories: asking to be let in, and letting in.

Shapes from ``huggingface_hub`` 2.4. Asking is a form on a web page of the real Hub; here a request without a form
suffices.
"""

from __future__ import annotations

from typing import Any, cast

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.http.json_fields import text_field
from airflow_provider_xethub.local.hub.request import HubBackend, HubRequest, hub_route, page_response
from airflow_provider_xethub.local.metadata.gates import STATUSES, AccessRequest, Status
from airflow_provider_xethub.local.store.errors import BadRequestError, ConflictError, HubError
from airflow_provider_xethub.local.store.timestamps import iso_time

_REQUESTS_PER_PAGE = 1000


def routes(hub: HubBackend) -> list[Route]:
    """Return the routes; ``{kind}`` is ``models``, ``datasets`` or ``spaces``."""
    one = "/api/{kind}/{namespace}/{name}"
    return [
        hub_route(hub, f"{one}/ask-access", ask, "POST"),
        hub_route(hub, f"{one}/user-access-request/grant", grant, "POST"),
        hub_route(hub, f"{one}/user-access-request/handle", handle, "POST"),
        hub_route(hub, f"{one}/user-access-request/{{status}}", list_requests, "GET"),
    ]


def ask(request: HubRequest) -> Response:
    """Ask to be let in: at once where the gate is automatic, else when somebody accepts."""
    request.require("read")
    if request.identity is None:
        raise HubError(401, f"Asking for access to {request.repository} needs a Hub token; none was sent.")
    gates = request.hub.repositories.gates
    mode = gates.mode(request.repository)
    if mode is None:
        raise BadRequestError(f"{request.repository} is not gated.")
    if gates.status(request.repository, request.user) is None:
        gates.set_status(request.repository, request.user, "accepted" if mode == "auto" else "pending")
    return JSONResponse({"status": gates.status(request.repository, request.user)})


def grant(request: HubRequest) -> Response:
    """Let a user in who never asked, or was not let in yet."""
    request.require("write")
    user = text_field(request.json(), "user")
    if request.hub.repositories.gates.status(request.repository, user) == "accepted":
        raise ConflictError(f"{user} already has access to {request.repository}.")
    return _decide(request, user, "accepted")


def handle(request: HubRequest) -> Response:
    """Accept or reject a request, or leave it open again."""
    body = request.json()
    status = text_field(body, "status")
    if status not in STATUSES:
        raise BadRequestError(f"The field 'status' must be one of {', '.join(STATUSES)}, not {status!r}.")
    # A request has no other id here than the user's name.
    user = text_field(body, "user" if body.get("user") is not None else "requestId")
    request.require("write")
    before = request.hub.repositories.gates.status(request.repository, user)
    if before is None:
        raise HubError(404, f"{user!r} never asked for access to {request.repository}.")
    if before == status:
        raise ConflictError(f"The access request of {user!r} to {request.repository} is {status} already.")
    return _decide(request, user, cast(Status, status))


def list_requests(request: HubRequest) -> Response:
    """List the requests of one status."""
    request.require("write")
    status = request.param("status")
    if status not in STATUSES:
        raise HubError(404, f"Access requests are {', '.join(STATUSES)}, not {status[:40]!r}.")
    found = request.hub.repositories.gates.requests(request.repository, status)
    return page_response(request, found, _describe, _REQUESTS_PER_PAGE)


def _decide(request: HubRequest, user: str, status: Status) -> Response:
    request.require("write")
    request.hub.repositories.gates.set_status(request.repository, user, status)
    return JSONResponse({"user": user, "status": status})


def _describe(asked: AccessRequest) -> dict[str, Any]:
    return {
        "requestId": asked.user,
        "user": {"user": asked.user, "fullname": asked.user},
        "status": asked.status,
        "timestamp": iso_time(asked.created),
    }
