"""The CAS API: xorbs and shards in, reconstructions and data out, and the clients' own reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_xethub.local.cas import files as cas_files
from airflow_provider_xethub.local.cas import xorbs as cas_xorbs
from airflow_provider_xethub.local.cas.files import InRevision
from airflow_provider_xethub.local.cas.request import Origin, cas_route, origin_of, read_body, require
from airflow_provider_xethub.local.content.store import ContentStore
from airflow_provider_xethub.local.store.access import Access

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

    :param origin: tells from a request at which origin the client reaches this server; data URLs are there.
    :param base_path: path of the CAS URL without trailing slash, such as ``/cas/<instance>``. Telemetry alone goes to
        the root of the origin, because clients send it there whatever the CAS URL's path is.
    :param in_revision: whether a file is in a revision of a repository; by default none is.
    :param on_report: gets what a client says about a transfer of its own. Anybody with a token can send one: do not
        trust it.
    """
    return [
        # First what is asked once per file: routes are tried in their order.
        *cas_files.routes(content, access, origin, in_revision, base_path=base_path),
        *cas_xorbs.routes(content, access, origin, base_path=base_path),
        cas_route("", "POST", "/v1/telemetry", partial(_accept_telemetry, access, on_report)),
    ]


async def _accept_telemetry(access: Access, on_report: Callable[[Report], None], request: Request) -> Response:
    """Accept a client's report of its own doings; any Xet token will do."""
    require(access, request, "read")
    try:
        report = json.loads(bytes(await read_body(request, _MAX_REPORT, "The report")))
    except (ValueError, RecursionError):
        return Response(status_code=204)  # clients do not look at the answer, and must not wait for it
    if isinstance(report, dict):
        on_report(report)
    return Response(status_code=204)
