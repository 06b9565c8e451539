"""The table of the threat model names tests that exist, and every claim names one or says that none shows it."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from support.documentation import ROOT, table

TESTS = ROOT / "tests"
PAGE = ROOT / "docs/security.md"


def claims():
    """Return the rows of the table as lists of cells."""
    lines = PAGE.read_text().splitlines()
    start = lines.index("| Who | | What | Shown by |") + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]


@cache
def functions_of(path):
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_the_table_has_the_parties_of_the_threat_model():
    rows = claims()
    assert len(rows) > 40
    assert {len(row) for row in rows} == {4}
    assert {row[1] for row in rows} == {"can", "cannot"}
    said = " ".join(row[0] for row in rows).lower()
    parties = "author of a dag, another dag, viewer, user, op and admin, public, database, logs, edit a connection"
    places = "only a sealed token, triggerer, machine, same user, plain http, manifest_storage, object storage, mirror"
    for party in f"{parties}, {places}, hostile hub, hostile cas, proxy, webhooks, browser".split(", "):
        assert party in said, party


def test_whatever_is_not_prevented_has_a_test_or_says_that_it_has_none():
    """Each test of the known limits is named: a limit that nobody reads about is none that anybody accepted."""
    named = {each for row in claims() for each in row[3].replace("`", "").split(", ")}
    for limits in ("provider/test_known_limits.py",):
        assert {f"{limits}::{name}" for name in functions_of(limits) if name.startswith("test_")} <= named


@pytest.mark.parametrize("row", claims(), ids=lambda row: row[2][:50])
def test_every_claim_names_tests_that_exist(row):
    shown = row[3]
    if shown == "not tested":
        return
    for each in shown.split(", "):
        path, _, name = each.strip("`").partition("::")
        assert each == f"`{path}::{name}`"
        assert name.startswith("test_")
        assert name in functions_of(path), each


# --- the page for reviewers -------------------------------------------------------------------------------------------

REVIEW = "security-review.md"


def test_reviewers_are_told_of_each_dependency():
    own = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [\n")[2].partition("]")[0]
    needed = set(re.findall(r'^    "([\w-]+)', own, re.MULTILINE))
    told = {name for row in table(REVIEW, "Package") for name in re.findall(r"`([^`]+)`", row[0])}
    assert told == needed


def test_reviewers_are_told_of_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"`make ([a-z-]+)", (ROOT / "docs" / REVIEW).read_text())
    assert len(named) > 5
    assert not [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def test_the_picture_and_its_table_have_the_same_flows():
    picture = (ROOT / "docs/trust-boundaries.svg").read_text()
    numbers = set(re.findall(r'class="xt-num"[^>]*>(\d)<', picture))
    assert numbers == {row[0] for row in table(REVIEW, "Flow")} == set("12345678")
