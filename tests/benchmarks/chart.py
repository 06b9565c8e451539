"""A bar chart as SVG, by hand: readable on a light and on a dark page, with the figures written out."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

COLOURS = ("#3b82c4", "#9a9a9a", "#c98a3b", "#6aa84f", "#8e6bbf")
TEXT = "#808080"  # enough contrast with white and with black
_WIDTH, _LEFT, _BAR, _GAP, _TOP = 760, 270, 18, 16, 40


@dataclass(frozen=True)
class Group:
    """Bars that belong together: the figure of each contender, in the same order in every group."""

    title: str
    figures: dict[str, float]


def draw(groups: list[Group], title: str, unit: str = "MB/s") -> str:
    """Return the chart. Each group has a scale of its own: its longest bar has the full length."""
    parts = []
    apart = min(160, (_WIDTH - _LEFT) // len(groups[0].figures)) if len(groups[0].figures) < 4 else _WIDTH // 5
    left = _LEFT if len(groups[0].figures) < 4 else 10
    for number, store in enumerate(groups[0].figures):
        x = left + number * apart
        parts.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{COLOURS[number]}"/>')
        parts.append(label(x + 18, 21, store))
    y = _TOP
    for group in groups:
        longest = max(group.figures.values())
        parts.append(label(_LEFT - 12, y + _BAR + 4, group.title, anchor="end"))
        for colour, (store, value) in zip(COLOURS, group.figures.items(), strict=False):
            length = max(2.0, value / longest * (_WIDTH - _LEFT - 100))
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length:.0f}" height="{_BAR - 2}" fill="{colour}">'
                f"<title>{escape(store)}</title></rect>"
            )
            figure = f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
            parts.append(label(_LEFT + length + 8, y + _BAR - 5, figure))
            y += _BAR
        y += _GAP
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img" '
        f'font-family="sans-serif" font-size="13">\n<title>{escape(title)}</title>\n{body}\n</svg>\n'
    )


def label(x: float, y: float, text: str, anchor: str = "start") -> str:
    """Return a text at its base line."""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{TEXT}" text-anchor="{anchor}">{escape(text)}</text>'
