"""A chart of growth as SVG, by hand. Both axes are logarithmic: a straight line is a power, its slope the exponent.

What was measured is a line with dots. What is extrapolated is dashed, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from support.svg import COLOURS, document, label

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 380, 90, 210, 50, 50
Measurement = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """What was measured of one step.

    :param points: x and y, both positive, in the order of x.
    """

    title: str
    points: tuple[Measurement, ...]


def slope(points: Sequence[Measurement]) -> float | None:
    """Return the exponent of growth over the last decade, 1 if proportional; ``None`` with too few points."""
    last = [(math.log10(x), math.log10(y)) for x, y in points if x >= points[-1][0] / 10]
    if len(last) < 2:
        return None
    mean_x, mean_y = (sum(each) / len(last) for each in zip(*last, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in last)
    return sum((x - mean_x) * (y - mean_y) for x, y in last) / spread


def extrapolated(points: Sequence[Measurement], to: float) -> float | None:
    """Return y at ``to``, if growth goes on as over the last decade; never less than was measured last."""
    exponent = slope(points)
    if exponent is None:
        return None
    x, y = points[-1]
    return float(y * (to / x) ** max(0.0, exponent))


def draw(
    lines: Sequence[Line], title: str, to: float, form_x: Callable[[float], str], form_y: Callable[[float], str]
) -> str:
    """Return the chart, with each line continued to ``to``."""
    ends = {line.title: extrapolated(line.points, to) for line in lines}
    values = [y for line in lines for _, y in line.points] + [end for end in ends.values() if end]
    xs = [x for line in lines for x, _ in line.points] + [to]
    scale_x = _scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    scale_y = _scale(min(values), max(values), _HEIGHT - _BOTTOM, _TOP)
    parts = [label(10, 22, title)]
    parts += [_grid(scale_x(x), _TOP, scale_x(x), _HEIGHT - _BOTTOM) for x in _decades(min(xs), max(xs))]
    parts += [label(scale_x(x), _HEIGHT - _BOTTOM + 20, form_x(x), "middle") for x in _decades(min(xs), max(xs))]
    parts += [_grid(_LEFT, scale_y(y), _WIDTH - _RIGHT, scale_y(y)) for y in _decades(min(values), max(values))]
    parts += [label(_LEFT - 8, scale_y(y) + 4, form_y(y), "end") for y in _decades(min(values), max(values))]
    for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        path = [(scale_x(x), scale_y(y)) for x, y in line.points]
        parts.append(_path(path, colour))
        parts += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in path]
        end = ends[line.title]
        if end:
            parts.append(_path([path[-1], (scale_x(to), scale_y(end))], colour, ' stroke-dasharray="4 5"'))
        y = _TOP + 14 + number * 40
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 14}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(label(_WIDTH - _RIGHT + 32, y, line.title))
        exponent = slope(line.points)
        if exponent is not None:
            parts.append(label(_WIDTH - _RIGHT + 32, y + 16, f"slope {exponent:.2f}"))
    parts.append(label(_WIDTH - _RIGHT + 14, _HEIGHT - _BOTTOM, "dashed: extrapolated"))
    return document(_WIDTH, _HEIGHT, title, parts)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    first, last = math.log10(low), math.log10(high)
    if first == last:
        first, last = first - 1, last + 1
    return lambda value: start + (math.log10(value) - first) / (last - first) * (end - start)


def _decades(low: float, high: float) -> list[float]:
    found = [10.0**each for each in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    every = max(1, math.ceil(len(found) / 6))
    return found[::every] if len(found) > 1 else sorted({low, high})


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="line" x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke-opacity="0.25"/>'


def _path(points: Sequence[Measurement], colour: str, dashes: str = "") -> str:
    places = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
