"""The activity page: requests by route and client, and the faults that are switched on.

It refreshes every few seconds without a script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.responses import Response

from xethub_local.control.faults import ArmedFault
from xethub_local.control.request_log import RouteCounter
from xethub_local.display import share_text
from xethub_local.pages.frame import ACTIVITY_PATH, empty, page_response, size, stats
from xethub_local.pages.html import Column, joined, link, table, tag

_REFRESH_SECONDS = 3
_PAUSED = f"{ACTIVITY_PATH}?paused=1"


def activity_page(counters: Sequence[RouteCounter], faults: Sequence[ArmedFault], *, paused: bool) -> Response:
    """Show counters, busiest route first, and faults."""
    control = link(ACTIVITY_PATH, "Resume") if paused else link(_PAUSED, "Pause")
    state = "Paused. " if paused else f"Refreshes every {_REFRESH_SECONDS} seconds. "
    requests, errors = (sum(getattr(each, name) for each in counters) for name in ("requests", "errors"))
    content = joined(
        tag("h1", "Activity"),
        tag("p", state, control, class_="lead"),
        stats(
            ("Requests", f"{requests:,}"),
            ("Errors", [f"{errors:,} ", tag("small", share_text(errors, requests)) if errors else None]),
            ("Received", size(sum(each.bytes_in for each in counters))),
            ("Sent", size(sum(each.bytes_out for each in counters))),
        ),
        tag("h2", "Faults switched on"),
        _faults(faults) if faults else empty("No faults. Add some with ", tag("code", "xethub-local faults add"), "."),
        tag("h2", "Requests by route and client"),
        _counters(counters) if counters else empty("No requests yet."),
    )
    return page_response("Activity", content, here=ACTIVITY_PATH, refresh=0 if paused else _REFRESH_SECONDS)


def _counters(counters: Sequence[RouteCounter]) -> object:
    columns = [
        Column("Route", "path"),
        Column("Client"),
        Column("Requests", "number"),
        Column("Errors", "number"),
        Column("Received", "number"),
        Column("Sent", "number"),
    ]
    rows = [
        [
            tag("code", each.route),
            each.client or "unknown",
            f"{each.requests:,}",
            tag("strong", f"{each.errors:,}", class_="bad") if each.errors else "0",
            size(each.bytes_in),
            size(each.bytes_out),
        ]
        for each in sorted(counters, key=lambda each: (-each.requests, each.route, each.client))
    ]
    return table("Requests by route and client", columns, rows)


def _faults(faults: Sequence[ArmedFault]) -> object:
    columns = [Column("Route", "path"), Column("What happens"), Column("Id", "number"), Column("Acted", "number")]
    rows = []
    for armed in faults:
        described = armed.fault.to_json()
        route = described.pop("route", "")
        what = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in described.items())
        acted = [f"{armed.acted:,} ", tag("small", f"of {armed.seen:,} seen")]
        rows.append([tag("code", route), tag("code", what), f"{armed.id}", acted])
    return table("Faults switched on", columns, rows)
