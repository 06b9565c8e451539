"""Faults that have a name, because DAGs meet them in real life.

Each does one thing; where it acts, how often and for whom can be changed, as any other field::

    hub.faults.add("hub-busy", times=2)
    hub.faults.add("slow-hub", delay=5, client="hf_xet/")
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.local.control.fault import Fault, fields_from_json

# A refresh route ends in the revision; that of a bucket has none.
_TOKENS = "GET /api/.*/xet-(read|write)-token(/.*)?"
_WRITE_TOKENS = "GET /api/.*/xet-write-token(/.*)?"
_HUB = r"[A-Z]+ /(?!cas/|v1/).*"
_COMMITS = "POST /api/.*/(commit/.*|batch)"
_DATA = "GET /cas/.*/data/.*"
_UPLOADS = "(POST|PUT) /cas/.*/(xorbs|xorb-grants|xorb-commits|shards).*"
_HTML = "<!DOCTYPE html>\n<title>Sign in</title>\n<h1>Sign in to the network</h1>\n"


@dataclass(frozen=True)
class ReadyMadeFault:
    """A fault with a name. ``description`` says what the author of a DAG will see."""

    name: str
    description: str
    fault: Fault

    def to_json(self) -> dict[str, Any]:
        """Return name, description and the fault's fields, for JSON."""
        return {"name": self.name, "description": self.description, "fault": self.fault.to_json()}


def _error(status: int, text: str, **headers: str) -> dict[str, Any]:
    body = json.dumps({"error": f"{text}, asked for by a fault."})
    return {"status": status, "headers": {"Content-Type": "application/json", **headers}, "body": body}


# RateLimit is the IETF draft's form, as the Hub sends it: what is left of the quota, and seconds until it is renewed.
_BUSY = _error(429, "Too many requests", **{"Retry-After": "1", "RateLimit": '"api";r=0;t=1'})


READY_MADE: dict[str, ReadyMadeFault] = {
    each.name: each
    for each in (
        ReadyMadeFault(
            "hub-busy",
            "The Hub answers 429 with Retry-After: 1; the request is tried again after a second.",
            Fault(_HUB, **_BUSY),
        ),
        ReadyMadeFault(
            "hub-down",
            "The Hub answers 503 to everything; retries are used up and the task fails, to be retried by Airflow.",
            Fault(_HUB, **_error(503, "Service unavailable")),
        ),
        ReadyMadeFault(
            "slow-hub",
            "Every answer of the Hub takes two seconds longer; timeouts and deadlines show.",
            Fault(_HUB, delay=2.0),
        ),
        ReadyMadeFault(
            "token-unauthorized",
            "The Hub token is not accepted (401) where a Xet token is asked for; the task fails for good.",
            Fault(_TOKENS, **_error(401, "Invalid credentials")),
        ),
        ReadyMadeFault(
            "token-refused",
            "No Xet token for writing is issued (403); uploads fail for good, before a byte is sent.",
            Fault(_WRITE_TOKENS, **_error(403, "Forbidden")),
        ),
        ReadyMadeFault(
            "token-without-expiry",
            "Xet tokens come without their expiry; the answer is refused as one that no Hub gives.",
            Fault(_TOKENS, without_fields=("exp",), without_headers=("X-Xet-Token-Expiration",)),
        ),
        ReadyMadeFault(
            "short-tokens",
            "Xet tokens live for 35 seconds, five more than clients ask for; long transfers must refresh theirs.",
            Fault(_TOKENS, token_life=35),
        ),
        ReadyMadeFault(
            "clock-skew",
            "The server's clock is an hour ahead; a worker that trusts its own clock misjudges every expiry.",
            Fault(".*", clock_offset=3600.0),
        ),
        ReadyMadeFault(
            "html-instead-of-json",
            "A sign-in page answers in place of the Hub, status 200; nothing of it may be taken for an answer.",
            Fault(_HUB, status=200, headers={"Content-Type": "text/html; charset=utf-8"}, body=_HTML),
        ),
        ReadyMadeFault(
            "dropped-connection",
            "The connection closes before an answer; requests that can be repeated are.",
            Fault(".*", drop="before"),
        ),
        ReadyMadeFault(
            "cut-data",
            "Downloads break off in the middle of the data; the client asks again.",
            Fault(_DATA, drop="middle"),
        ),
        ReadyMadeFault(
            "corrupt-data",
            "One byte of downloaded data is wrong; the file must not be kept.",
            Fault(_DATA, corrupt=True),
        ),
        ReadyMadeFault(
            "expired-data-urls",
            "Data URLs are refused as expired (403); the client asks for new ones and goes on.",
            Fault(_DATA, **_error(403, "This data URL has expired")),
        ),
        ReadyMadeFault(
            "endless-answer",
            "Data begin to arrive and never do; only a deadline or a watchdog ends the transfer.",
            Fault(_DATA, endless="silent"),
        ),
        ReadyMadeFault(
            "upload-failing",
            "Uploads to CAS are answered 500; the client tries again and then fails the task.",
            Fault(_UPLOADS, **_error(500, "Internal error")),
        ),
        ReadyMadeFault(
            "commit-conflict",
            "Commits are answered 409; somebody else's commit was in progress.",
            Fault(_COMMITS, **_error(409, "A commit is in progress")),
        ),
        ReadyMadeFault(
            "branch-moved",
            "Commits are answered 412: the branch has moved; work of others must not be overwritten.",
            Fault(
                _COMMITS,
                **_error(412, "The branch was updated since you opened this page. Please refresh."),
            ),
        ),
        ReadyMadeFault(
            "lost-commit-answer",
            "The commit is made and 500 is answered; a retry must find it, and not commit twice.",
            Fault(_COMMITS, lose_answer=True),
        ),
    )
}


def ready_made(name: str, **changes: Any) -> Fault:
    """Return a ready-made fault, with some of its fields changed.

    :raises ValueError: there is none of that name, a field is not known, or one makes no sense.
    """
    if name not in READY_MADE:
        raise ValueError(f"there is no ready-made fault {name[:60]!r}; use one of {', '.join(READY_MADE)}.")
    given = {key: value for key, value in fields_from_json(changes).items() if key in changes}
    return dataclasses.replace(READY_MADE[name].fault, **given)
