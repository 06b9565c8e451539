"""What others say is not believed: the one door for texts, numbers and identifiers, and what users give as messages."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers, arguments
from airflow_provider_xethub.xet.answers import WrongAnswerError
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo

URI = "hf://datasets/acme/corpus@main"
ENTRY = {"type": "file", "path": "a.bin", "size": 5, "xetHash": "1" * 64, "lfs": {"oid": "2" * 64, "size": 5}}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        *((text, "not JSON in UTF-8") for text in ("", "NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[-1e400]")),
        *(
            (text, "not JSON in UTF-8")
            for text in ("9" * 100, "9" * 100_000, '"\\ud8', b'"\xed\xa0\x80"', b"\xff\xfe1\0")
        ),
        ("[" * 500_000, "nested too deeply"),
        ('{"a":' * 500_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused(body, says):
    with pytest.raises(WrongAnswerError, match=says):
        answers.parse(body)


@pytest.mark.parametrize("body", ['{"a": [1.5, -2, 1e300, "\\u00e9", null]}', "{}", '"\U0001f600"'])
def test_json_is_read(body):
    assert answers.parse(body) == answers.parse(body.encode()) == json.loads(body)


@pytest.mark.parametrize(
    ("given", "title", "text"),
    [
        ("plain é \U0001f600", "plain é \U0001f600", "plain é \U0001f600"),
        ("cut \ud83d", "cut \ufffd", "cut \ufffd"),
        ("a\0b\x1b[31m\x9f", "a\ufffdb\ufffd[31m\ufffd", "a\ufffdb\ufffd[31m\ufffd"),
        ("one\r\ntwo\tthree", "one two three", "one\r\ntwo\tthree"),
        *((value, "", "") for value in ("", None, 5, True, ["x"], {"a": 1}, float("inf"), b"x")),
    ],
)
def test_texts_that_people_read_are_made_fit_to_store(given, title, text):
    assert (answers.title(given), answers.text(given)) == (title, text)
    assert answers.is_storable([answers.title(given), answers.text(given)])


def test_long_texts_are_cut():
    assert answers.title("x" * 5000) == "x" * (answers.MAX_TITLE - 1) + "…"
    assert answers.text("x" * answers.MAX_TEXT) == "x" * answers.MAX_TEXT
    assert len(answers.text("x" * 10**6)) == answers.MAX_TEXT


@pytest.mark.parametrize(
    "change",
    [
        *({"path": path} for path in (None, 5, "", ["a"], "\ud800", "a\0b", "a" * 4097, "\xe9" * 2049)),
        *({"size": size} for size in (None, -1, 2**63, 10**300, 1.5, float("nan"), True, "5", [])),
        *(
            {"xetHash": text}
            for text in (5, True, "", "11", "../x", "z" * 64, "A" * 64, "\uff11" * 64, "1" * 65, "1" * 64 + "\n")
        ),
        *({"lfs": lfs} for lfs in (5, "x", [], {}, {"oid": None}, {"oid": 5}, {"oid": "2" * 40})),
        *({"lfs": None, "oid": oid} for oid in (5, {}, "", "x", "1" * 41)),
    ],
)
def test_what_identifies_a_file_is_refused_instead_of_mended(change):
    with pytest.raises(WrongAnswerError) as caught:
        answers.file_record({**ENTRY, **change}, URI)
    assert len(str(caught.value)) < 80


def test_a_file_is_read_as_it_is_described():
    whole = {"path": "a.bin", "size": 5, "sha256": "2" * 64, "xet_hash": "1" * 64, "repo": URI}
    assert answers.file_record(ENTRY, URI) == whole
    inline = {**ENTRY, "lfs": None, "xetHash": None, "oid": "3" * 40, "path": "é\n", "size": 2**63 - 1}
    assert answers.file_record(inline, URI) == {
        "path": "é\n",
        "size": 2**63 - 1,
        "sha256": None,
        "xet_hash": None,
        "repo": URI,
        "blob_id": "3" * 40,
    }


@pytest.mark.parametrize(
    ("value", "is_storable"),
    [
        ({"a": ["é\U0001f600", 1, None, "\\u0000", "\\\\u0000"]}, True),
        *(
            (value, False)
            for value in ("\0", ["\\\0"], {"\0": 1}, "\ud83d", float("nan"), {"a": float("inf")}, b"", {1, 2})
        ),
    ],
)
def test_what_every_database_can_store(value, is_storable):
    assert answers.is_storable(value) is is_storable


@given(anything)
def test_arbitrary_values_are_read_or_refused(value):
    for read in (
        lambda: answers.file_record(answers.mapping(value, "x"), URI),
        lambda: answers.file_record({**ENTRY, "path": value}, URI),
        lambda: answers.discussion_number(value),
        lambda: answers.moment(value),
        lambda: answers.commit_id(value),
        lambda: answers.kind(value),
    ):
        with suppress(WrongAnswerError):
            assert answers.is_storable(found := read()) or found.year
    assert answers.is_storable(answers.text(value))
    answers.is_storable(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\0b", "contains a NUL character at position 1"),
        ("cut \ud83d", r"contains '\\ud83d', half of a surrogate pair"),
        (5, "int"),
    ],
)
@pytest.mark.parametrize("field", ["message", "description"])
def test_a_message_that_cannot_be_stored_is_refused(text, says, field):
    request = CommitRequest(Repo("acme/corpus"), [], delete=["a"], **{field: text})
    with pytest.raises(XetInputError, match=f"commit_{field} for hf://acme/corpus@main .*{says}") as caught:
        request.check()
    assert str(caught.value).isprintable()


def test_a_message_of_a_megabyte_is_refused():
    with pytest.raises(XetInputError, match="has 1,000,000 characters; at most 10,000 are allowed"):
        CommitRequest(Repo("acme/corpus"), [], delete=["a"], message="x" * 10**6).check()


@pytest.mark.parametrize("pattern", ["a\0*", "\ud800*"])
def test_a_pattern_that_cannot_be_stored_is_refused(pattern):
    with pytest.raises(XetInputError, match="patterns contains"):
        arguments.selection("patterns", [pattern])
