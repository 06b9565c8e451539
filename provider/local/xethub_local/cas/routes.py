"""The routes of one CAS: xorbs, shards, reconstructions, data and telemetry."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xethub_local.cas import files as cas_files
from xethub_local.cas import xorbs as cas_xorbs
from xethub_local.cas.files import InRevision
from xethub_local.cas.request import Origin, cas_route, origin_of, read_body, require
from xethub_local.content.store import ContentStore
from xethub_local.formats import FormatError
from xethub_local.store.access import Access

_MAX_REPORT = 1024 * 1024

Report = dict[str, Any]


def routes(
    content: ContentStore,
    access: Access,
    *,
    base_path: str,
    origin: Origin = origin_of,
    in_revision: InRevision = lambda *_: False,
    on_report: Callable[[Report], None] = lambda _: None,
) -> list[Route]:
    """Return the routes of one CAS.

    :param origin: returns the origin at which the client of a request reaches this server; data URLs use it.
    :param base_path: path of the CAS URL without trailing slash, such as ``/cas/<instance>``. Only telemetry goes to
        the root of the origin, where clients send it whatever the CAS URL's path is.
    :param in_revision: returns whether a file is in a revision of a repository. Default: no file is.
    :param on_report: called with a client's report on its transfer. Do not trust it: anyone with a token can send one.
    """
    return [
        # Requests made once per file come first, because routes are tried in order.
        *cas_files.routes(content, access, origin, in_revision, base_path=base_path),
        *cas_xorbs.routes(content, access, origin, base_path=base_path),
        cas_route("", "POST", "/v1/telemetry", partial(_accept_telemetry, access, on_report)),
    ]


async def _accept_telemetry(access: Access, on_report: Callable[[Report], None], request: Request) -> Response:
    """Accept a client's report on its transfer; any Xet token is valid. Clients ignore the response."""
    require(access, request, "read")
    on_report(_parse_report(await read_body(request, _MAX_REPORT, "The report")))
    return Response(status_code=200)


def _parse_report(body: bytes | bytearray) -> Report:
    """Parse a report; clients send the user agent under one of two names.

    :raises FormatError: a field is missing, has the wrong type, or is there twice.
    """
    try:
        report = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise FormatError("The report is not JSON.") from error
    if not isinstance(report, dict):
        raise FormatError("The report is not a JSON object.")
    agents = [name for name in ("user_agent", "userAgent") if name in report]
    if len(agents) != 1:
        raise FormatError("The report must have user_agent, once.")
    for name in ("time", "event", "session_id", *agents):
        if not isinstance(report.get(name), str):
            raise FormatError(f"The report's {name} must be a string.")
    try:
        datetime.fromisoformat(report["time"].replace("Z", "+00:00"))
    except ValueError as error:
        raise FormatError("The report's time must be in ISO 8601.") from error
    if not isinstance(report.get("metrics"), dict):
        raise FormatError("The report's metrics must be an object.")
    return report
