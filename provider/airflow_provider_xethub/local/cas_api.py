"""The CAS API: xorbs and shards in, reconstructions and data out, and the clients' own reports."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_xethub.local import cas_files, cas_xorbs
from airflow_provider_xethub.local.access import Access
from airflow_provider_xethub.local.content import ContentStore


def routes(content: ContentStore, access: Access, *, base_path: str) -> list[Route]:
    """Return the routes of one CAS.

    :param base_path: path of the CAS URL without trailing slash, such as ``/cas/<instance>``. Telemetry alone goes to
        the root of the origin, because clients send it there whatever the CAS URL's path is.
    """
    return [
        *cas_xorbs.routes(content, access, base_path=base_path),
        *cas_files.routes(content, access, base_path=base_path),
        Route("/v1/telemetry", _accept_telemetry, methods=["POST"]),
    ]


async def _accept_telemetry(_: Request) -> Response:
    return Response(status_code=204)
