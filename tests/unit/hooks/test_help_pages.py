"""The log of a failed task links to the section about its error, once the documentation has an address."""

from __future__ import annotations

import logging
from email.message import Message
from importlib import metadata

import pytest

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError, XetNotFoundError
from airflow_provider_xethub.hooks import help_pages
from airflow_provider_xethub.operators.xethub import XetListOperator


@pytest.fixture(autouse=True)
def around(monkeypatch, caplog):
    """Keep the log of the operator, and forget the address."""
    monkeypatch.setattr(XetListOperator, "log", logging.getLogger("task"))
    caplog.set_level("INFO", "task")
    yield
    help_pages.documentation.cache_clear()


@pytest.fixture
def declare(monkeypatch):
    """Replace what the installed distribution says about its addresses."""

    def replace(*urls: str) -> None:
        declared = Message()
        for url in urls:
            declared["Project-URL"] = url
        monkeypatch.setattr(metadata, "metadata", lambda name: declared)
        help_pages.documentation.cache_clear()

    return replace


def lines_of_a_failing_operator(caplog) -> list[tuple[str, str]]:
    operator = XetListOperator(task_id="list", repo_id="acme/corpus", path="")
    with pytest.raises(XetInputError):
        operator.execute({})
    return [(each.levelname, each.message) for each in caplog.records if each.levelno != logging.WARNING]


@pytest.mark.parametrize(
    ("documentation", "page"),
    [
        ("https://docs.example.org/en/stable/", "https://docs.example.org/en/stable/errors.html"),
        ("https://docs.example.org/en/stable", "https://docs.example.org/en/stable/errors.html"),
        ("https://git.example.org/a/b/blob/main/docs/index.md", "https://git.example.org/a/b/blob/main/docs/errors.md"),
    ],
)
def test_the_log_has_a_link_below_the_message(declare, caplog, documentation, page):
    declare("Repository, https://git.example.org", f"Documentation, {documentation}")
    message, link = lines_of_a_failing_operator(caplog)
    assert message == ("ERROR", "path is empty: ''. Give it a value; leave path out to use its default.")
    assert link == ("INFO", f"Help: {page}#xetinputerror")


def test_there_is_no_link_while_the_address_is_a_placeholder(caplog):
    assert len(lines_of_a_failing_operator(caplog)) == 1


@pytest.mark.parametrize("urls", [(), ("Repository, https://git.example.org",), ("Documentation, none",)])
def test_there_is_no_link_without_an_address(declare, caplog, urls):
    declare(*urls)
    assert len(lines_of_a_failing_operator(caplog)) == 1


def test_there_is_no_link_where_the_code_is_not_a_distribution(monkeypatch, caplog):
    monkeypatch.setattr(help_pages, "DISTRIBUTION", "no-such-distribution")
    help_pages.documentation.cache_clear()
    assert len(lines_of_a_failing_operator(caplog)) == 1


class OwnError(XetEmptySourceError):
    """Of somebody who derives operators from ours."""


@pytest.mark.parametrize(
    ("error", "anchor"), [(XetNotFoundError("Gone."), "xetnotfounderror"), (OwnError("Empty."), "xetemptysourceerror")]
)
def test_the_section_is_that_of_the_class_or_of_the_one_it_is_derived_from(declare, error, anchor):
    declare("Documentation, https://docs.example.org/")
    assert help_pages.help_page(error) == f"https://docs.example.org/errors.html#{anchor}"
