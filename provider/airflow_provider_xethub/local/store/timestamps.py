"""Times as the Hub writes and reads them."""

from __future__ import annotations

from datetime import datetime, timezone


def iso_time(seconds: float) -> str:
    """Return UNIX seconds the way the Hub writes times: ``2026-01-01T00:00:00.000Z``."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def from_iso_time(text: str) -> float:
    """Return the UNIX seconds of a time such as ``2026-01-01T00:00:00.000Z``; without a zone it is UTC.

    :raises ValueError: it is no time.
    """
    moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
