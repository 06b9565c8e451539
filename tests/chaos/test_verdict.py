"""Each check notices what it is for: a violation is planted, and nothing else reports it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.verdict import CHECKS, Attempted, Commit, Download, Facts, misses

FILES = {"items/000/data.bin": "1", "items/000/table.csv": "2"}
COMMIT = Commit("item-000", frozenset(FILES))
DOWNLOAD = Download("item-000", "shared", FILES)
GOOD = Facts(
    tasks=[Attempted("publish.upload", 0, "success", 3)],
    wanted_tasks=1,
    wanted_commits={"item-000": frozenset(FILES)},
    commits=[COMMIT],
    wanted_files=FILES,
    files=FILES,
    wanted_downloads={"item-000": FILES},
    downloads=[DOWNLOAD, Download("item-000", "one", {"items/000/data.bin": "1"})],
    abandoned=["one: item-000/.part"],
)
FIRST, SECOND = FILES

PLANTED: list[tuple[str, dict[str, Any]]] = [
    ("every_task_succeeded", {"tasks": [Attempted("publish.upload", 0, "failed", 3)]}),
    ("every_task_succeeded", {"tasks": []}),
    ("every_commit_was_made_once", {"commits": []}),
    ("every_commit_was_made_once", {"commits": [COMMIT, replace(COMMIT, changed=frozenset())]}),
    ("every_commit_was_made_once", {"commits": [replace(COMMIT, changed=frozenset([FIRST]))]}),
    ("every_commit_was_made_once", {"commits": [COMMIT, Commit("unknown", frozenset(["b"]))]}),
    ("every_file_is_published", {"files": {FIRST: "1"}}),
    ("every_file_is_published", {"files": {**FILES, SECOND: "3"}}),
    ("every_file_is_published", {"files": {**FILES, "b": "3"}}),
    ("every_file_was_downloaded", {"downloads": []}),
    ("every_file_was_downloaded", {"downloads": [Download("item-000", "shared", {FIRST: "1"})]}),
    ("every_file_was_downloaded", {"downloads": [DOWNLOAD, Download("item-000", "one", {FIRST: "torn"})]}),
    ("every_file_was_downloaded", {"downloads": [DOWNLOAD, Download("item-000", "one", {**FILES, "b": "1"})]}),
    ("no_temporary_file_is_left", {"temporary": ["shared: item-000/.part"]}),
    ("nothing_else_was_published", {"refs": ["refs/heads/other"]}),
    ("nothing_else_was_published", {"pull_requests": ["item-000"]}),
    ("no_credential_is_visible", {"credentials": ["logs/worker-one.log: the Hub token"]}),
    ("no_credential_is_visible", {"unsearched": ["workers/"]}),
    ("every_process_ended", {"running": ["airflow worker -- 1"]}),
]


def test_what_is_as_intended_has_no_miss() -> None:
    assert misses(GOOD) == []


@pytest.mark.parametrize(("check", "planted"), PLANTED)
def test_a_planted_violation_is_noticed_by_its_check_only(check: str, planted: dict[str, Any]) -> None:
    found = misses(replace(GOOD, **planted))
    assert found
    assert {each.partition(":")[0] for each in found} == {check}


def test_each_check_has_a_planted_violation() -> None:
    assert {name for name, _ in PLANTED} == {check.__name__ for check in CHECKS}
