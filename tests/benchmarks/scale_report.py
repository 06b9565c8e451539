"""The growth in words: text for a terminal, tables and charts for the docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import line_chart
from benchmarks.report import BEGIN, END, machine_line, table
from benchmarks.scale_series import SERIES, Series
from benchmarks.targets import short

PAGE = "scale.md"
_BYTES = ("peak", "xcom")


def text(results: Mapping[str, Any]) -> str:
    """Return everything for a terminal."""
    said = [machine_line(results)]
    for name, series in SERIES.items():
        rows = _rows(results, name, series)
        if rows:
            widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            said += ["", series.title.upper()]
            said += ["  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    said += [f"FAILED {failed['what']}: {failed['error']}" for failed in results["failed"]]
    return "\n".join(said)


def write_docs(results: Mapping[str, Any], docs: Path) -> None:
    """Write tables and charts into the page between its two marks."""
    parts = [f"Measured on {machine_line(results)}.", ""]
    for name, series in SERIES.items():
        rows = _rows(results, name, series)
        if not rows:
            continue
        parts += [f"### {series.title[0].upper()}{series.title[1:]}", ""]
        for figure in series.drawn:
            title = f"{series.figures[figure]} for {series.title}"
            image = f"scale-{name}-{figure.replace('_', '-')}.svg"
            lines = [line for line in _lines(results, name, figure) if len(line.points) > 1]
            if lines:
                (docs / "_static").mkdir(exist_ok=True)
                drawn = line_chart.draw(lines, title, series.to, _count(series.unit), _form(figure))
                (docs / "_static" / image).write_text(drawn, encoding="utf-8")
                parts += [f"![{title}](_static/{image})", ""]
        parts += [*table(rows[0], rows[1:]), ""]
    page = docs / PAGE
    old = page.read_text(encoding="utf-8")
    new = re.sub(f"{BEGIN}.*{END}", lambda _: "\n".join([BEGIN, *parts, END]), old, flags=re.DOTALL)
    page.write_text(new, encoding="utf-8")


def _rows(results: Mapping[str, Any], name: str, series: Series) -> list[list[str]]:
    """Return a head, each measured point, and what each step is extrapolated to."""
    points = [point for point in results["points"] if point["series"] == name]
    if not points:
        return []
    count = _count(series.unit)
    rows = [["Step", series.unit.capitalize(), *series.figures.values()]]
    for step in dict.fromkeys(point["step"] for point in points):
        rows += [
            [step, count(point["x"]), *(_form(figure)(point[figure]) for figure in series.figures)]
            for point in points
            if point["step"] == step
        ]
        ends = []
        for figure in series.figures:
            found = {line.title: line for line in _lines(results, name, figure)}
            end = line_chart.extrapolated(found[step].points, series.to) if step in found else None
            ends.append("" if end is None else f"*{_form(figure)(end)}*")
        if any(ends):
            rows.append([f"{step}, *extrapolated*", f"*{count(series.to)}*", *ends])
    return rows


def _lines(results: Mapping[str, Any], name: str, figure: str) -> list[line_chart.Line]:
    grouped: dict[str, list[tuple[float, float]]] = {}
    for point in results["points"]:
        if point["series"] == name and point[figure] > 0:
            grouped.setdefault(point["step"], []).append((point["x"], point[figure]))
    return [line_chart.Line(step, tuple(sorted(points))) for step, points in grouped.items()]


def _count(unit: str) -> Callable[[float], str]:
    return _bytes if unit == "bytes" else lambda value: f"{value:,.0f}"


def _form(figure: str) -> Callable[[float], str]:
    if figure in _BYTES:
        return _bytes
    return (lambda value: f"{value:,.0f}") if figure.endswith(("requests", "commits")) else _number


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else short(value)


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{short(value)} {unit}"
