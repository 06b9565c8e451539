"""The faults: the columns of the matrix. Each is a way in which a response of the local Hub can go wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Duration = Literal["once", "lasting"]

DURATIONS: tuple[Duration, ...] = ("once", "lasting")
"""``once``: the first request of the step fails. ``lasting``: all of them do, also those of Airflow's retries."""

_JSON = {"Content-Type": "application/json"}
_TOKENS = r"GET .*/xet-(read|write)-token(/.*)?"
_DATA_URLS = r"GET /cas/.*/reconstructions/.*"
_CAS_DATA = r"(GET /cas/.*/data/.*|(PUT|POST) /cas/.*/(uploads|xorbs?)/.*)"


@dataclass(frozen=True)
class Column:
    """A fault.

    :param name: as the table shows it.
    :param fields: of :class:`xethub_local.control.fault.Fault`.
    :param route: regular expression of the routes, ``METHOD template``, at which it can happen.
    :param durations: ``once`` is left out where a task does the same in both cases.
    :param is_loud: whether a client can see that something is wrong; a task that meets any other one succeeds.
    """

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    route: str = ".*"
    durations: tuple[Duration, ...] = DURATIONS
    is_loud: bool = True


_LASTING: tuple[Duration, ...] = ("lasting",)


def _status(
    status: int, text: str, durations: tuple[Duration, ...] = DURATIONS, headers: Mapping[str, str] | None = None
) -> Column:
    body = json.dumps({"error": f"{text} (injected by a fault)."})
    return Column(
        str(status), {"status": status, "headers": {**_JSON, **(headers or {})}, "body": body}, durations=durations
    )


_PAGE = "<!DOCTYPE html>\n<title>Sign in</title>\n<h1>Sign in to the network</h1>\n"

COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        _status(400, "Bad request", _LASTING),
        _status(401, "Invalid credentials"),
        _status(403, "Forbidden", _LASTING),
        _status(404, "Not found", _LASTING),
        _status(408, "Request timeout", _LASTING),
        _status(409, "A commit is in progress"),
        _status(412, "The branch was updated since you opened this page. Please refresh"),
        _status(413, "Payload too large"),
        _status(422, "Unprocessable content", _LASTING),
        _status(429, "Too many requests", headers={"Retry-After": "0"}),
        _status(500, "Internal error", _LASTING),
        _status(503, "Service unavailable"),
        _status(504, "Gateway timeout"),
        Column("redirect", {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}}, durations=_LASTING),
        Column("sign-in page", {"status": 200, "headers": {"Content-Type": "text/html"}, "body": _PAGE}),
        Column("empty JSON", {"status": 200, "headers": _JSON, "body": "{}"}, durations=_LASTING),
        Column("dropped", {"drop": True}),
        Column("cut", {"drop": "middle"}),
        Column("lost 500", {"lose_answer": True}),
        Column("lost drop", {"lose_answer": True, "drop": True}),
        Column("stall", {"endless": True}),
        Column("drip", {"endless": "trickle"}, durations=("once",)),
        Column("corrupt", {"corrupt": True}),
        Column("truncated", {"truncate": 20}),
        Column("slow", {"delay": 0.2}, durations=_LASTING, is_loud=False),
        Column("slow link", {"bandwidth": 50_000}, _CAS_DATA, _LASTING, is_loud=False),
        Column("crowded link", {"max_open": 1, "collapsed_bandwidth": 50_000}, _CAS_DATA, _LASTING, is_loud=False),
        Column(
            "no expiry", {"without_fields": ["exp"], "without_headers": ["X-Xet-Token-Expiration"]}, _TOKENS, _LASTING
        ),
        Column("wrong expiry", {"fields": {"exp": 1}}, _TOKENS, _LASTING),
        Column("short token", {"token_life": 5}, _TOKENS, _LASTING),
        Column("clock ahead", {"clock_offset": 3600.0}, _TOKENS, _LASTING, is_loud=False),
        Column("no date", {"without_headers": ["Date"]}, _TOKENS, _LASTING, is_loud=False),
        Column("expired data URL", {"data_url_life": -1}, _DATA_URLS),
    )
}

PRESETS: dict[str, str] = {
    "hub-busy": "429",
    "hub-down": "503",
    "slow-hub": "slow",
    "token-unauthorized": "401",
    "token-refused": "403",
    "exchange-refused": "400",
    "token-without-expiry": "no expiry",
    "short-tokens": "short token",
    "clock-skew": "clock ahead",
    "html-instead-of-json": "sign-in page",
    "dropped-connection": "dropped",
    "cut-data": "cut",
    "corrupt-data": "corrupt",
    "expired-data-urls": "expired data URL",
    "endless-answer": "stall",
    "slow-link": "slow link",
    "crowded-link": "crowded link",
    "upload-failing": "500",
    "commit-conflict": "409",
    "branch-moved": "412",
    "lost-commit-answer": "lost 500",
}
"""Which column has what a predefined fault of the local Hub does."""
