"""The table of facts: each has one contract test and one source, and what is cited of an installed client is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.documentation import table
from support.hub_facts import FACTS, FOLDER, GUESSES, KINDS, SOURCES, Fact
from xethub_local.control.fault import Fault

HUB_CLIENT = Path(find_spec("huggingface_hub").origin or "").parent  # type: ignore[union-attr]


def contract_tests() -> list[str]:
    return [
        node.name
        for file in FOLDER.glob("test_*.py")
        if file.name != Path(__file__).name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_every_fact_has_one_test_and_every_test_a_fact() -> None:
    assert Counter(contract_tests()) == Counter(fact.test for fact in FACTS)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.id)
def test_a_fact_says_what_and_where(fact: Fact) -> None:
    assert fact.route
    assert fact.behaviour.endswith((".", '".'))
    assert fact.section
    assert SOURCES[fact.source].kind in KINDS


def test_every_source_is_used_and_says_where_it_is() -> None:
    assert {fact.source for fact in FACTS} == SOURCES.keys()
    assert all(source.title and (source.where or key == "guess") for key, source in SOURCES.items())


def test_clients_are_cited_in_the_version_that_is_installed() -> None:
    """A new version may know better: read what changed in the functions that the table cites, then raise it there."""
    for source in SOURCES.values():
        if source.package:
            assert f" {version(source.package)}" in source.title


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact.source == "hfh"], ids=lambda fact: fact.id)
def test_what_is_cited_of_the_installed_client_is_there(fact: Fact) -> None:
    file, _, name = fact.section.partition(": ")
    kind, name = ("class", name.removeprefix("class ")) if name.startswith("class ") else (r"(?:def|class)", name)
    assert re.search(rf"^\s*{kind} {name}\b", (HUB_CLIENT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact.source == "issues"], ids=lambda fact: fact.id)
def test_an_issue_is_cited_by_its_number(fact: Fact) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", fact.section)


def test_what_is_not_certain_here_has_several_answers() -> None:
    for fact in FACTS:
        is_open = fact.is_guess or bool(fact.differs)
        assert (len(fact.answers) >= 2) is is_open, fact.id
        assert bool(fact.touches) is is_open, fact.id
        for answer in fact.answers:
            assert answer.says
            assert not answer.fault or Fault.from_json(answer.fault)


def test_the_documentation_lists_the_guesses() -> None:
    rows = table("local-hub-differences.md", "Guess", "What it checks")
    assert rows == [[fact.behaviour, fact.section] for fact in GUESSES]


def test_the_documentation_lists_what_differs_on_purpose() -> None:
    rows = table("local-hub-differences.md", "The real Hub", "What it checks")
    assert rows == [[f"`{fact.route}`: {fact.behaviour}", fact.differs] for fact in FACTS if fact.differs]
