"""The benchmark runs, at tiny sizes: what it measures is measured, what it writes is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).parents[1] / "benchmarks/bench.py"
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def bench(*arguments: object) -> str:
    command = [sys.executable, str(BENCH), *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The results of all cases, in files of some kilobytes."""
    folder = tmp_path_factory.mktemp("bench")
    bench("--quick", "--folder", folder, "--results", folder / "benchmarks.json")
    assert [path.name for path in folder.iterdir()] == ["benchmarks.json"], "the benchmark left something behind"
    return folder / "benchmarks.json"


def test_every_case_measures_everybody_at_every_distance(results):
    measured = json.loads(results.read_text())["measured"]
    found = {(each["case"], each["contender"], each["delay"]) for each in measured}
    everybody = {"this provider", "huggingface_hub", "bare hf_xet", "bare hf_xet, tuned"}
    for case in ("large", "medium", "small", "start", "s3", "mapped"):
        who = {contender for other, contender, _ in found if other == case}
        assert who >= ({"this provider", "huggingface_hub"} if case in ("s3", "mapped") else everybody), case
        assert who == {contender for other, contender, delay in found if (other, delay) == (case, 0.05)}, case


def test_what_was_added_to_each_request_is_in_the_figures(results):
    starts = [each for each in json.loads(results.read_text())["measured"] if each["case"] == "start"]
    for each in starts:
        assert each["seconds"] > each["delay"] * 5, "an upload is at least five requests one after the other"
        assert 50_000_000 < each["peak"] < 1_000_000_000
        assert each["first_byte"] > 0


def test_requests_and_commits_are_those_of_the_server(results):
    mapped = [each for each in json.loads(results.read_text())["measured"] if each["case"] == "mapped"]
    for each in mapped:
        tasks = int(each["step"].split()[0])
        assert each["commits"] == (1 if each["contender"] == "this provider" else tasks)
        assert each["hub_requests"] == (3 if each["contender"] == "this provider" else 4 * tasks)


def test_the_report_is_written_into_the_docs(results, tmp_path):
    (tmp_path / "benchmarks.md").write_text("before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n")
    said = bench("--report-only", "--results", results, "--docs", tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert "| upload, +50 ms | huggingface_hub |" in page
    assert "nothing is judged" in said
    charts = sorted(path.name for path in (tmp_path / "_static").iterdir())
    assert charts == [f"benchmarks-{case}.svg" for case in ("large", "mapped", "medium", "s3", "small", "start")]
    for chart in charts:
        ElementTree.parse(tmp_path / "_static" / chart)  # noqa: S314 - our own
