"""Only None selects everything; sizes are bytes, with or without a unit."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.arguments import byte_count, selection


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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (500_000_000, 500_000_000),
        ("500000000", 500_000_000),
        ("500MB", 500_000_000),
        (" 1.5 gb ", 1_500_000_000),
        ("512MiB", 512 << 20),
        ("2GiB", 2 << 30),
        ("1TB", 10**12),
        ("64kb", 64_000),
        ("10B", 10),
    ],
)
def test_a_size_is_a_number_of_bytes_with_or_without_a_unit(value, expected):
    assert byte_count("transfer_memory", value) == expected


@pytest.mark.parametrize(
    "value", ["", "None", "0", 0, -1, 0.5, True, "MB", "500M", "-1MB", "1e9", "1 EB", "9" * 400, [1], b"1"]
)
def test_anything_else_is_no_size(value):
    with pytest.raises(XetInputError, match=r"transfer_memory must be a number of bytes, or a string such as '500MB'"):
        byte_count("transfer_memory", value)
