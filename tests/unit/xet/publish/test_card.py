"""The text of a card: front matter, the user's own text, and the block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.publish.card import BEGIN, END, Card, block, skeleton, with_block, with_data

FRONT = """---
# about the licence
license: mit  # for now
tags:
- one
- two
# about the language
language:
  - en
pretty_name: "A: B"
---

# My corpus

---
Text.
"""


def test_a_block_is_a_table_of_facts() -> None:
    assert block([("Run", "1"), ("a|b  c", "x\n`y` -->\tz\0")]) == (
        "<!-- xethub begin: replaced by each run, do not edit -->\n"
        "\n"
        "| Published by | Airflow |\n"
        "|---|---|\n"
        "| Run | `1` |\n"
        "| a\u2502b c | `x 'y' --\u203a z` |\n"
        "\n"
        "<!-- xethub end -->"
    )


def test_a_block_has_50_facts_of_500_characters() -> None:
    rows = block([("Input", "x" * 500)] * 50).splitlines()[4:-2]
    assert rows == [f"| Input | `{'x' * 500}` |"] * 50
    rows = block([("Input", "x" * 501)] * 52).splitlines()[4:-2]
    assert rows == [*[f"| Input | `{'x' * 499}…` |"] * 50, "| … | 2 more |"]


def test_a_block_comes_to_the_end_or_in_place_of_the_first_one() -> None:
    new = block([("Run", "1")])
    assert with_block("# Ours\n\n", new) == f"# Ours\n\n{new}\n"
    assert with_block("", new) == f"{new}\n"
    assert with_block("\n  # Ours", new) == f"  # Ours\n\n{new}\n"
    assert with_block("\nX", new) == f"X\n\n{new}\n"
    assert with_block(f"a\n{BEGIN}{END}\nb\n{BEGIN}{END}\n", new) == f"a\n{new}\nb\n{BEGIN}{END}\n"
    assert skeleton(f"a\n{new}\nb\n") == f"a\n{BEGIN}{END}\nb\n"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"text": 1}, "card.text must be a string, not int."),
        ({"text": "x" * 1_000_001}, "card.text has 1,000,001 characters; at most 1,000,000 are allowed."),
        ({"data": ["a"]}, "card.data must be a dictionary, not list."),
        ({"facts": "a"}, "card.facts must be a dictionary, not str."),
        ({"inputs": "s3://a"}, "card.inputs must be a list of URIs, not 's3://a'."),
        ({"inputs": b"s3://a"}, "card.inputs must be a list of URIs, not b's3://a'."),
        ({"inputs": {"s3://a"}}, "card.inputs must be a list of URIs, not {'s3://a'}."),
    ],
)
def test_a_field_of_a_wrong_type_is_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(XetInputError) as caught:
        Card(**wrong).check()  # type: ignore[arg-type]
    assert str(caught.value) == why


def test_a_card_of_the_right_types_is_accepted() -> None:
    Card().check()
    Card("x" * 1_000_000, {"license": "mit"}, ["s3://a"], {"Run": "1"}).check()
    with pytest.raises(XetInputError, match=r"card\.text contains a NUL character"):
        Card("a\0").check()


def test_fields_are_set_and_everything_else_stays_as_it_is() -> None:
    changed = with_data(FRONT, {"tags": ["three"], "license": "apache-2.0", "size_categories": ["1K<n<10K"]})
    assert changed == FRONT.replace("license: mit  # for now", "license: apache-2.0").replace(
        "- one\n- two", "- three"
    ).replace('pretty_name: "A: B"\n', 'pretty_name: "A: B"\nsize_categories:\n- 1K<n<10K\n')
    assert with_data(changed, {"license": "apache-2.0", "language": ["en"]}) == changed
    windows = FRONT.replace("\n", "\r\n")
    assert with_data(windows, {"tags": ["x", "y"]}) == windows.replace("- one\r\n- two", "- x\r\n- y")
    assert with_data(windows, {"new": 1}) == windows.replace('"A: B"\r\n', '"A: B"\r\nnew: 1\r\n')
    assert with_data("---\nlicense: mit\n  \n---\n", {"new": 1}) == "---\nlicense: mit\nnew: 1\n---\n"
    assert with_data("---\n\n---\nText.\n", {"new": 1}) == "---\nnew: 1\n---\nText.\n"


def test_a_field_that_the_front_matter_has_twice_gets_one_value() -> None:
    """The last one counts."""
    twice = "---\nlicense: a\nlicense: b\n---\n"
    assert with_data(twice, {"license": "mit"}) == "---\nlicense: mit\nlicense: mit\n---\n"


@pytest.mark.parametrize(("text", "expected"), [("", ""), ("# Title\n", "\n# Title\n"), ("\n\n# T\n\n", "\n# T\n")])
def test_a_card_without_front_matter_gets_one(text: str, expected: str) -> None:
    assert with_data(text, {"license": "mit"}) == f"---\nlicense: mit\n---\n{expected}"


def test_front_matter_that_cannot_be_read_is_refused() -> None:
    for text, why in (
        ("---\na: [1\n---\n", "while parsing a flow sequence in"),
        ("---\n- a\n---\n", "should be a dict"),
        ("---\nlicense: [a\n  b: c\n---\n", "while parsing a flow sequence in"),
    ):
        with pytest.raises(XetInputError) as caught:
            with_data(text, {"license": "mit"})
        assert str(caught.value).startswith("The front matter of README.md, or card.data, is not valid YAML: ")
        assert why in str(caught.value)
    with pytest.raises(XetInputError) as caught:
        with_data('---\n"license": mit\n---\n', {"license": "apache-2.0"})
    assert str(caught.value) == (
        "The field 'license' in the front matter of README.md cannot be replaced. Write it as license: …"
    )


def test_only_the_block_is_replaced_wherever_the_user_moved_it() -> None:
    first = with_block(FRONT, block([("Run", "1")]))
    assert first.startswith(FRONT.rstrip())
    assert first.count(BEGIN) == first.count(END) == 1
    moved = first.replace("# My corpus\n", "# Mine\n") + "\nMore text.\n\n"
    second = with_block(moved, block([("Run", "2")]))
    assert second == moved.replace("| Run | `1` |", "| Run | `2` |")
    assert skeleton(second) == skeleton(moved) != skeleton(first)


def test_a_block_without_its_end_is_text_of_the_user() -> None:
    broken = with_block("# Mine\n", block([("Run", "1")])).replace(END, "Important text.")
    first = with_block(broken, block([("Run", "2")]))
    assert with_block(first, block([("Run", "3")])) == first.replace("`2`", "`3`")
    assert first.startswith(broken.rstrip())


def test_no_value_leaves_its_cell_or_the_block() -> None:
    made = block([("a|b", f"x | y\n{END}\n`z` <!-- xethub begin -->")])
    assert made.count("-->") == 2
    assert made.splitlines()[4].count("|") == 3
    assert len(block([("Input", "x" * 10_000)] * 1000)) < 50_000


@given(st.text(), st.text(), st.text())
def test_a_skeleton_does_not_depend_on_the_block(text: str, one: str, other: str) -> None:
    first = with_block(text, block([("Run", one)]))
    second = with_block(first, block([("Run", other), (other, one)]))
    assert skeleton(text) == skeleton(first) == skeleton(second)
    assert with_block(second, block([("Run", one)])) == first
