"""What the local Hub reports about scans of files."""

from __future__ import annotations

import pytest

from xethub_local.metadata.scans import ScanRule, Scans, summary

NAME = "models/acme/m"


def test_every_file_is_safe_unless_a_rule_says_otherwise() -> None:
    scans = Scans(lambda: 1000.0)
    assert scans.report(NAME, "README.md", 0.0) == {
        "status": "safe",
        "avScan": {"status": "safe"},
        "pickleImportScan": {"status": "unscanned"},
        "jFrogScan": {"status": "unscanned"},
        "protectAiScan": {"status": "unscanned"},
        "virusTotalScan": {"status": "unscanned"},
    }
    scans.set("unsafe", "*.pkl", scanner="protectAiScan", message="runs code")
    found = scans.report(NAME, "d/model.pkl", 0.0)
    assert found is not None
    assert found["status"] == "unsafe"
    assert found["protectAiScan"] == {"status": "unsafe", "message": "runs code"}
    assert found["avScan"] == {"status": "safe"}
    assert found["pickleImportScan"] == {"status": "safe", "pickleImports": []}


def test_the_newest_rule_for_a_repository_and_a_path_decides() -> None:
    scans = Scans(lambda: 1000.0)
    scans.set("none")
    scans.set("error", "a*", repository="models/acme/*")
    assert scans.report(NAME, "b", 0.0) is None
    assert [scans.report(name, "a/b", 0.0) is None for name in (NAME, "datasets/acme/m")] == [False, True]
    scans.clear()
    assert (scans.report(NAME, "b", 0.0) or {})["status"] == "safe"


def test_a_file_is_queued_until_the_delay_has_passed() -> None:
    now = 1000.0
    scans = Scans(lambda: now)
    scans.set("unsafe", delay=60.0)
    found = scans.report(NAME, "a", 990.0)
    assert found is not None
    assert (found["status"], found["avScan"]) == ("queued", {"status": "queued"})
    now = 1050.0
    assert (scans.report(NAME, "a", 990.0) or {})["status"] == "unsafe"


def test_a_model_has_a_summary() -> None:
    scans = Scans(lambda: 1000.0)
    scans.set("suspicious", "b")

    def reports() -> dict:
        return {path: scans.report(NAME, path, 0.0) for path in ("a", "b")}

    issue = {"path": "b", "level": "suspicious"}
    assert summary(reports()) == {"scansDone": True, "filesWithIssues": [issue]}
    scans.set("queued", "a")
    assert summary(reports()) == {"scansDone": False, "filesWithIssues": [issue]}
    scans.set("none")
    assert summary(reports()) == {"scansDone": False, "filesWithIssues": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "status is missing"),
        ({"status": "fine"}, "status must be one of unscanned, safe, .*, none, not 'fine'"),
        ({"status": "safe", "scanner": "mine"}, "scanner must be one of avScan"),
        ({"status": "safe", "path": 1}, "path must be a string"),
        ({"status": "safe", "delay": -1}, "delay must be a number"),
        ({"status": "safe", "delay": True}, "delay must be a number"),
        ({"status": "safe", "when": 1}, "the field 'when' is not known; use status, path"),
    ],
)
def test_a_rule_that_is_wrong_is_refused(body: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScanRule.from_json(body)
