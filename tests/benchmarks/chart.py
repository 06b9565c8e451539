"""A bar chart as SVG, by hand: all bars on one scale, with the figures written out."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from support import svg

_WIDTH, _LEFT, _BAR, _GAP = 760, 270, 18, 16


@dataclass(frozen=True)
class Group:
    """Bars that belong together: the figure of each contender, in the same order in every group."""

    title: str
    figures: dict[str, float]


def draw(groups: list[Group], title: str, unit: str = "MB/s") -> str:
    """Return the chart. The longest bar of all groups has the full length."""
    parts = []
    x, y = 10, 10
    for number, store in enumerate(groups[0].figures):
        width = 40 + 8 * len(store)
        if x + width > _WIDTH:
            x, y = 10, y + 22
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{svg.COLOURS[number]}"/>')
        parts.append(svg.label(x + 18, y + 11, store))
        x += width
    y += 30
    longest = max(value for group in groups for value in group.figures.values())
    for group in groups:
        parts.append(svg.label(_LEFT - 12, y + _BAR + 4, group.title, anchor="end"))
        for colour, (store, value) in zip(svg.COLOURS, group.figures.items(), strict=False):
            length = max(2.0, value / longest * (_WIDTH - _LEFT - 100))
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length:.0f}" height="{_BAR - 2}" fill="{colour}">'
                f"<title>{escape(store)}</title></rect>"
            )
            digits = 0 if value >= 10 else 1 if value >= 0.1 else 2
            parts.append(svg.label(_LEFT + length + 8, y + _BAR - 5, f"{value:.{digits}f} {unit}"))
            y += _BAR
        y += _GAP
    return svg.document(_WIDTH, y, title, parts)
