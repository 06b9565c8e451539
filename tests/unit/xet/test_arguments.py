"""Only None selects everything."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.arguments import selection


def test_none_selects_everything():
    assert selection("patterns", None) is None


@pytest.mark.parametrize(("value", "expected"), [("*.csv", ["*.csv"]), (["a", "b"], ["a", "b"]), (("a",), ["a"])])
def test_a_selection_becomes_a_list(value, expected):
    assert selection("patterns", value) == expected


@pytest.mark.parametrize("value", ["", [], (), ["a", ""]])
def test_an_empty_selection_is_refused(value):
    with pytest.raises(XetInputError, match="patterns is empty"):
        selection("patterns", value)


@pytest.mark.parametrize("value", [{}, {"a": 1}, 7, b"a", ["a", 7], [None], {"a"}])
def test_anything_but_strings_is_refused(value):
    with pytest.raises(XetInputError, match="patterns must"):
        selection("patterns", value)
