"""Compare the local Hub with what is known about the real one: ``make conformance``.

It runs a contract test for each fact in ``facts.json``, the provider against each answer that the real Hub may give
where nobody says which, and the client libraries' own tests; then it prints what differs. It fails if anything does
that the table does not explain.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from itertools import chain
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
sys.path.insert(0, str(TESTS))

from support.hub_facts import FACTS, GUESS, KINDS, SOURCES, Fact  # noqa: E402

CLIENT_SUITES = TESTS / "local" / "clients" / "suites" / "run.py"
GUESSES_TESTS = TESTS / "provider" / "test_guesses.py"

PASSED, DIFFERS, FAILED = "passed", "differs", "failed"


def main() -> int:
    """Run everything, print the closing table, and fail if a fact does not hold or a client's suite fails."""
    parser = argparse.ArgumentParser(description="Compare the local Hub with what is known about the real one.")
    parser.add_argument("--facts-only", action="store_true", help="leave out the client libraries' own tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        is_good = _pytest(HERE, Path(scratch) / "facts.xml")
        facts = _results(Path(scratch) / "facts.xml")
        is_good &= _pytest(GUESSES_TESTS, Path(scratch) / "guesses.xml")
        guesses = Counter(chain(*_results(Path(scratch) / "guesses.xml").values()))
    suites = 0 if options.facts_only else subprocess.run([sys.executable, str(CLIENT_SUITES)]).returncode
    states = {fact.id: _state(fact, facts.get(fact.test, [])) for fact in FACTS}
    _print_differences(states)
    _print_table(states)
    ends = f"{guesses[PASSED]} passed, {guesses[FAILED]} failed"
    print(f"The provider against {sum(guesses.values())} possible answers: {ends}.")
    if not options.facts_only:
        print(f"The client libraries' own tests: {'as many as must passed' if suites == 0 else 'too many failed'}.")
    is_good &= FAILED not in states.values() and guesses[FAILED] == 0
    return 0 if is_good and suites == 0 else 1


def _pytest(tests: Path, report: Path) -> bool:
    arguments = ["-q", "--numprocesses=2", "--dist=loadfile", "--tb=short", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *arguments, f"--junitxml={report}", str(tests)]
    return subprocess.run(command, cwd=TESTS.parent).returncode == 0


def _results(report: Path) -> dict[str, list[str]]:
    """Return how each test ended, by its name without parameters."""
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it
        name = (case.get("name") or "").partition("[")[0]
        has_failed = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped")  # what is expected to fail, and does, is reported as skipped
        outcome = FAILED if has_failed else PASSED if skipped is None else DIFFERS
        found.setdefault(name, []).append(outcome)
    return found


def _state(fact: Fact, outcomes: list[str]) -> str:
    if not outcomes or FAILED in outcomes:
        return FAILED
    if fact.differs:
        return DIFFERS if set(outcomes) == {DIFFERS} else FAILED
    return PASSED if set(outcomes) == {PASSED} else FAILED


def _print_differences(states: dict[str, str]) -> None:
    for fact in FACTS:
        source = SOURCES[fact.source]
        if states[fact.id] == FAILED:
            print(f"\nThe local Hub does not follow: {fact.behaviour}")
            print(f"  {fact.route}\n  Source: {source.title}, {fact.section}\n  Test: {fact.test}")
        elif states[fact.id] == DIFFERS:
            print(f"\nThe local Hub differs on purpose: {fact.behaviour}")
            print(f"  {fact.route}\n  Source: {source.title}, {fact.section}\n  Why: {fact.differs}")


def _print_table(states: dict[str, str]) -> None:
    print(f"\n{'Source':<20}{'Facts':>8}{'Passed':>8}{'Differ':>8}{'Failed':>8}")
    total: Counter[str] = Counter()
    for kind in KINDS:
        counts = Counter(states[fact.id] for fact in FACTS if SOURCES[fact.source].kind == kind)
        total += counts
        _print_row(kind if kind != GUESS else "guess (no source)", counts)
    _print_row("all", total)
    print()


def _print_row(name: str, counts: Counter[str]) -> None:
    print(f"{name:<20}{sum(counts.values()):>8}{counts[PASSED]:>8}{counts[DIFFERS]:>8}{counts[FAILED]:>8}")


if __name__ == "__main__":
    sys.exit(main())
