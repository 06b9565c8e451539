"""The table in the README: medians of the rows that it names, and nothing where one was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import front_door
from benchmarks.tasks import HUB, OPERATORS


def measured(case: str, step: str, profile: str, who: str, *figures: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"case": case, "step": step, "profile": profile, "contender": who, **each} for each in figures]


PEAKS = {OPERATORS: (300e6, 320e6, 900e6), HUB: (1_000e6, 1_100e6, 1_200e6)}
SECONDS = {OPERATORS: (2.0, 2.5), HUB: (30.0, 31.0)}
COMMITS = {OPERATORS: 1, HUB: 32}
RESULTS = {
    "machine": dict.fromkeys(
        ("date", "system", "cpus", "python", "apache-airflow-task-sdk", "hf-xet", "huggingface_hub"), 1
    ),
    "measured": [
        each
        for who in (OPERATORS, HUB)
        for each in (
            *measured("large", "download", "+0 ms", who, *({"size": 1 << 30, "peak": peak} for peak in PEAKS[who])),
            *measured("large", "download", "+50 ms", who, {"size": 1 << 30, "peak": 1}),
            *measured("small", "download", "+50 ms", who, *({"size": 6_144_000, "seconds": s} for s in SECONDS[who])),
            *measured("mapped", "8 tasks", "+50 ms", who, {"commits": 8, "hub_requests": 8}),
            *measured("mapped", "32 tasks", "+50 ms", who, {"commits": COMMITS[who], "hub_requests": 128}),
        )
    ],
}


def test_figures_are_medians_of_the_largest_number_of_tasks():
    rows = {line.split(" | ")[0].strip("| *"): line for line in front_door.lines(RESULTS)}
    assert rows["Memory to download 1.1 GB"].endswith("| 1100 MB | 320 MB |")
    assert rows["Download of 600 small files**, 50 ms away"].endswith("| 30.5 s | 2.25 s |")
    tasks = rows["32 mapped tasks that upload a file each"]
    assert tasks.endswith("| 32 commits, 128 Hub requests | 1 commit, 128 Hub requests |")


def test_only_what_is_between_the_marks_is_written(tmp_path: Path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{front_door.BEGIN}\nold\n{front_door.END}\nafter\n")
    front_door.write(RESULTS, page)
    text = page.read_text()
    assert text.startswith(f"before\n{front_door.BEGIN}\n|")
    assert text.endswith(f"\n{front_door.END}\nafter\n")
    assert "old" not in text


def test_a_row_that_was_not_measured_is_named():
    without = {**RESULTS, "measured": [each for each in RESULTS["measured"] if each["case"] != "small"]}
    with pytest.raises(LookupError, match=r"needs the benchmark of small, download, \+50 ms.* make bench"):
        front_door.lines(without)
