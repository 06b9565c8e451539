"""Which mutants may survive: those that equivalent.toml lists with a reason, frames around sentences, and casts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parent / "equivalent.toml"

_FRAMED = re.compile(r"""(?P<quote>["'])XX(?P<text>.*)XX(?P=quote)""")
_CAST = re.compile(r"""\bcast\((?:"[^"]*"|None), """)


class Change(NamedTuple):
    """What a mutant changes. The number of a mutant is not part of it: another mutant may have it tomorrow.

    :param function: such as ``xet/token.py:XetToken.check``.
    :param before, after: the lines, without their indentation.
    """

    function: str
    before: str
    after: str


def change(function: str, diff: str) -> Change:
    """Read the change from a unified diff."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in ("-", "+"))
    return Change(function, before, after)


def is_framed_sentence(found: Change) -> bool:
    """Whether a mutant only puts XX before and after a string of several words.

    Tests compare the part of a message that matters, so they do not notice. They notice other words, which other
    mutants have, and a frame around a key, a name or a header.
    """
    match = _FRAMED.search(found.after)
    if not match or " " not in match["text"].strip():
        return False
    return found.after.replace(f"XX{match['text']}XX", match["text"]) == found.before


def is_cast(found: Change) -> bool:
    """Whether a mutant only changes the type of a ``cast``, which nothing reads when it runs."""
    return bool(_CAST.search(found.before)) and _CAST.sub("cast(", found.before) == _CAST.sub("cast(", found.after)


def listed() -> dict[Change, str]:
    """Return the changes that no test can notice, or need not, with the reasons."""
    entries = tomllib.loads(FILE.read_text())["equivalent"]
    return {Change(each["function"], each["before"], each["after"]): each["why"] for each in entries}


def unlisted(survivors: Iterable[Change]) -> list[Change]:
    """Return the survivors for which there is no reason."""
    known = listed()
    return [each for each in survivors if each not in known and not is_framed_sentence(each) and not is_cast(each)]


def outdated(survivors: Iterable[Change], modules: Iterable[str]) -> list[Change]:
    """Return what is listed for these modules and did not survive: it was killed, or its line has changed."""
    checked, alive = set(modules), set(survivors)
    return [each for each in listed() if each.function.partition(":")[0] in checked and each not in alive]


def as_toml(found: Change) -> str:
    """Return an entry for equivalent.toml, whose reason is still to be written."""
    fields = (("function", found.function), ("before", found.before), ("after", found.after))
    return "\n".join(["[[equivalent]]", *(f"{name} = '''{value}'''" for name, value in fields), 'why = ""'])
