"""Ready-made faults, by name: failures that DAGs meet in production.

Each does one thing. Where, how often and for whom it acts can be changed, like every other field::

    hub.faults.add("hub-busy", times=2)
    hub.faults.add("slow-hub", delay=5, client="hf_xet/")
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from xethub_local.control.fault import Fault, fields_from_json

# A refresh route ends in the revision, except for buckets, which have none.
_TOKENS = "GET /api/.*/xet-(read|write)-token(/.*)?"
_WRITE_TOKENS = "GET /api/.*/xet-write-token(/.*)?"
_HUB = r"[A-Z]+ /(?!cas/|v1/).*"
_COMMITS = "POST /api/.*/(commit/.*|batch)"
_DATA = "GET /cas/.*/data/.*"
_UPLOADS = "(POST|PUT) /cas/.*/(xorbs|xorb-grants|xorb-commits|shards).*"
# What carries content: xorbs go to a signed URL, or to CAS itself.
_CAS_DATA = rf"{_DATA}|PUT /cas/.*/uploads/.*|POST /cas/.*/xorbs/.*"
_HTML = "<!DOCTYPE html>\n<title>Sign in</title>\n<h1>Sign in to the network</h1>\n"


@dataclass(frozen=True)
class FaultPreset:
    """A fault with a name. ``description`` says what the author of a DAG will see."""

    name: str
    description: str
    fault: Fault

    def to_json(self) -> dict[str, Any]:
        """Return the name, the description and the fields of the fault, for JSON."""
        return {"name": self.name, "description": self.description, "fault": self.fault.to_json()}


def _error(status: int, text: str, **headers: str) -> dict[str, Any]:
    body = json.dumps({"error": f"{text} (injected by a fault)."})
    return {"status": status, "headers": {"Content-Type": "application/json", **headers}, "body": body}


# RateLimit follows the IETF draft, as the Hub sends it: the remaining quota, and the seconds until it is renewed; the
# policy has the quota of an anonymous user and its window of five minutes.
_BUSY = _error(
    429,
    "Too many requests",
    **{"Retry-After": "1", "RateLimit": '"api";r=0;t=1', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'},
)


PRESETS: dict[str, FaultPreset] = {
    each.name: each
    for each in (
        FaultPreset(
            "hub-busy",
            "The Hub answers 429 with Retry-After: 1; the client retries after a second.",
            Fault(_HUB, **_BUSY),
        ),
        FaultPreset(
            "hub-down",
            "The Hub answers 503 to everything; the client runs out of retries, and Airflow retries the task.",
            Fault(_HUB, **_error(503, "Service unavailable")),
        ),
        FaultPreset(
            "slow-hub",
            "Every response of the Hub takes two seconds longer; timeouts and deadlines take effect.",
            Fault(_HUB, delay=2.0),
        ),
        FaultPreset(
            "token-unauthorized",
            "The Hub rejects the Hub token (401) when a Xet token is requested; the task fails without retry.",
            Fault(_TOKENS, **_error(401, "Invalid credentials")),
        ),
        FaultPreset(
            "token-refused",
            "The Hub refuses to issue a Xet write token (403); uploads fail without retry, before sending any data.",
            Fault(_WRITE_TOKENS, **_error(403, "Forbidden")),
        ),
        FaultPreset(
            "exchange-refused",
            "The Hub refuses to exchange an ID token (400), as for a wrong claim; the task fails without retry.",
            Fault(
                "POST /oauth/token",
                status=400,
                headers={"Content-Type": "application/json"},
                body=json.dumps({"error": "invalid_grant", "error_description": "Injected by a fault"}),
            ),
        ),
        FaultPreset(
            "token-without-expiry",
            "Xet tokens come without an expiry; the client rejects the response as invalid.",
            Fault(_TOKENS, without_fields=("exp",), without_headers=("X-Xet-Token-Expiration",)),
        ),
        FaultPreset(
            "short-tokens",
            "Xet tokens are valid for 35 seconds, five more than clients require; long transfers must refresh theirs.",
            Fault(_TOKENS, token_life=35),
        ),
        FaultPreset(
            "clock-skew",
            "The server's clock is an hour ahead; a worker that trusts its own clock misjudges every expiry.",
            Fault(".*", clock_offset=3600.0),
        ),
        FaultPreset(
            "html-instead-of-json",
            "A sign-in page with status 200 replaces the Hub's response; clients must not accept it.",
            Fault(_HUB, status=200, headers={"Content-Type": "text/html; charset=utf-8"}, body=_HTML),
        ),
        FaultPreset(
            "dropped-connection",
            "The connection closes before a response arrives; the client retries requests that are safe to repeat.",
            Fault(".*", drop="before"),
        ),
        FaultPreset(
            "cut-data",
            "The connection closes in the middle of downloaded data; the client retries.",
            Fault(_DATA, drop="middle"),
        ),
        FaultPreset(
            "corrupt-data",
            "One byte of downloaded data is wrong; the file must not be kept.",
            Fault(_DATA, corrupt=True),
        ),
        FaultPreset(
            "expired-data-urls",
            "CAS rejects data URLs as expired (403); the client requests new ones and continues.",
            Fault(_DATA, **_error(403, "This data URL has expired")),
        ),
        FaultPreset(
            "endless-answer",
            "Downloaded data never arrives after the response headers; only a timeout or a watchdog ends the transfer.",
            Fault(_DATA, endless="silent"),
        ),
        FaultPreset(
            "slow-link",
            "Data to and from CAS passes at 1 MB/s in all; transfers take long but must not be cancelled.",
            Fault(_CAS_DATA, bandwidth=1_000_000),
        ),
        FaultPreset(
            "crowded-link",
            "With more than 4 open requests for data, the link drops to 0.5 MB/s and stays there; fewer requests help.",
            Fault(_CAS_DATA, max_open=4),
        ),
        FaultPreset(
            "upload-failing",
            "CAS answers uploads with 500; the client retries, then the task fails.",
            Fault(_UPLOADS, **_error(500, "Internal error")),
        ),
        FaultPreset(
            "commit-conflict",
            "The Hub answers commits with 409: someone else's commit is in progress.",
            Fault(_COMMITS, **_error(409, "A commit is in progress")),
        ),
        FaultPreset(
            "branch-moved",
            "The Hub answers commits with 412: the branch has moved; the commit must not overwrite others' work.",
            Fault(
                _COMMITS,
                **_error(412, "The branch was updated since you opened this page. Please refresh"),
            ),
        ),
        FaultPreset(
            "lost-commit-answer",
            "The Hub makes the commit but answers 500; a retry must find it instead of committing twice.",
            Fault(_COMMITS, lose_answer=True),
        ),
    )
}


def fault_from_preset(name: str, **changes: Any) -> Fault:
    """Return a ready-made fault with some of its fields changed.

    :raises ValueError: there is no ready-made fault of that name, or a field is not known or not valid.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no ready-made fault {name[:60]!r}; use one of {', '.join(PRESETS)}.")
    given = {key: value for key, value in fields_from_json(changes).items() if key in changes}
    return dataclasses.replace(PRESETS[name].fault, **given)
