"""Parts of messages: counts, sizes, durations, shortened lists, and what the operating system says. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNITS = ("B", "kB", "MB", "GB", "TB")
_REPO = re.compile(r"hf://\S+")
_COMMIT = re.compile(r"@([0-9a-f]{12})[0-9a-f]{28}\b")


def capitalized(text: str) -> str:
    """Return the text with its first letter in upper case, and all others as they are."""
    return text[:1].upper() + text[1:]


def repo_in(about: str) -> str:
    """Return the repository that a request or transfer is about, which messages name first; else ``about`` itself.

    A commit is shortened, so that what to do next is among the first characters of the message, too.

    :param about: such as ``the upload of 3 files to hf://acme/m@main``; of two repositories, the target is the last.
    """
    found = _REPO.findall(about)
    return _COMMIT.sub(r"@\1", str(found[-1])) if found else about


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
