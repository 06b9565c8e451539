"""Summaries of transfers, from the requests of each and from the client's own report.

Source: hf-xet 1.8 sends one ``x-xet-session-id`` with every request of an upload or a download, and at its end posts
``{"event", "session_id", "metrics": {…}}`` to ``/v1/telemetry``.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from xethub_local.control.logged_request import LoggedRequest

MAX_TRANSFERS = 1_000
MAX_REPORTS = 10
_MAX_METRICS = 100
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,49}")
_TEXT = re.compile(r"[A-Za-z0-9_.-]{0,30}")

Kind = Literal["token", "dedup", "grant", "xorb", "shard", "reconstruction", "data", "report", ""]


@dataclass
class Transfer:
    """The summary of one transfer. Times are UNIX seconds of this machine; sums count responses below 400 only.

    :param session: the ``x-xet-session-id`` of its requests.
    :param client: the product that sent it, such as ``hf_xet/1.8.0``.
    :param errors: requests answered with 400 and above, or not at all. A 404 for a deduplication query of an unknown
        chunk does not count.
    :param xorbs_sent: xorbs that arrived; one that arrived twice counts twice.
    :param dedup_asked: deduplication queries; ``dedup_answered``: those for known chunks.
    :param data_bytes: bytes of xorbs that were downloaded.
    :param reports: the last 10 reports that the client sent.
    """

    session: str
    client: str = "unknown"
    began: float = 0.0
    ended: float = 0.0
    requests: int = 0
    errors: int = 0
    tokens_fetched: int = 0
    dedup_asked: int = 0
    dedup_answered: int = 0
    xorbs_sent: int = 0
    xorb_bytes: int = 0
    shards_sent: int = 0
    shard_bytes: int = 0
    reconstructions: int = 0
    data_requests: int = 0
    data_bytes: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds from the end of its first request to the end of its last one."""
        return self.ended - self.began

    def to_json(self) -> dict[str, Any]:
        """Return all fields by name, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Transfers:
    """The last 1,000 transfers. Not thread-safe: callers hold a lock."""

    def __init__(self) -> None:
        self._by_session: dict[str, Transfer] = {}

    def all(self) -> list[Transfer]:
        """Return copies of all transfers, in the order in which they started."""
        return [_copy(transfer) for transfer in self._by_session.values()]

    def get(self, session: str) -> Transfer | None:
        """Return a copy of one transfer, or ``None``."""
        found = self._by_session.get(session)
        return _copy(found) if found else None

    def add(self, request: LoggedRequest, client: str) -> None:
        """Count a request of a transfer."""
        transfer = self._of(request.session)
        if client.startswith("hf_xet/") or transfer.client == "unknown":
            transfer.client = client
        transfer.requests += 1
        kind = kind_of(request.route)
        is_answered = 0 < request.status < 400
        is_unknown = kind in ("dedup", "grant") and request.status == 404
        transfer.errors += not is_answered and not is_unknown
        transfer.dedup_asked += kind == "dedup"
        if is_answered:
            _add_to_sums(transfer, kind, request)

    def add_report(self, report: Mapping[str, Any]) -> None:
        """Keep the name of a client's report, and the metrics in it that are numbers or short words."""
        session, event, metrics = report.get("session_id"), report.get("event"), report.get("metrics")
        if not isinstance(session, str) or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", session):
            return
        given = metrics.items() if isinstance(metrics, dict) else ()
        kept = {name: value for name, value in given if _is_harmless(name, value)}
        name = event if isinstance(event, str) and _TEXT.fullmatch(event) else ""
        reports = self._of(session).reports
        reports.append({"event": name, "metrics": dict(list(kept.items())[:_MAX_METRICS])})
        del reports[:-MAX_REPORTS]

    def _of(self, session: str) -> Transfer:
        now = time.time()
        transfer = self._by_session.get(session)
        if transfer is None:
            transfer = self._by_session[session] = Transfer(session, began=now)
            if len(self._by_session) > MAX_TRANSFERS:
                del self._by_session[next(iter(self._by_session))]
        transfer.ended = now
        return transfer


def _add_to_sums(transfer: Transfer, kind: Kind, request: LoggedRequest) -> None:
    if kind == "xorb":
        transfer.xorbs_sent += 1
        transfer.xorb_bytes += request.bytes_in
    elif kind == "shard":
        transfer.shards_sent += 1
        transfer.shard_bytes += request.bytes_in
    elif kind == "data":
        transfer.data_requests += 1
        transfer.data_bytes += request.bytes_out
    elif kind == "dedup":
        transfer.dedup_answered += 1
    elif kind == "reconstruction":
        transfer.reconstructions += 1
    elif kind == "token":
        transfer.tokens_fetched += 1


@functools.lru_cache(maxsize=1024)
def kind_of(route: str) -> Kind:
    """Return the purpose of a route within a transfer, or an empty string."""
    method, _, path = route.partition(" ")
    if "/xet-read-token" in path or "/xet-write-token" in path:
        return "token"
    if path == "/v1/telemetry":
        return "report"
    if not path.startswith("/cas/"):
        return ""
    parts = path.split("/")[3:]  # without "", "cas" and the instance
    if method == "PUT":
        return "xorb"  # the bytes of an upload grant
    kinds: dict[str, Kind] = {
        "chunks": "dedup",
        "xorb-grants": "grant",
        "xorbs": "xorb",
        "shards": "shard",
        "reconstructions": "reconstruction",
    }
    if parts[:1] == ["data"]:
        return "data"
    kind = kinds.get(parts[1], "") if len(parts) > 1 else ""
    return "" if kind == "xorb" and method != "POST" else kind


def _is_harmless(name: object, value: object) -> bool:
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        return False
    if isinstance(value, str):
        return bool(_TEXT.fullmatch(value))
    return isinstance(value, (bool, int, float)) and abs(value) < 2**63  # neither infinite nor NaN


def _copy(transfer: Transfer) -> Transfer:
    return replace(transfer, reports=list(transfer.reports))
