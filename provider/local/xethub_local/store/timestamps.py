"""Times in the format of the Hub."""

from __future__ import annotations

from datetime import datetime, timezone


def iso_time(seconds: float) -> str:
    """Format UNIX seconds as the Hub does: ``2026-01-01T00:00:00.000Z``."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def from_iso_time(text: str) -> float:
    """Parse a time such as ``2026-01-01T00:00:00.000Z`` into UNIX seconds. Without a time zone it is UTC.

    :raises ValueError: it is not a time.
    """
    moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
