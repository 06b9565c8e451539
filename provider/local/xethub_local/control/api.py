"""The control API, ``/_local/…``: JSON in and out, for callers with a Hub token that has write access to everything.

It is not affected by faults, and the request log leaves it out. Web pages of other origins cannot use it: it requires
an ``Authorization`` header, which browsers send across origins only if the server allows it, and a JSON content type.
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

from xethub_local import __version__
from xethub_local.control.fault import MAX_PATTERN, Fault
from xethub_local.control.presets import PRESETS
from xethub_local.control.request_log import KEPT
from xethub_local.control.server_state import ServerState
from xethub_local.http.json_fields import flag_field, object_field, text_field
from xethub_local.hub.request import error_response
from xethub_local.metadata.scans import ScanRule
from xethub_local.store.errors import BadRequestError, HubError
from xethub_local.store.publishers import OWN_ISSUER, Resource

PREFIX = "/_local/"
MAX_BODY = 4 * 1024 * 1024
_DEFAULT_REQUESTS = 1_000
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class _ControlRequest:
    """A request, its JSON, and the server that it controls."""

    state: ServerState
    http: Request
    body: dict[str, Any]
    origin: str

    def refuse_other_fields(self, *known: str) -> None:
        """Refuse fields of the body that nothing would read."""
        unknown = sorted(set(self.body) - set(known))
        if unknown:
            raise BadRequestError(f"The field {unknown[0][:40]!r} is not known; use {', '.join(known)}.")


def routes(state: ServerState, origin: Callable[[Request], str]) -> list[Route]:
    """Return the routes of the control API.

    :param origin: returns the origin at which the client of a request reaches the server.
    """
    table: list[tuple[str, str, Callable[[_ControlRequest], Response]]] = [
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
        ("GET", "scans", list_scans),
        ("POST", "scans", add_scan),
        ("DELETE", "scans", forget_scans),
        ("GET", "publishers", list_publishers),
        ("POST", "publishers", add_publisher),
        ("DELETE", "publishers/{publisher}", remove_publisher),
        ("POST", "identities", make_identity),
        ("POST", "reset", reset),
    ]
    return [
        Route(PREFIX + path, _endpoint(state, origin, function), methods=[method]) for method, path, function in table
    ]


def show_status(request: _ControlRequest) -> Response:
    """Return the server's version, its settings, and how many repositories, faults and requests it has."""
    state = request.state
    return _json(
        {
            "version": __version__,
            "instance": state.store.instance_id,
            "repositories": len(state.store.repositories.find_all()),
            "faults": len(state.faults.armed()),
            "requests": sum(counter.requests for counter in state.log.counters()),
            "settings": asdict(state.store.access.settings),
        }
    )


def change_settings(request: _ControlRequest) -> Response:
    """Change the lifetime of Xet tokens or data URLs, or the clock offset; return all settings."""
    access = request.state.store.access
    known = asdict(access.settings)
    for name, value in request.body.items():
        if name not in known:
            raise BadRequestError(f"The setting {name[:40]!r} is not known; use {', '.join(known)}.")
        if value is None:
            raise BadRequestError(f"The setting {name} must be a number of seconds, not null.")
    access.settings = replace(access.settings, **request.body)
    return _json(asdict(access.settings))


def list_faults(request: _ControlRequest) -> Response:
    """List the faults that are switched on, and the ready-made ones."""
    armed = [fault.to_json() for fault in request.state.faults.armed()]
    return _json({"faults": armed, "ready_made": [preset.to_json() for preset in PRESETS.values()]})


def arm_fault(request: _ControlRequest) -> Response:
    """Switch a fault on, given all its fields, or the ``name`` of a ready-made fault and the fields to change."""
    fields = dict(request.body)
    if "name" not in fields:
        return _json(request.state.faults.arm(Fault.from_json(fields)).to_json(), 201)
    name = fields.pop("name")
    if not isinstance(name, str):
        raise BadRequestError("The field 'name' must be a string: the name of a ready-made fault.")
    return _json(request.state.faults.arm(name, **fields).to_json(), 201)


def disarm_faults(request: _ControlRequest) -> Response:
    """Switch all faults off."""
    request.state.faults.clear()
    return Response(status_code=204)


def disarm_fault(request: _ControlRequest) -> Response:
    """Switch one fault off."""
    text = request.http.path_params["id"]
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if not request.state.faults.remove(number):
        raise HubError(404, f"No fault with the id {text[:40]!r} is switched on; GET {PREFIX}faults lists them.")
    return Response(status_code=204)


def list_requests(request: _ControlRequest) -> Response:
    """List the newest requests that match, oldest first, up to ``limit``. Default: 1,000."""
    query = request.http.query_params
    route = query.get("route", ".*")
    if len(route) > MAX_PATTERN:
        raise BadRequestError(f"The query parameter route has more than {MAX_PATTERN} characters.")
    try:
        found = request.state.log.requests(
            route,
            status=_number(query.get("status"), "status", 599),
            client=query.get("client"),
            session=query.get("session"),
            limit=_number(query.get("limit", str(_DEFAULT_REQUESTS)), "limit", KEPT),
        )
    except (re.error, OverflowError, RecursionError) as error:
        raise BadRequestError(f"The query parameter route is not a regular expression: {error}.") from error
    return _json({"requests": [each.to_json() for each in found]})


def forget_requests(request: _ControlRequest) -> Response:
    """Forget all requests, counters and transfers."""
    request.state.log.clear()
    return Response(status_code=204)


def list_counters(request: _ControlRequest) -> Response:
    """Count requests, errors and bytes by route and client."""
    return _json({"counters": [counter.to_json() for counter in request.state.log.counters()]})


def list_transfers(request: _ControlRequest) -> Response:
    """Summarise the last transfers, each from its requests."""
    return _json({"transfers": [transfer.to_json() for transfer in request.state.log.transfers()]})


def show_transfer(request: _ControlRequest) -> Response:
    """Summarise one transfer, given the ``x-xet-session-id`` of its requests."""
    session = request.http.path_params["session"]
    transfer = request.state.log.transfer(session)
    if transfer is None:
        raise HubError(404, f"Unknown transfer {session[:64]!r}: it sent no requests, or they have been forgotten.")
    return _json(transfer.to_json())


def list_scans(request: _ControlRequest) -> Response:
    """List the rules that say what is reported about scans of files, in the order in which they are tried."""
    return _json({"scans": [rule.to_json() for rule in request.state.store.scans.rules()]})


def add_scan(request: _ControlRequest) -> Response:
    """Add a rule: which ``status`` to report about files, by ``path`` and ``repository``."""
    rule = ScanRule.from_json(request.body)
    request.state.store.scans.add(rule)
    return _json(rule.to_json(), 201)


def forget_scans(request: _ControlRequest) -> Response:
    """Remove all rules, so that every file is reported as safe."""
    request.state.store.scans.clear()
    return Response(status_code=204)


def list_publishers(request: _ControlRequest) -> Response:
    """List the trusted publishers of all repositories and users."""
    return _json({"publishers": [each.to_json() for each in request.state.store.publishers.find()]})


def add_publisher(request: _ControlRequest) -> Response:
    """Add a trusted publisher of a ``resource``: an ``issuer`` and the ``claims`` of its ID tokens.

    Without an ``issuer`` it is the local Hub's own, whose ID tokens ``POST /_local/identities`` makes.
    """
    request.refuse_other_fields("resource", "claims", "issuer", "read_only")
    issuer = text_field(request.body, "issuer", OWN_ISSUER)
    added = request.state.store.publishers.add(
        Resource.parse(text_field(request.body, "resource")),
        object_field(request.body, "claims"),
        issuer=issuer,
        read_only=flag_field(request.body, "read_only"),
    )
    return _json(added.to_json(), 201)


def remove_publisher(request: _ControlRequest) -> Response:
    """Remove a trusted publisher; what was exchanged already stays valid until it expires."""
    publisher_id = request.http.path_params["publisher"]
    if not request.state.store.publishers.remove(publisher_id):
        raise HubError(404, f"There is no publisher {publisher_id[:40]!r}; GET {PREFIX}publishers lists them.")
    return Response(status_code=204)


def make_identity(request: _ControlRequest) -> Response:
    """Make an ID token of the local Hub's own issuer, by default for this Hub."""
    request.refuse_other_fields("sub", "aud", "lifetime", "algorithm", "claims")
    given = {name: value for name, value in request.body.items() if value is not None}
    for name in {"sub", "aud"} & given.keys():
        text_field(given, name)
    if "claims" in given:
        object_field(given, "claims")
    state = request.state
    return _json({"id_token": state.store.issuer.identity(request.origin, state.store.access.now(), **given)})


def reset(request: _ControlRequest) -> Response:
    """Switch faults off, forget requests, restore the initial settings; with ``data``, delete all repositories too."""
    request.refuse_other_fields("data")
    data = request.body.get("data", False)
    if not isinstance(data, bool):
        raise BadRequestError("The field 'data' must be true or false.")
    return _json({"repositories_deleted": request.state.reset(data=data)})


def _endpoint(
    state: ServerState, origin: Callable[[Request], str], function: Callable[[_ControlRequest], Response]
) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        try:
            await run_in_threadpool(_authorise, state, request)
            body = await _body(request)
            return await run_in_threadpool(function, _ControlRequest(state, request, body, origin(request)))
        except HubError as error:
            return error_response(error)
        except ValueError as error:  # raised by faults and settings about their fields
            return error_response(BadRequestError(str(error)))
        except ClientDisconnect:
            return Response(status_code=400)

    return functools.update_wrapper(endpoint, function)


def _authorise(state: ServerState, request: Request) -> None:
    identity = state.store.access.identify(request.headers.get("authorization"))
    if identity is None:
        raise HubError(401, "Controlling this server requires a Hub token; send the write token of the user 'local'.")
    if not identity.writes_everywhere:
        raise HubError(
            403,
            f"The Hub token {identity.token_name!r} of {identity.user} lacks write access to everything, which "
            "controlling this server requires. Use the write token of the user 'local'.",
        )


async def _body(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise HubError(413, f"The request body exceeds the limit of {MAX_BODY:,} bytes.")
    if not body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        found = media_type[:60] or "missing"
        raise HubError(415, f"The Content-Type of the request body must be application/json; it is {found}.")
    try:
        value = json.loads(bytes(body), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # fails on a lone surrogate, which no answer could carry
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The request body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequestError(f"The request body must be a JSON object, not {type(value).__name__}.")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _number(text: str | None, name: str, maximum: int) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > maximum:
        raise BadRequestError(f"The query parameter {name} must be a whole number from 0 to {maximum:,}.")
    return int(text)


def _json(value: object, status: int = 200) -> Response:
    return JSONResponse(value, status, _NO_STORE)
