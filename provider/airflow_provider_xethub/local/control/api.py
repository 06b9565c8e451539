"""The control API, ``/_local/…``: JSON in and out, for who holds a Hub token that may write everywhere.

Faults never act on it, and the request log does not count it. A page of another origin cannot use it: it needs an
``Authorization`` header, which no page can send across origins without being allowed to, and a JSON content type.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_xethub import __version__
from airflow_provider_xethub.local.control.control import Control
from airflow_provider_xethub.local.control.fault import MAX_PATTERN, Fault
from airflow_provider_xethub.local.control.faults import READY_MADE
from airflow_provider_xethub.local.control.request_log import KEPT
from airflow_provider_xethub.local.hub.request import error_response
from airflow_provider_xethub.local.store.errors import BadRequestError, HubError

PREFIX = "/_local/"
MAX_BODY = 4 * 1024 * 1024
_FEW_REQUESTS = 1_000
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class _Asked:
    """One request: what it controls, and its JSON."""

    control: Control
    http: Request
    body: dict[str, Any]


def routes(control: Control) -> list[Route]:
    """Return the routes of the control API."""
    table: list[tuple[str, str, Callable[[_Asked], Response]]] = [
        ("GET", "status", show_status),
        ("PATCH", "settings", change_settings),
        ("GET", "faults", list_faults),
        ("POST", "faults", arm_fault),
        ("DELETE", "faults", disarm_faults),
        ("DELETE", "faults/{id}", disarm_fault),
        ("GET", "requests", list_requests),
        ("DELETE", "requests", forget_requests),
        ("GET", "counters", list_counters),
        ("GET", "transfers", list_transfers),
        ("GET", "transfers/{session}", show_transfer),
        ("POST", "reset", reset),
    ]
    return [Route(PREFIX + path, _endpoint(control, function), methods=[method]) for method, path, function in table]


def show_status(asked: _Asked) -> Response:
    """Say what this server is, what it holds, and how it is set."""
    control = asked.control
    return _json(
        {
            "version": __version__,
            "instance": control.store.instance_id,
            "repositories": len(control.store.repositories.find_all()),
            "faults": len(control.faults.armed()),
            "requests": sum(counter.requests for counter in control.log.counters()),
            "settings": asdict(control.store.access.settings),
        }
    )


def change_settings(asked: _Asked) -> Response:
    """Change how long tokens and data URLs live, and what the clock shows; answer all three."""
    access = asked.control.store.access
    known = asdict(access.settings)
    for name, value in asked.body.items():
        if name not in known:
            raise BadRequestError(f"The setting {name[:40]!r} is not known; use {', '.join(known)}.")
        if value is None:
            raise BadRequestError(f"The setting {name} must be a number of seconds, not null.")
    access.settings = replace(access.settings, **asked.body)
    return _json(asdict(access.settings))


def list_faults(asked: _Asked) -> Response:
    """List what is armed, and the faults that are ready-made."""
    armed = [fault.to_json() for fault in asked.control.faults.armed()]
    return _json({"faults": armed, "ready_made": [each.to_json() for each in READY_MADE.values()]})


def arm_fault(asked: _Asked) -> Response:
    """Arm a fault: its fields, or ``name``, that of a ready-made one, and the fields that are to be different."""
    fields = dict(asked.body)
    if "name" not in fields:
        return _json(asked.control.faults.arm(Fault.from_json(fields)).to_json(), 201)
    name = fields.pop("name")
    if not isinstance(name, str):
        raise BadRequestError("The field 'name' must be a text, the name of a ready-made fault.")
    return _json(asked.control.faults.arm(name, **fields).to_json(), 201)


def disarm_faults(asked: _Asked) -> Response:
    """Disarm all faults."""
    asked.control.faults.clear()
    return Response(status_code=204)


def disarm_fault(asked: _Asked) -> Response:
    """Disarm one fault."""
    text = asked.http.path_params["id"]
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if not asked.control.faults.remove(number):
        raise HubError(404, f"No fault {text[:40]!r} is armed; GET {PREFIX}faults lists those that are.")
    return Response(status_code=204)


def list_requests(asked: _Asked) -> Response:
    """List the last requests, oldest first; ``limit`` (1,000) of those that match, the newest."""
    query = asked.http.query_params
    route = query.get("route", ".*")
    if len(route) > MAX_PATTERN:
        raise BadRequestError(f"The query parameter route has more than {MAX_PATTERN} characters.")
    try:
        found = asked.control.log.requests(
            route,
            status=_number(query.get("status"), "status", 599),
            client=query.get("client"),
            session=query.get("session"),
            limit=_number(query.get("limit", str(_FEW_REQUESTS)), "limit", KEPT),
        )
    except (re.error, OverflowError, RecursionError) as error:
        raise BadRequestError(f"The query parameter route is not a regular expression: {error}.") from error
    return _json({"requests": [request.to_json() for request in found]})


def forget_requests(asked: _Asked) -> Response:
    """Forget all requests, counters and transfers."""
    asked.control.log.clear()
    return Response(status_code=204)


def list_counters(asked: _Asked) -> Response:
    """Count requests, errors and bytes by route and client."""
    return _json({"counters": [counter.to_json() for counter in asked.control.log.counters()]})


def list_transfers(asked: _Asked) -> Response:
    """Sum up what the last transfers did."""
    return _json({"transfers": [transfer.to_json() for transfer in asked.control.log.transfers()]})


def show_transfer(asked: _Asked) -> Response:
    """Sum up what one transfer did, given the ``x-xet-session-id`` of its requests."""
    session = asked.http.path_params["session"]
    transfer = asked.control.log.transfer(session)
    if transfer is None:
        raise HubError(404, f"No request of a transfer {session[:64]!r} was seen, or it is long ago.")
    return _json(transfer.to_json())


def reset(asked: _Asked) -> Response:
    """Disarm faults, forget requests, go back to the first settings; with ``data``, also delete all repositories."""
    unknown = sorted(set(asked.body) - {"data"})
    if unknown:
        raise BadRequestError(f"The field {unknown[0][:40]!r} is not known; use data.")
    data = asked.body.get("data", False)
    if not isinstance(data, bool):
        raise BadRequestError("The field 'data' must be true or false.")
    return _json({"repositories_deleted": asked.control.reset(data=data)})


def _endpoint(control: Control, function: Callable[[_Asked], Response]) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        try:
            await run_in_threadpool(_authorise, control, request)
            body = await _body(request)
            return await run_in_threadpool(function, _Asked(control, request, body))
        except HubError as error:
            return error_response(error)
        except ValueError as error:  # what faults and settings say about their fields
            return error_response(BadRequestError(str(error)))
        except ClientDisconnect:
            return Response(status_code=400)

    return functools.update_wrapper(endpoint, function)


def _authorise(control: Control, request: Request) -> None:
    identity = control.store.access.identify(request.headers.get("authorization"))
    if identity is None:
        raise HubError(401, "Controlling this server needs a Hub token that may write everywhere; none was sent.")
    if not identity.writes_everywhere:
        raise HubError(
            403,
            f"The Hub token {identity.token_name!r} of {identity.user} may not control this server: it may not write "
            "everywhere. Use the write token of the user 'local'.",
        )


async def _body(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise HubError(413, f"The request body is larger than {MAX_BODY} bytes, which is the limit here.")
    if not body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HubError(415, f"The body must be application/json, not {media_type[:60] or 'without a Content-Type'}.")
    try:
        value = json.loads(bytes(body), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a character, escaped, cannot be sent again
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The request body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequestError(f"The request body must be a JSON object, not {type(value).__name__}.")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _number(text: str | None, name: str, most: int) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
        raise BadRequestError(f"The query parameter {name} must be a whole number from 0 to {most}.")
    return int(text)


def _json(value: object, status: int = 200) -> Response:
    return JSONResponse(value, status, _NO_STORE)
