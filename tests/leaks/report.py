"""What was searched and found: where a credential may be, the closing table, and the verdict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from leaks.search import Finding, Piece, Search


@dataclass(frozen=True)
class Allowed:
    """A credential that is legitimately in a place.

    :param name: a pattern of which the name of the piece must contain a match.
    """

    kind: str
    place: str
    reason: str
    name: str = ""

    def covers(self, finding: Finding) -> bool:
        """Return whether a finding is this credential in this place."""
        is_it = (finding.kind, finding.place) == (self.kind, self.place)
        return is_it and re.search(self.name, finding.name) is not None


@dataclass
class _Searched:
    pieces: int = 0
    size: int = 0


@dataclass
class Report:
    """Collects findings, place by place.

    :param places: all that must be searched; one where nothing was is a blind test.
    :param planted: for each place where a credential was planted on purpose, what finds it.
    :ivar facts: what the run had, for the end of the table.
    """

    search: Search
    places: Sequence[str]
    allowed: Sequence[Allowed]
    planted: Mapping[str, Search] = field(default_factory=dict)
    leaks: list[Finding] = field(default_factory=list)
    tolerated: Counter[Allowed] = field(default_factory=Counter)
    searched: dict[str, _Searched] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Search these, and count them."""
        for piece in pieces:
            assert piece.place in self.places, piece.place
            searched = self.searched.setdefault(piece.place, _Searched())
            searched.pieces += 1
            searched.size += len(piece.content)
            if piece.place in self.planted and any(self.planted[piece.place].find(piece)):
                self._seen.add(piece.place)
            for finding in self.search.find(piece):
                reason = next((each for each in self.allowed if each.covers(finding)), None)
                if reason:
                    self.tolerated[reason] += 1
                else:
                    self.leaks.append(finding)

    def all_problems(self) -> list[str]:
        """Return everything that makes the run fail: leaks, places without content, and what was added."""
        empty = [
            f"Nothing to search in {place}: the test is blind there."
            for place in self.places
            if not self.searched.get(place, _Searched()).size
        ]
        blind = [
            f"What was planted in {place} was not found: the test is blind there."
            for place in self.planted
            if place not in self._seen
        ]
        return [*empty, *blind, *self.problems, *dict.fromkeys(f"LEAK: {each}" for each in self.leaks)]

    def table(self) -> str:
        """Return a table of kinds and places: ``.`` for none, ``ok`` where it is allowed, or how often it leaked.

        The column *planted* says whether the credential that was planted in a place was found there.
        """
        leaked = Counter((each.kind, each.place) for each in self.leaks)
        fine = {(each.kind, each.place) for each in self.tolerated}
        kinds = [f"{number}" for number, _ in enumerate(self.search.kinds, 1)]
        rows = [["place", "pieces", "MB", "planted", *kinds]]
        for place in self.places:
            searched = self.searched.get(place, _Searched())
            cells = [
                str(leaked[kind, place]) if leaked[kind, place] else "ok" if (kind, place) in fine else "."
                for kind in self.search.kinds
            ]
            planted = ("found" if place in self._seen else "MISSED") if place in self.planted else "-"
            rows.append([place, str(searched.pieces), f"{searched.size / 1e6:.1f}", planted, *cells])
        pieces, size = (sum(getattr(each, name) for each in self.searched.values()) for name in ("pieces", "size"))
        found = [str(sum(leaked[kind, place] for place in self.places)) for kind in self.search.kinds]
        all_planted = f"{len(self._seen)}/{len(self.planted)}"
        rows.append(["found in all", str(pieces), f"{size / 1e6:.1f}", all_planted, *found])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        legend = [f"{number:>4} {kind}" for number, kind in enumerate(self.search.kinds, 1)]
        reasons = [f"  ok {each.kind} in {each.place}: {each.reason}." for each in self.tolerated]
        return "\n".join([*lines, "", *legend, "", *reasons, "", *self.facts])
