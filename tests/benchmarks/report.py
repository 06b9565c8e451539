"""The results in words: text for a terminal, tables and charts for the docs."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import chart
from benchmarks.cases import CASES
from benchmarks.profiles import PROFILES
from benchmarks.ratios import Ratio
from benchmarks.targets import pairs, short, speed, targets
from benchmarks.tasks import OPERATORS

PAGE = "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PACKAGES = ("apache-airflow-task-sdk", "hf-xet", "huggingface_hub")
_COLUMNS = ("Seconds", "min - max", "MB/s", "CPU s", "Peak MB", "First byte", "Hub", "CAS", "Commits", "Wire MB")


@dataclass(frozen=True)
class Line:
    """All repetitions of one contender in one row.

    :ivar ratio: how many times as fast this provider is; ``None`` for itself.
    """

    case: str
    step: str
    profile: str
    contender: str
    runs: tuple[dict[str, Any], ...]
    ratio: Ratio | None

    @property
    def seconds(self) -> float:
        return self.median("seconds")

    def median(self, name: str) -> float:
        return statistics.median(run[name] for run in self.runs)

    def cells(self) -> list[str]:
        """Return the figures of :data:`_COLUMNS`, the ratio and its interval."""
        all_seconds = [run["seconds"] for run in self.runs]
        firsts = [run["first_byte"] for run in self.runs if run["first_byte"] is not None]
        wire = self.median("bytes_in") + self.median("bytes_out")
        counts = (str(max(run[name] for run in self.runs)) for name in ("hub_requests", "cas_requests", "commits"))
        inside = [
            short(self.median("cpu")),
            f"{self.median('peak') / 1e6:.0f}",
            f"{statistics.median(firsts):.2f} s" if firsts else "",
            *counts,
            f"{wire / 1e6:.1f}",
        ]
        return [
            short(self.seconds),
            f"{short(min(all_seconds))} - {short(max(all_seconds))}",
            f"{self.runs[0]['size'] / self.seconds / 1e6:.1f}",
            # Of tasks in a real scheduler, nothing but the time is known.
            *(inside if self.median("peak") else [""] * len(inside)),
            "" if self.ratio is None else f"{self.ratio.median:.2f}",
            "" if self.ratio is None else f"{self.ratio.low:.2f} - {self.ratio.high:.2f}",
        ]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpus": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def lines(results: Mapping[str, Any]) -> list[Line]:
    """Group the measurements, in the order of the cases."""
    grouped: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for each in results["measured"]:
        key = (each["case"], each["step"], each["profile"], each["contender"])
        grouped.setdefault(key, []).append(each)
    compared = {who: pairs(results["measured"], who) for who in {key[3] for key in grouped} - {OPERATORS}}
    steps = list(dict.fromkeys(step for _, step, _, _ in grouped))

    def place(line: Line) -> tuple[int, ...]:
        names = (list(CASES), steps, list(PROFILES), CASES[line.case].contenders)
        values = (line.case, line.step, line.profile, line.contender)
        return tuple(known.index(value) for known, value in zip(names, values, strict=True))

    found = []
    for (case, step, profile, contender), runs in grouped.items():
        both = compared.get(contender, {}).get((case, step, profile))
        found.append(Line(case, step, profile, contender, tuple(runs), speed(both) if both else None))
    return sorted(found, key=place)


def text(results: Mapping[str, Any]) -> str:
    """Return everything for a terminal."""
    said = [machine_line(results)]
    widths = (9, 15, 8, 7, 8, 10, 6, 7, 8, 8, 7, 14)
    form = "  {:<33}".format
    head = form("") + "".join(f" {name:>{width}}" for name, width in zip(_heads(), widths, strict=True))
    before: tuple[str, str] | None = None
    case = ""
    for line in lines(results):
        if line.case != case:
            case, before = line.case, None
            said += ["", CASES[case].title.upper(), head]
        if (line.step, line.profile) != before:
            before = (line.step, line.profile)
            said.append(f"{line.step}, {line.profile}")
        figures = "".join(f" {cell:>{width}}" for cell, width in zip(line.cells(), widths, strict=True))
        said.append((form(line.contender) + figures).rstrip())
    said += ["", "ratio: how many times as fast this provider is, median of pairs and its interval", ""]
    said += [str(target) for target in targets(results)] or ["Tiny sizes: nothing is judged."]
    said += [f"FAILED {failed['what']}: {failed['error']}" for failed in results["failed"]]
    said += [f"SKIPPED {case}: {why}" for case, why in results["skipped"].items()]
    return "\n".join(said)


def _heads() -> tuple[str, ...]:
    return (*_COLUMNS, "Ratio", "95 %")


def write_docs(results: Mapping[str, Any], beside: Mapping[str, Any] | None, docs: Path) -> None:
    """Write tables, targets and charts into the page between its two marks.

    :param beside: the results of a run beside a busy loop, if there are any.
    """
    found = lines(results)
    parts = [f"Measured on {machine_line(results)}.", ""]
    for case in dict.fromkeys(line.case for line in found):
        of_case = [line for line in found if line.case == case]
        image = f"benchmarks-{case}.svg"
        title = f"Seconds for {CASES[case].title}, shorter is better"
        (docs / "_static").mkdir(exist_ok=True)
        (docs / "_static" / image).write_text(chart.draw(_bars(of_case), title, "s"), encoding="utf-8")
        parts += [f"### {CASES[case].title[0].upper()}{CASES[case].title[1:]}", "", f"![{title}](_static/{image})", ""]
        parts += table(
            ("Step", "Who", *_heads()),
            [(f"{line.step}, {line.profile}", line.contender, *line.cells()) for line in of_case],
        )
        parts.append("")
    parts += ["### Targets", "", *_judgement(results)]
    for case, why in results["skipped"].items():
        parts += ["", f"Not measured: {case}: {why}."]
    if beside:
        parts += ["", "### Targets beside a busy loop", "", *_judgement(beside)]
    page = docs / PAGE
    old = page.read_text(encoding="utf-8")
    new = re.sub(f"{BEGIN}.*{END}", lambda _: "\n".join([BEGIN, *parts, END]), old, flags=re.DOTALL)
    page.write_text(new, encoding="utf-8")


def _judgement(results: Mapping[str, Any]) -> list[str]:
    found = [(each.text, each.figure, each.wanted, each.verdict) for each in targets(results)]
    return table(("Target", "Is", "Wanted", ""), found)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines_of_cells = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [lines_of_cells[0], "|---" * len(head) + "|", *lines_of_cells[1:]]


def _bars(found: list[Line]) -> list[chart.Group]:
    who = [each for each in CASES[found[0].case].contenders if any(line.contender == each for line in found)]
    grouped: dict[str, dict[str, float]] = {}
    for line in found:
        group = grouped.setdefault(f"{line.step}, {line.profile}", dict.fromkeys(who, 0.0))
        group[line.contender] = line.seconds
    return [chart.Group(title, figures) for title, figures in grouped.items()]


def machine_line(results: Mapping[str, Any]) -> str:
    """Return when and with what was measured."""
    known = results["machine"]
    packages = ", ".join(f"{name} {known[name]}" for name in _PACKAGES)
    beside = ", beside a busy loop" if results.get("busy") else ""
    return f"{known['date']}, {known['system']}, {known['cpus']} CPUs, Python {known['python']}, {packages}{beside}"
