"""Parts of messages: counts, sizes, durations, shortened lists, and what the operating system says. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_NAME = 48
"""Characters of a name or a request at the beginning of a message: cause and remedy are to fit into 100 with it."""

_UNITS = ("B", "kB", "MB", "GB", "TB")
_URI = re.compile(r"hf://\S+")
_REPO = re.compile(rf"{_URI.pattern}|\b(?:model|dataset|space|bucket) [\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"@([0-9a-f]{12})[0-9a-f]{28}\b")


def capitalized(text: str) -> str:
    """Return the text with its first letter in upper case, and all others as they are."""
    return text[:1].upper() + text[1:]


def repo_in(about: str) -> str:
    """Return the repository that a request or transfer is about, which messages name first; else ``about`` itself.

    It is shortened, so that what to do next is among the first characters of the message, too.

    :param about: such as ``the upload of 3 files to hf://acme/m@main``; of two repositories, the target is the last.
    """
    found = _REPO.findall(about)
    return named(found[-1] if found else about)


def uri_in(about: str) -> str:
    """Return the whole URI of the repository that :func:`repo_in` names; empty if there is none."""
    found = _URI.findall(about)
    return str(found[-1]) if found else ""


def named(name: str, most: int = MAX_NAME) -> str:
    """Return a name for the beginning of a message: of a commit its first digits, and a long one without its middle."""
    short = _COMMIT.sub(r"@\1", name)
    if len(short) <= most:
        return short
    end = most // 2
    return f"{short[: most - end - 1]}…{short[-end:]}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(items: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return the first items as one text, with the number of the others: ``a, b and 3 more``.

    :param most: how many are named.
    """
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def os_reason(error: OSError) -> str:
    """Return why the operating system, or the transfer client in its name, refused: ``no space left on device``."""
    return (error.strerror or str(error).rpartition(" error: ")[2]).lower()


def size(count: float) -> str:
    """Return a number of bytes for people, in decimal units: ``1.5 MB``."""
    unit = _UNITS[0]
    for unit in _UNITS:
        if abs(count) < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a duration for people: ``45 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
