"""The results in words: text for a terminal, tables and charts for the docs, and whether the targets are met."""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import chart
from cases import CASES
from tasks import BARE, HUB, OPERATORS, TUNED

PAGE = "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PACKAGES = ("apache-airflow-task-sdk", "hf-xet", "huggingface_hub")


@dataclass(frozen=True)
class Row:
    """All repetitions of one contender in one step."""

    case: str
    step: str
    delay: float
    contender: str
    size: int
    seconds: tuple[float, ...]
    peak: int
    first_byte: float | None
    hub_requests: int
    cas_requests: int
    commits: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def speed(self) -> float:
        return self.size / self.median / 1e6


@dataclass(frozen=True)
class Target:
    """What was to be reached, and what was."""

    text: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def figure(self) -> str:
        return _short(self.value)

    @property
    def wanted(self) -> str:
        return f"{'>=' if self.at_least else '<='} {_short(self.bound)}"

    @property
    def verdict(self) -> str:
        return "met" if self.met else "missed"

    def __str__(self) -> str:
        return f"{self.verdict.upper():<7}{self.text}: {self.figure}, wanted {self.wanted}"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpus": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def rows(results: dict[str, Any]) -> list[Row]:
    """Group the measurements, in the order of the cases."""
    grouped: dict[tuple[str, str, float, str], list[dict[str, Any]]] = {}
    for each in results["measured"]:
        grouped.setdefault((each["case"], each["step"], each["delay"], each["contender"]), []).append(each)
    found = []
    for (case, step, delay, contender), runs in grouped.items():
        firsts = [run["first_byte"] for run in runs if run["first_byte"] is not None]
        found.append(
            Row(
                case,
                step,
                delay,
                contender,
                runs[0]["size"],
                tuple(run["seconds"] for run in runs),
                max(run["peak"] for run in runs),
                statistics.median(firsts) if firsts else None,
                *(max(run[name] for run in runs) for name in ("hub_requests", "cas_requests", "commits")),
            )
        )
    steps = list(dict.fromkeys(row.step for row in found))
    return sorted(
        found,
        key=lambda row: (
            list(CASES).index(row.case),
            steps.index(row.step),
            row.delay,
            CASES[row.case].contenders.index(row.contender),
        ),
    )


def targets(results: dict[str, Any]) -> list[Target]:
    """Judge the results; those with tiny sizes are not judged."""
    return [] if results["quick"] else list(_judged({(r.case, r.step, r.delay, r.contender): r for r in rows(results)}))


def _judged(by: dict[tuple[str, str, float, str], Row]) -> Iterator[Target]:
    for step, bound in (("upload, new", 0.97), ("download", 0.9)):
        for delay in _delays(by, "large"):
            ours, tuned = by["large", step, delay, OPERATORS], by["large", step, delay, TUNED]
            text = f"large, {step}, {_added(delay)}: speed as a part of tuned bare hf_xet's"
            yield Target(text, tuned.median / ours.median, bound, at_least=True)
    for delay in _delays(by, "large"):
        ours, theirs = by["large", "download", delay, OPERATORS], by["large", "download", delay, HUB]
        text = f"large, download, {_added(delay)}: peak memory as a part of hf_hub_download's"
        yield Target(text, ours.peak / theirs.peak, 1 / 3, at_least=False)
    for delay in _delays(by, "small"):
        if delay:
            ours, theirs = by["small", "upload", delay, OPERATORS], by["small", "upload", delay, HUB]
            text = f"small, upload, {_added(delay)}: times as fast as upload_folder"
            yield Target(text, theirs.median / ours.median, 10, at_least=True)
    for delay in _delays(by, "start"):
        rest = {who: _rest(by, delay, who, engine) for who, engine in ((OPERATORS, TUNED), (HUB, BARE))}
        text = f"start, {_added(delay)}: time in execute that is not transfer, as a part of upload_file's"
        yield Target(text, rest[OPERATORS] / rest[HUB], 0.5, at_least=False)
    for row in by.values():
        if row.case == "mapped" and row.contender == OPERATORS:
            number = int(row.step.split()[0])
            text = f"mapped, {row.step}, {_added(row.delay)}"
            yield Target(f"{text}: Hub requests", row.hub_requests, 5 + math.ceil(number / 256), at_least=False)
            yield Target(f"{text}: commits", row.commits, 1, at_least=False)


def _rest(by: dict[tuple[str, str, float, str], Row], delay: float, who: str, engine: str) -> float:
    """Seconds in ``execute`` beyond those that the bare client takes for the same file."""
    return by["start", "upload", delay, who].median - by["start", "upload", delay, engine].median


def _delays(by: dict[tuple[str, str, float, str], Row], case: str) -> list[float]:
    return sorted({delay for other, _, delay, _ in by if other == case})


def text(results: dict[str, Any]) -> str:
    """Return everything for a terminal."""
    lines = [_machine_line(results)]
    form = "  {:<33} {:>9} {:>15} {:>9} {:>8} {:>10} {:>6} {:>7} {:>8} {:>8}".format
    head = form("", "median s", "min - max", "MB/s", "peak MB", "first byte", "Hub", "CAS", "commits", "ratio")
    before: tuple[str, float] | None = None
    case = ""
    for row, ratio in _with_ratios(rows(results)):
        if row.case != case:
            case, before = row.case, None
            lines += ["", CASES[case].title.upper(), head]
        if (row.step, row.delay) != before:
            before = (row.step, row.delay)
            lines.append(f"{row.step}, {_added(row.delay)}")
        lines.append(form(row.contender, *_cells(row), "" if ratio is None else f"{ratio:.2f}").rstrip())
    judged = targets(results)
    lines += ["", "ratio: how many times as fast this provider is", ""]
    lines += [str(target) for target in judged] or ["Tiny sizes: nothing is judged."]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    return [
        _short(row.median),
        f"{_short(min(row.seconds))} - {_short(max(row.seconds))}",
        f"{row.speed:.1f}",
        f"{row.peak / 1e6:.0f}",
        "" if row.first_byte is None else f"{row.first_byte:.2f} s",
        str(row.hub_requests),
        str(row.cas_requests),
        str(row.commits),
    ]


def _with_ratios(found: list[Row]) -> Iterator[tuple[Row, float | None]]:
    ours = {(row.case, row.step, row.delay): row.median for row in found if row.contender == OPERATORS}
    for row in found:
        mine = ours.get((row.case, row.step, row.delay))
        yield row, None if mine is None or row.contender == OPERATORS else row.median / mine


def write_docs(results: dict[str, Any], docs: Path) -> None:
    """Write tables, targets and charts into the page between its two marks."""
    found = rows(results)
    parts = [f"Measured on {_machine_line(results)}.", ""]
    for case in dict.fromkeys(row.case for row in found):
        of_case = [row for row in found if row.case == case]
        image = f"benchmarks-{case}.svg"
        title = f"Seconds for {CASES[case].title}, shorter is better"
        (docs / "_static").mkdir(exist_ok=True)
        (docs / "_static" / image).write_text(chart.draw(_bars(of_case), title, "s"), encoding="utf-8")
        parts += [f"### {CASES[case].title[0].upper()}{CASES[case].title[1:]}", "", f"![{title}](_static/{image})", ""]
        parts += ["| Step | Who | Seconds | min - max | MB/s | Peak MB | First byte | Hub | CAS | Commits | Ratio |"]
        parts += ["|---|---|---|---|---|---|---|---|---|---|---|"]
        for row, ratio in _with_ratios(of_case):
            step = f"{row.step}, {_added(row.delay)}"
            cells = [step, row.contender, *_cells(row), "" if ratio is None else f"{ratio:.2f}"]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    parts += ["### Targets", "", "| Target | Is | Wanted | |", "|---|---|---|---|"]
    parts += [f"| {each.text} | {each.figure} | {each.wanted} | {each.verdict} |" for each in targets(results)]
    page = docs / PAGE
    old = page.read_text(encoding="utf-8")
    new = re.sub(f"{BEGIN}.*{END}", lambda _: "\n".join([BEGIN, *parts, END]), old, flags=re.DOTALL)
    page.write_text(new, encoding="utf-8")


def _bars(found: list[Row]) -> list[chart.Group]:
    who = [each for each in CASES[found[0].case].contenders if any(row.contender == each for row in found)]
    grouped: dict[str, dict[str, float]] = {}
    for row in found:
        group = grouped.setdefault(f"{row.step}, {_added(row.delay)}", dict.fromkeys(who, 0.0))
        group[row.contender] = row.median
    return [chart.Group(title, figures) for title, figures in grouped.items()]


def _machine_line(results: dict[str, Any]) -> str:
    known = results["machine"]
    packages = ", ".join(f"{name} {known[name]}" for name in _PACKAGES)
    return f"{known['date']}, {known['system']}, {known['cpus']} CPUs, Python {known['python']}, {packages}"


def _added(delay: float) -> str:
    return f"+{delay * 1000:.0f} ms"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
