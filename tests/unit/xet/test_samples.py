"""The first bytes of uploaded files: sealed in XCom, and in clear where the Hub decides how to store the files."""

from __future__ import annotations

import base64

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.xet import samples

KEY, OTHER = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())


def record(sample: bytes, **changes: object) -> dict:
    encoded = base64.b64encode(sample).decode()
    return {
        "path": "a",
        "size": 1,
        "sha256": None,
        "xet_hash": None,
        "repo": "hf://a/b@main",
        "sample": encoded,
        **changes,
    }


def sample_of(file: dict) -> bytes:
    return base64.b64decode(file["sample"])


@given(st.binary(max_size=512) | st.text(max_size=400).map(str.encode))
def test_a_sealed_sample_comes_back_and_shows_nothing_but_its_kind(sample):
    [sealed] = samples.seal([record(sample)], KEY)
    assert samples.unseal([sealed], [OTHER, KEY]) == [record(sample)]
    assert sample_of(sealed) in (b"", b"text\n", b"\0")
    [kind] = samples.seal([record(sample)], None)
    assert samples.unseal([kind], [KEY]) == [kind]
    assert kind == {name: value for name, value in sealed.items() if name != "sealed_sample"}


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (b"", b""),
        (b"a,b\n", b"text\n"),
        ("größe".encode(), b"text\n"),
        ("ß".encode()[:1], b"text\n"),  # cut off inside a character
        (b"a\0b", b"\0"),
        (b"\xff\xfea\0", b"\0"),
        (b"\x89PNG", b"\0"),
    ],
)
def test_without_a_key_the_kind_of_content_remains(sample, kind):
    [sealed] = samples.seal([record(sample)], None)
    assert sample_of(sealed) == kind
    assert "sealed_sample" not in sealed


@pytest.mark.parametrize(
    "sealed",
    ["", "x", "ÿ", KEY.encrypt(b"{}").decode(), OTHER.encrypt(b"xethub sample\nx").decode(), 5],
    ids=["empty", "text", "not ASCII", "something else", "another key", "number"],
)
def test_what_does_not_open_is_left_out(sealed):
    assert samples.unseal([record(b"text\n", sealed_sample=sealed)], [KEY]) == [record(b"text\n")]
