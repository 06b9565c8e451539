"""The pages quote messages that the code has, and the page of errors has a section for each of them.

A quoted message is a block quote, in which ``…`` stands for what differs.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from support.documentation import DOCS, PAGES, ROOT, all_errors

PACKAGE = ROOT / "provider/airflow_provider_xethub"
WITHOUT_A_MESSAGE = {"XetHubError", "XetTokenError", "XetScanError"}
"""Errors to catch several by; what the code raises is one of their subclasses."""


def sections(page: str, marks: str) -> dict[str, str]:
    """Return the sections below a heading of this level, each up to the next heading of this level or above."""
    text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    _, *parts = re.split(rf"^(#{{1,{len(marks)}}}) (.+)$", text, flags=re.MULTILINE)
    return {parts[at + 1]: parts[at + 2] for at in range(0, len(parts), 3) if parts[at] == marks}


def quotes(text: str) -> list[str]:
    """Return the block quotes, each on one line."""
    found = re.findall(r"(?:^> ?.*\n?)+", text, re.MULTILINE)
    return [" ".join(re.sub(r"^> ?", "", quote, flags=re.MULTILINE).split()) for quote in found]


def constant_parts(message: str) -> list[str]:
    """Return what is between the parts that differ, by sentences: several strings of the code may make one message."""
    parts = (part.strip(" .") for part in re.split(r"…|\. ", message))
    return [part for part in parts if len(part) > 5]


@cache
def strings_of_the_code() -> dict[Path, list[str]]:
    """Return the string constants of each module; of an f-string, what is between its placeholders."""
    return {path: list(strings_in(ast.parse(path.read_text()))) for path in sorted(PACKAGE.rglob("*.py"))}


def strings_in(tree: ast.AST) -> list[str]:
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found.append(re.sub(r"%[sdr]", "…", node.value).replace("%%", "%"))
    return found


def modules_with(part: str) -> set[Path]:
    return {path for path, strings in strings_of_the_code().items() if any(part in each for each in strings)}


def names_in(path: Path) -> set[str]:
    return set(re.findall(r"\bXet\w+Error\b", path.read_text()))


def built_ins(kind: type) -> set[str]:
    """Return the built-in exceptions that it is, without those that these are themselves."""
    bases = [base for base in kind.__mro__ if base.__module__ == "builtins" and base is not Exception]
    inner = {base for other in bases for base in other.__mro__[1:]}
    return {base.__name__ for base in bases if base not in inner} - {"BaseException", "object"}


def sections_of_errors() -> dict[str, str]:
    return {title: text for title, text in sections("errors.md", "###").items() if re.fullmatch(r"Xet\w+Error", title)}


def test_each_error_has_a_section_in_the_order_of_the_code():
    assert list(sections_of_errors()) == list(all_errors())


@pytest.mark.parametrize("name", all_errors())
def test_the_section_of_an_error_says_what_it_is_and_what_to_do(name):
    kind, text = all_errors()[name], sections_of_errors()[name]
    line, happened, *_, todo = (part for part in text.split("\n\n") if part.strip())
    retried, _, also = line.strip("\n*.").partition(".")
    assert retried == ("Retried" if kind.retryable else "Not retried")
    assert set(re.findall(r"`(\w+)`", also)) == built_ins(kind)
    assert happened[0].isalnum()
    assert todo.startswith("**What to do:** ")
    assert len(quotes(text)) == (0 if name in WITHOUT_A_MESSAGE else 1)
    for message in quotes(text):
        first, *others = constant_parts(message)
        # The messages of a trigger's arguments are those of the same arguments elsewhere.
        raised_as = {base.__name__ for base in kind.__mro__} if name == "XetTriggerArgumentError" else {name}
        assert any(raised_as & names_in(path) for path in modules_with(first)), f"{first!r} is not of a {name}"
        for part in others:
            assert modules_with(part), f"{part!r} is in no message"


def test_no_table_and_no_long_word_widens_the_page_of_errors():
    """A telephone shows about 40 characters of code in a line; a table would be cut."""
    text = (DOCS / "errors.md").read_text()
    assert not re.search(r"^\|", text, re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)|```.*?```", "", text, flags=re.DOTALL)
    assert len(max(re.findall(r"\S+", prose), key=len)) <= 40


def test_links_to_an_error_lead_to_its_section():
    anchors = {title.lower() for title in sections_of_errors()}
    for page in PAGES:
        for anchor in re.findall(r"errors\.md#(xet\w+)\)", page.read_text()):
            assert anchor in anchors, f"{page.name}: {anchor}"


# --- troubleshooting --------------------------------------------------------------------------------------------------

OF_AIRFLOW = {
    "Process terminated by signal.": "airflow.sdk.execution_time.supervisor",
    "Likely out of memory error (OOM).": "airflow.sdk.execution_time.supervisor",
    "DagBag import timeout for": "airflow.dag_processing.importers.python_importer",
    "pushed value is too large to map as a downstream's dependency": "airflow.api_fastapi.execution_api.routes.xcoms",
}
"""What Airflow says, and the module that says it."""


@pytest.mark.parametrize("symptom", sections("troubleshooting.md", "###"))
def test_a_symptom_has_a_cause_a_remedy_and_a_check(symptom):
    text = sections("troubleshooting.md", "###")[symptom]
    order = [text.find(f"\n**{word}:** ") for word in ("Why", "What to do", "Check")]
    assert -1 < order[0] < order[1] < order[2]
    for message in quotes(text):
        assert constant_parts(message), message
        for part in constant_parts(message):
            assert modules_with(part), f"{part!r} is in no message"


def test_what_airflow_says_is_quoted_as_airflow_says_it():
    text = " ".join((DOCS / "troubleshooting.md").read_text().split())
    for message, module in OF_AIRFLOW.items():
        spec = importlib.util.find_spec(module)
        assert message in text
        assert message in Path(spec.origin).read_text(), module


def test_troubleshooting_covers_what_people_search_for():
    text = (DOCS / "troubleshooting.md").read_text().lower()
    words = "hangs|429 too many requests|token expired|no fernet key|401|403|gated|certificate|private ca|proxy|oom|"
    words += "slow|nothing was uploaded|never finishes|triggerer|conflict|no token|test fails|import is slow|disk full|"
    words += "changed while|lock|webhook|xcom is too large"
    assert not [word for word in words.split("|") if word not in text]
