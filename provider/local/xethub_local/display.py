"""Sizes, counts, ages and percentages as people read them, for the command line and the web pages. Pure functions."""

from __future__ import annotations

_UNITS = ("kB", "MB", "GB", "TB", "PB")
_AGES = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def size_text(size: int) -> str:
    """Return bytes in decimal units with three digits: ``999 B``, ``1.23 MB``, ``45.6 GB``."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in _UNITS:
        amount /= 1000
        if amount < 999.5 or unit == _UNITS[-1]:
            break
    decimals = 2 if amount < 9.995 else 1 if amount < 99.95 else 0
    return f"{amount:.{decimals}f} {unit}"


def count_text(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files`` or ``1,000 files``; ``noun`` is a singular whose plural ends in -s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def age_text(seconds: float) -> str:
    """Return how long ago something happened: ``just now``, ``1 minute ago``, ``3 days ago``."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{count_text(int(seconds // length), unit)} ago"
    return "just now"


def share_text(part: int, whole: int) -> str:
    """Return a percentage that is never rounded to 0% or 100%: ``0%``, ``<1%``, ``42%``, ``>99%``, ``100%``."""
    if part <= 0 or whole <= 0:
        return "0%"
    if part >= whole:
        return "100%"
    rounded = round(100 * part / whole)
    return "<1%" if rounded == 0 else ">99%" if rounded == 100 else f"{rounded}%"
