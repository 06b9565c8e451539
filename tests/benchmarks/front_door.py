"""The reasons in ``README.md``, with figures of the last benchmark: ``make bench-docs`` writes them there."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_xethub.xet.message_text import size
from benchmarks.profiles import FAR, NEAR
from benchmarks.report import BEGIN, END, machine_line, table
from benchmarks.sizes import DEFAULT
from benchmarks.targets import short
from benchmarks.tasks import HUB, OPERATORS

_HEAD = ("", "`HfApi` in a `@task`", "this provider")


def write(results: Mapping[str, Any], readme: Path) -> None:
    """Write the table between the two marks of the page."""
    new = "\n".join([BEGIN, *lines(results), END])
    readme.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: new, readme.read_text(), flags=re.DOTALL))


def lines(results: Mapping[str, Any]) -> list[str]:
    """Return the table, and what was measured with.

    :raises LookupError: a case was not measured.
    """
    return [*table(_HEAD, _rows(results["measured"])), "", f"Measured on {machine_line(results)}."]


def _rows(measured: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    large = ("large", "download", NEAR.name)
    small = ("small", "download", FAR.name)
    tasks = max(int(each["step"].split()[0]) for each in measured if each["case"] == "mapped")
    mapped = ("mapped", f"{tasks} tasks", FAR.name)
    moved = size(_of(measured, large, OPERATORS, "size"))
    files = round(_of(measured, small, OPERATORS, "size") / DEFAULT.small[1])

    def counted(who: str) -> str:
        commits, requests = (_of(measured, mapped, who, name) for name in ("commits", "hub_requests"))
        return f"{commits:.0f} {'commit' if commits == 1 else 'commits'}, {requests:.0f} Hub requests"

    def seconds(who: str) -> str:
        return f"{short(_of(measured, small, who, 'seconds'))} s"

    def peak(who: str) -> str:
        return f"{_of(measured, large, who, 'peak') / 1e6:.0f} MB"

    return [
        (
            "**Who has the Hub token**",
            "every task",
            "the task that fetches a Xet token: for one repository, valid for minutes, encrypted in XCom",
        ),
        ("**What is verified of a download**", "its length", "size and sha256 of every file"),
        (f"**Memory to download {moved}**", peak(HUB), peak(OPERATORS)),
        (f"**Download of {files:,} small files**, 50 ms away", seconds(HUB), seconds(OPERATORS)),
        (f"**{tasks} mapped tasks that upload a file each**", counted(HUB), counted(OPERATORS)),
    ]


def _of(measured: list[dict[str, Any]], row: tuple[str, str, str], who: str, name: str) -> float:
    """Return the median of one figure of a row."""
    place = (*row, who)
    keys = ("case", "step", "profile", "contender")
    found = [each[name] for each in measured if tuple(each[key] for key in keys) == place]
    if not found:
        raise LookupError(f"The front page needs the benchmark of {', '.join(place)}. Measure it: make bench.")
    return float(statistics.median(found))
