"""The benchmark runs, at tiny sizes: what it measures is measured, what it writes is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.bench import clean_environment
from benchmarks.servers import BUCKET, object_store

TESTS = Path(__file__).parents[1]
CASES = ("large", "start", "s3", "mapped", "edited", "lossy", "slow", "crawl")
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def bench(*arguments: object) -> str:
    command = [sys.executable, "-m", "benchmarks.bench", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The results of a case of each kind, in files of some kilobytes."""
    folder = tmp_path_factory.mktemp("bench")
    bench("--quick", "--cases", *CASES, "--folder", folder, "--results", folder / "benchmarks.json")
    assert [path.name for path in folder.iterdir()] == ["benchmarks.json"], "the benchmark left something behind"
    return folder / "benchmarks.json"


def test_every_case_measures_everybody_on_every_link(results):
    read = json.loads(results.read_text())
    assert not read["failed"]
    found: dict[tuple[str, str], set[str]] = {}
    for each in read["measured"]:
        found.setdefault((each["case"], each["profile"]), set()).add(each["contender"])
    distant = {(case, profile) for case in ("large", "start", "s3", "mapped") for profile in ("+0 ms", "+50 ms")}
    links = {("edited", "+0 ms"), ("lossy", "losses"), ("slow", "100 Mbit/s"), ("crawl", "a crowded link")}
    assert set(found) == distant | {link for link in links if link[0] not in read["skipped"]}
    everybody = {"this provider", "huggingface_hub", "bare hf_xet", "bare hf_xet, tuned"}
    assert found.pop(("crawl", "a crowded link")) == {
        "this provider",
        "huggingface_hub",
        "huggingface_hub, 4 requests",
    }
    for row, who in found.items():
        assert who >= everybody, row


def test_two_cases_in_one_run_have_an_object_storage_each(tmp_path):
    """With --quick they share a server that keeps nothing on disk, so nothing there shows it."""
    for _ in range(2):
        with object_store(tmp_path / "objects", clean_environment(tmp_path), quick=False) as store:
            assert not store.client().list_objects_v2(Bucket=BUCKET).get("Contents")
            store.client().put_object(Bucket=BUCKET, Key="a", Body=b"a")
    assert not (tmp_path / "objects").exists()


def test_what_a_link_costs_is_in_the_figures(results):
    measured = json.loads(results.read_text())["measured"]
    for each in measured:
        assert 50_000_000 < each["peak"] < 1_000_000_000
        assert each["cpu"] > 0
        if each["case"] == "start" and each["profile"] == "+50 ms":
            assert each["seconds"] > 0.25, "an upload is at least five requests one after the other"
            assert each["first_byte"] > 0
        if each["case"] == "slow":
            assert each["seconds"] > (each["size"] - 300_000) / 12_500_000, "the link carries 100 Mbit/s"


def test_requests_and_commits_are_those_of_the_server(results):
    mapped = [each for each in json.loads(results.read_text())["measured"] if each["case"] == "mapped"]
    for each in mapped:
        tasks = int(each["step"].split()[0])
        expected = {"this provider": (1, 3), "huggingface_hub": (tasks, 4 * tasks)}
        # The bare client has a token already, and commits nothing.
        assert (each["commits"], each["hub_requests"]) == expected.get(each["contender"], (0, 0)), each["contender"]


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
    measured = {each["case"] for each in json.loads(results.read_text())["measured"]}
    assert charts == sorted(f"benchmarks-{case}.svg" for case in measured)
    for chart in charts:
        ElementTree.parse(tmp_path / "_static" / chart)  # noqa: S314 - our own
