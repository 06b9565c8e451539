"""The measurement of growth runs, with small points: what it measures is counted by the Hub and the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = Path(__file__).parents[1]
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def scale(*arguments: object) -> str:
    command = [sys.executable, "-m", "benchmarks.scale", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_growth_is_measured_and_written_into_the_docs(tmp_path):
    results = tmp_path / "scale.json"
    scale("--quick", "--series", "files", "batches", "waiting", "--folder", tmp_path, "--results", results)
    points = {(point["step"], point["x"]): point for point in json.loads(results.read_text())["points"]}
    assert points["upload", 100]["commits"] == 1
    assert points["download", 100]["cas_requests"] > points["download", 10]["cas_requests"] > 0
    assert points["list", 100]["xcom"] > points["list", 10]["xcom"] > 1_000
    assert points["list", 2]["xcom"] < 1_000
    assert points["download each batch", 2]["cas_requests"] == 400
    assert points["one repository", 3]["hub_requests"] < points["a repository each", 3]["hub_requests"]
    assert all(50_000_000 < point["peak"] < 1_000_000_000 for point in points.values())

    (tmp_path / "scale.md").write_text("before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n")
    scale("--report-only", "--results", results, "--docs", tmp_path)
    page = (tmp_path / "scale.md").read_text()
    assert "| upload | 100 |" in page
    assert "| list, *extrapolated* | *10,000,000* |" in page
    for chart in (tmp_path / "_static").iterdir():
        ElementTree.parse(chart)  # noqa: S314 - our own
