"""What goes wrong in which DAG: each case is a local Hub with its faults, and a connection to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from xethub_local.control.faults import Fault

ECHO = "@ECHO@"
"""In the body or a header of a fault: all credentials of the request, as a careless server repeats them."""

API = "[A-Z]+ /(api|oauth)/.*"
CAS = "[A-Z]+ /cas/.*"
FILES = "[A-Z]+ (/cas/|/.*/resolve/).*"
TOKENS = "GET .*/xet-(read|write)-token/.*"

_PAGE = {"Content-Type": "text/html"}
_JSON = {"Content-Type": "application/json", "X-Error-Message": ECHO, "X-Request-Id": ECHO, "Retry-After": "0"}


@dataclass(frozen=True)
class Case:
    """One Hub, one connection and one DAG.

    :param tasks: ``all`` that there are, what is ``waiting`` in the triggerer, or those of a ``keyless`` connection.
    :param faults: what goes wrong from the beginning; where tasks are waiting, only once they are.
    :param ends: whether these faults end tasks. Otherwise what waits does so until they are over.
    :param connection: which part of the connection is wrong: ``token``, ``proxy`` or ``proxy password``.
    """

    name: str
    tasks: Literal["all", "waiting", "keyless"] = "all"
    faults: tuple[Fault, ...] = ()
    ends: bool = True
    connection: str = ""

    @property
    def conn_id(self) -> str:
        """The connection's ID."""
        return f"leaks_{self.name}"

    @property
    def dag_id(self) -> str:
        """The DAG's ID."""
        return f"leaks_{self.name}"

    @property
    def fails(self) -> bool:
        """Whether any of its tasks is expected to fail."""
        return bool(self.connection) or (bool(self.faults) and self.ends)


def answer(status: int, route: str = API, **options: Any) -> Fault:
    """Return a fault: the server answers this status, and repeats what it was sent."""
    body = json.dumps({"error": f"bad: {ECHO}", "error_description": ECHO, "message": ECHO})
    return Fault(route, status=status, body=body, headers=_JSON, **options)


def page(route: str = API) -> Fault:
    """Return a fault: the page of a login, with status 200."""
    return Fault(route, status=200, body=f"<html>{ECHO}</html>", headers=_PAGE)


def redirect(route: str = API) -> Fault:
    """Return a fault: a redirect to another server, with what it was sent in the address."""
    return Fault(route, status=302, headers={"Location": f"http://127.0.0.2:1/?q={ECHO}"})


EXPIRED = Fault(TOKENS, fields={"exp": 1}, without_headers=("X-Xet-Token-Expiration",))
"""A token that is too old when it arrives."""

MIXED = (
    answer(403, "POST .*/commit/.*"),
    answer(500, "POST .*/preupload/.*", skip=2),
    page("GET .*/tree/.*"),
    answer(401, "GET /cas/.*", skip=3),
    answer(403, "POST /cas/.*", skip=1),
    answer(404, "(POST|DELETE) /api/repos/.*"),
    answer(400, "POST .*/(branch|tag)/.*"),
    redirect("PUT .*/settings"),
    Fault(".*/discussions/.*", drop=True),
    Fault(".*/resolve/.*", truncate=2),
    replace(EXPIRED, skip=6),
    answer(500, "GET .*/commits/.*", skip=4),
)
"""Each step fails in another way, so that one run meets many."""


def cases(*, is_quick: bool, only: Sequence[str] = ()) -> list[Case]:
    """Return the cases of the quick or of the full form.

    :param only: of the full form, only these, and those of the quick form.
    :raises ValueError: there is no such case.
    """
    quick = [
        Case("healthy"),
        Case("mixed", faults=MIXED),
        Case("waiting_401", "waiting", (answer(401),)),
        Case("keyless", "keyless"),
    ]
    if is_quick:
        return quick
    statuses = [Case(f"api_{status}", faults=(answer(status),)) for status in (401, 403, 404, 409, 429, 500)]
    waiting = [Case(f"waiting_{status}", "waiting", (answer(status),)) for status in (403, 404)]
    outages = [Case(f"waiting_{status}", "waiting", (answer(status),), ends=False) for status in (429, 500)]
    full = [
        *quick,
        *statuses,
        Case("api_drop", faults=(Fault(API, drop=True),)),
        Case("api_page", faults=(page(),)),
        Case("api_redirect", faults=(redirect(),)),
        Case("api_cut", faults=(Fault(API, truncate=20),)),
        Case("expired", faults=(EXPIRED,)),
        Case("short", faults=(Fault(TOKENS, token_life=1),)),
        *(Case(f"cas_{status}", faults=(answer(status, FILES),)) for status in (401, 403, 404, 500)),
        Case("cas_drop", faults=(Fault(FILES, drop="middle"),)),
        Case("cas_page", faults=(page(CAS),)),
        Case(
            "cas_corrupt", faults=(Fault("GET .*", corrupt=True, client="hf_xet"), Fault("GET /cas/.*", corrupt=True))
        ),
        Case("cas_redirect", faults=(redirect(FILES),)),
        # The client asks for new addresses.
        Case("urls_expired", faults=(Fault(CAS, data_url_life=0),), ends=False),
        Case("wrong_token", connection="token"),
        Case("no_proxy", connection="proxy"),
        Case("wrong_proxy_password", connection="proxy password"),
        *waiting,
        *outages,
        Case("waiting_page", "waiting", (page(),)),
        Case("waiting_redirect", "waiting", (redirect(),)),
        Case("waiting_drop", "waiting", (Fault(API, drop=True),), ends=False),
        *(Case(f"keyless_{status}", "keyless", (answer(status, "POST /oauth/token"),)) for status in (400, 403, 500)),
        Case("keyless_page", "keyless", (page("POST /oauth/token"),)),
        Case("keyless_api_401", "keyless", (answer(401, "[A-Z]+ /api/.*"),)),
    ]
    if unknown := set(only) - {case.name for case in full}:
        raise ValueError(f"There is no case {min(unknown)}; use {', '.join(case.name for case in full)}.")
    return [case for case in full if not only or case in quick or case.name in only]
