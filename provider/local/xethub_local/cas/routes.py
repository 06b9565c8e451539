"""The routes of one CAS: xorbs, shards, reconstructions, data and telemetry."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from xethub_local.store.access import Access

_MAX_REPORT = 64 * 1024

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
    """Accept a client's report on its transfer; any Xet token is valid."""
    require(access, request, "read")
    try:
        report = json.loads(bytes(await read_body(request, _MAX_REPORT, "The report")))
    except (ValueError, RecursionError):
        return Response(status_code=204)  # clients ignore the response
    if isinstance(report, dict):
        on_report(report)
    return Response(status_code=204)
