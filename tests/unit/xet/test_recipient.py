"""What counts as a public key, and what only the holder of the private key can read."""

from __future__ import annotations

import base64
import json

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import recipient
from airflow_provider_xethub.xet.token import SealedToken
from xethub_token.recipient import TYPE, RecipientKey

_KEY = RecipientKey.generate()
_DOCUMENT = {
    "version": 1,
    "repo": "hf://datasets/acme/corpus@main",
    "scope": "read",
    "cas_url": "https://cas.example",
    "access_token": "secret-of-cas",
    "expires_at": "2099-01-01T00:00:00Z",
}


def _sealed(document=_DOCUMENT):
    return recipient.seal(json.dumps(document).encode(), _KEY.public)


def _text(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_key_is_accepted_in_every_form_that_an_xcom_or_a_template_gives_it():
    for given in (
        _KEY.public,
        {**_KEY.public, "kid": "any", "use": "enc"},
        json.dumps(_KEY.public),
        f" {json.dumps(_KEY.public)}\n",
        _KEY.public["x"],
        _KEY.public["x"] + "=",
    ):
        assert recipient.public_key(given) == _KEY.public


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "recipient is empty"),
        ("  ", "recipient is empty"),
        ("None", "32 bytes in base64url"),
        (_text(b"\7" * 31), "32 bytes in base64url"),
        (_text(b"\7" * 33), "32 bytes in base64url"),
        ("A" * 3000, "more than 2000 characters"),
        (str(_KEY.public), "add | tojson to the template"),
        (None, "not NoneType"),
        (b"key", "not bytes"),
        ([_KEY.public], "not list"),
        ({}, "not a key on X25519"),
        ({**_KEY.public, "crv": "Ed25519"}, "not a key on X25519"),
        ({"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}, "not a key on X25519"),
        ({**_KEY.public, "x": 7}, "32 bytes in base64url"),
    ],
    ids=map(str, range(14)),  # the key differs between processes
)
def test_anything_else_is_refused_by_what_it_is(given, message):
    with pytest.raises(XetInputError, match=message.replace("|", r"\|")):
        recipient.public_key(given)


def test_a_private_key_is_refused_and_not_repeated():
    private = {**_KEY.public, "d": _text(b"\x11" * 32)}
    for given in (private, json.dumps(private)):
        with pytest.raises(XetInputError, match="contains a private key") as caught:
            recipient.public_key(given)
        assert private["d"] not in str(caught.value)


@pytest.mark.parametrize(
    "point",
    [
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_a_key_with_which_anyone_could_open_the_token_is_refused(point):
    with pytest.raises(XetInputError, match="point of small order"):
        recipient.seal(b"{}", _text(bytes.fromhex(point)))


def test_the_header_has_no_secret_and_no_two_values_are_alike():
    one, other = _sealed(), _sealed()
    header = json.loads(base64.urlsafe_b64decode(one.partition(".")[0] + "=="))
    assert set(header) == {"alg", "enc", "typ", "cty", "kid", "epk"}
    assert (header["alg"], header["enc"], header["typ"]) == ("ECDH-ES", "A256GCM", TYPE)
    assert set(header["epk"]) == {"kty", "crv", "x"}
    assert header["kid"] == _KEY.id == recipient.thumbprint(_KEY.public)
    assert recipient.TYPE == TYPE
    assert one != other
    assert "secret-of-cas" not in one


def test_the_longest_token_is_sealed_and_opened():
    document = {**_DOCUMENT, "access_token": "t" * 64_000, "cas_url": "https://" + "c" * 63_992}
    assert _KEY.open(_sealed(document)) == document
    with pytest.raises(XetInputError, match="more than a recipient would open"):
        recipient.seal(b"x" * 200_000, _KEY.public)


def test_a_task_that_is_given_such_a_token_says_what_it_is():
    with pytest.raises(XetInputError) as caught:
        SealedToken.from_xcom(_sealed())
    assert str(caught.value) == (
        "token is sealed to a recipient: only the process that made the key opens it, with xethub-token. Give this "
        "task the output of a XetTokenOperator without recipient."
    )
    for other in ("a.b.c.d.e", "", "eyJhbGciOiJub25lIn0.....", None, {}):
        assert not recipient.is_sealed(other)
