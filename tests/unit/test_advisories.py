"""Every floor has been compared with the known advisories, and none has one that does harm here."""

from __future__ import annotations

import datetime
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from support import advisories
from support.distributions import FOLDERS
from support.documentation import ROOT

FOUND = advisories.read()
DEPENDENCIES = {each["name"]: each for each in FOUND["dependency"]}
ADVISORIES = [(each["name"], advisory) for each in FOUND["dependency"] for advisory in each.get("advisory", ())]
KUBERNETES = "apache-airflow-providers-cncf-kubernetes"
ID = re.compile(r"CVE-\d{4}-\d{4,}|GHSA(-[0-9a-z]{4}){3}|PYSEC-\d{4}-\d+")


def floors() -> dict[str, set[Version]]:
    """Return the floors of all requirements of the three distributions, with their extras."""
    found: dict[str, set[Version]] = {}
    for project in advisories.projects():
        lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
        for text in (text for each in lists for text in each):
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if name not in FOLDERS:
                (floor,) = (each.version for each in requirement.specifier if each.operator == ">=")
                found.setdefault(name, set()).add(Version(floor))
    return found


def test_every_floor_was_looked_up():
    assert {name: min(versions) for name, versions in floors().items()} == {
        name: Version(each["floor"]) for name, each in DEPENDENCIES.items()
    }
    assert len(DEPENDENCIES) == len(FOUND["dependency"])


def test_a_dependency_has_one_floor_unless_a_note_says_why():
    assert [name for name, versions in floors().items() if len(versions) > 1 and "note" not in DEPENDENCIES[name]] == [
        "awscrt"  # the local Hub needs a later one, of which no advisory is known either
    ]


def test_the_look_up_has_a_date_and_sources():
    assert FOUND["looked_up"] >= datetime.date(2026, 11, 29)
    assert len(FOUND["sources"]) > 2


@pytest.mark.parametrize(("name", "advisory"), ADVISORIES, ids=lambda value: value if isinstance(value, str) else "")
def test_an_advisory_of_a_floor_does_no_harm_here(name, advisory):
    assert advisory["reached"] is False
    assert all(ID.fullmatch(alias) for each in advisory["ids"] for alias in each.split("/"))
    assert advisory["reason"].endswith(".")
    assert len(advisory["reason"]) > 40
    assert Version(DEPENDENCIES[name]["floor"]) < Version(advisory["fixed"])


@pytest.mark.parametrize("name", sorted({name for name, _ in ADVISORIES} - {KUBERNETES}))
def test_a_floor_is_lower_than_the_fix_only_where_an_airflow_comes_with_a_lower_version(name):
    """For the Kubernetes provider there is no such version: what concerns the executor is not ours to ask for."""
    admitted = Version(DEPENDENCIES[name]["admitted"])
    assert Version(DEPENDENCIES[name]["floor"]) <= admitted
    fixes = [Version(advisory["fixed"]) for other, advisory in ADVISORIES if other == name]
    assert [fix for fix in fixes if fix <= admitted] == []


def test_the_versions_that_everybody_develops_with_have_no_known_advisory():
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    lowest: dict[str, Version] = {}
    for name, version in pinned:
        lowest[name] = min(Version(version), lowest.get(name, Version(version)))
    assert [name for name, advisory in ADVISORIES if lowest[name] < Version(advisory["fixed"])] == []


def test_the_page_shows_the_same():
    page = advisories.PAGE.read_text()
    assert advisories.with_table(page) == page, "Write it with: PYTHONPATH=tests python -m support.advisories"
