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


def test_fields_are_set_and_everything_else_stays_as_it_is() -> None:
    changed = with_data(FRONT, {"tags": ["three"], "license": "apache-2.0", "size_categories": ["1K<n<10K"]})
    assert changed == FRONT.replace("license: mit  # for now", "license: apache-2.0").replace(
        "- one\n- two", "- three"
    ).replace('pretty_name: "A: B"\n', 'pretty_name: "A: B"\nsize_categories:\n- 1K<n<10K\n')
    assert with_data(changed, {"license": "apache-2.0", "language": ["en"]}) == changed
    assert with_data(FRONT.replace("\n", "\r\n"), {"tags": ["x"]}).count("\n") == FRONT.count("\n") - 1


@pytest.mark.parametrize(("text", "expected"), [("", ""), ("# Title\n", "\n# Title\n"), ("\n\n# T\n\n", "\n# T\n")])
def test_a_card_without_front_matter_gets_one(text: str, expected: str) -> None:
    assert with_data(text, {"license": "mit"}) == f"---\nlicense: mit\n---\n{expected}"


def test_front_matter_that_cannot_be_read_is_refused() -> None:
    for text in ("---\na: [1\n---\n", "---\n- a\n---\n", "---\nlicense: [a\n  b: c\n---\n"):
        with pytest.raises(XetInputError, match="front matter"):
            with_data(text, {"license": "mit"})
    with pytest.raises(XetInputError, match=r"front matter of README\.md cannot be replaced"):
        with_data('---\n"license": mit\n---\n', {"license": "apache-2.0"})


def test_only_the_block_is_replaced_wherever_the_user_moved_it() -> None:
    first = with_block(FRONT, block([("Run", "1")]))
    assert first.startswith(FRONT.rstrip())
    assert first.count(BEGIN) == first.count(END) == 1
    moved = first.replace("# My corpus\n", "# Mine\n") + "\nMore text.\n\n"
    second = with_block(moved, block([("Run", "2")]))
    assert second == moved.replace("| Run | `1` |", "| Run | `2` |")
    assert skeleton(second) == skeleton(moved) != skeleton(first)


@given(st.text(), st.text(), st.text())
def test_a_skeleton_does_not_depend_on_the_block(text: str, one: str, other: str) -> None:
    first = with_block(text, block([("Run", one)]))
    second = with_block(first, block([("Run", other), (other, one)]))
    assert skeleton(text) == skeleton(first) == skeleton(second)
    assert with_block(second, block([("Run", one)])) == first


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


def test_a_card_of_wrong_types_is_refused() -> None:
    for wrong in ({"text": 1}, {"data": ["a"]}, {"inputs": "s3://a"}, {"facts": "a"}, {"text": "a\0"}):
        with pytest.raises(XetInputError, match=r"card\."):
            Card(**wrong).check()  # type: ignore[arg-type]
