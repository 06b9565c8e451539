"""Which texts are ID tokens that may be sent, and what messages say about the others."""

from __future__ import annotations

import base64
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.identity import jwt

HUB = "https://huggingface.co"
NOW = 1_795_000_000.0
CLAIMS = {"iss": "https://issuer.example", "sub": "system:serviceaccount:ml:airflow", "aud": HUB, "exp": NOW + 600}


def encode(value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def token(claims=CLAIMS, header=None, signature="c2lnbmF0dXJl", **changes) -> str:
    payload = {**claims, **changes} if isinstance(claims, dict) else claims
    return f"{encode({'alg': 'RS256', 'typ': 'JWT'} if header is None else header)}.{encode(payload)}.{signature}"


def check(text, audience=HUB):
    return jwt.check(text, audience, "file /id", NOW)


def test_a_token_for_this_hub_is_accepted():
    accepted = check(f"  {token()}\n")
    assert (accepted.text, accepted.audience, accepted.expires_at) == (token(), HUB, NOW + 600)


def test_kubernetes_writes_the_audience_as_a_list():
    assert check(token(aud=[HUB])).audience == HUB


@pytest.mark.parametrize(
    "audience",
    [
        "https://evil.example",
        "https://huggingface.co/",
        "https://huggingface.co.evil.example",
        "http://huggingface.co",
        "HTTPS://HUGGINGFACE.CO",
        "sts.amazonaws.com",
        "",
        [],
        [HUB, "https://evil.example"],
        ["https://evil.example", HUB],
        [HUB, HUB],
    ],
)
def test_a_token_for_another_audience_is_not_sent(audience):
    with pytest.raises(
        XetIdentityError, match=r"^The ID token of file /id is for .*, not for https://huggingface\.co: not"
    ):
        check(token(aud=audience))


def test_a_token_for_several_audiences_is_refused_with_the_reason():
    with pytest.raises(XetIdentityError, match="each could use it at the others"):
        check(token(aud=[HUB, "https://other.example"]))


@pytest.mark.parametrize(
    "text",
    [
        "hf_abcdefghijklmnopqrstuvwxyz012345",
        "a.b.c",
        "a.b",
        token() + ".x",
        token().rpartition(".")[0] + ".",
        token().replace(".", " . "),
        token(header={"alg": "none"}),
        token(header={"alg": "None"}),
        token(header={}),
        token(header=["RS256"]),
        token(claims="[1]"),
        token(claims="nothing"),
        token(claims="[" * 100_0),
        token(claims=json.dumps(CLAIMS)[:-1] + ', "aud": "https://evil.example"}'),
        token(claims=json.dumps(CLAIMS)[:-1] + ', "x": NaN}'),
        token(iss=""),
        token(sub=None),
        token(aud=None),
        token(aud={HUB: 1}),
        token(aud=[HUB, 1]),
        token(exp="soon"),
        token(exp=True),
        token(exp=10**400),
        token(exp=1e300),
        token(exp=-1),
        "ä" + token(),
    ],
)
def test_what_is_no_id_token_is_not_sent_and_not_shown(text):
    with pytest.raises(XetIdentityError, match=r"^Identity file /id has no ID token: it is not a signed JWT") as error:
        check(text)
    assert text not in str(error.value)


@pytest.mark.parametrize("text", ["", " \n", None, b"x"])
def test_an_empty_token_is_named_as_such(text):
    with pytest.raises(XetIdentityError, match=r"^Identity file /id has no ID token: it is empty\. Check what"):
        check(text)


def test_a_huge_token_is_refused():
    with pytest.raises(XetIdentityError, match=r"it is longer than 16 KiB\. Nothing was sent"):
        check(token(more="x" * 20_000))


def test_an_expired_token_says_since_when_and_who_renews_it():
    with pytest.raises(
        XetIdentityError,
        match=r"^The ID token of file /id expired 2\.0 h ago \(2026-11-18T09:06:40Z\): not sent\. What writes",
    ):
        check(token(exp=NOW - 7200))
    with pytest.raises(XetIdentityError, match="expired 0 s ago"):
        check(token(exp=NOW))


def test_messages_describe_what_a_publisher_can_require():
    described = check(token(exp=NOW + 1, jti="one-time", namespace="ml", admin=True, nested={"a": 1})).described
    assert described == (
        "issuer 'https://issuer.example', subject 'system:serviceaccount:ml:airflow', other claims: admin=True, "
        "namespace='ml'"
    )


def test_claims_cannot_forge_lines_or_fill_a_log():
    claims = {f"claim{number:02}": "x" * 1000 for number in range(40)}
    described = check(token(sub="a\nForged: line", long="x" * 1000, **{"bad\nname": 1})).described
    assert "\n" not in described
    many = check(token(**{name: value[:200] for name, value in claims.items()})).described
    assert "and 24 more" in many
    assert len(many) < 4000


def test_neither_repr_nor_pickle_has_the_token():
    accepted = check(token())
    assert token() not in repr(accepted)
    assert "serviceaccount" not in repr(accepted)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(accepted)


@given(st.text(max_size=200) | st.text(alphabet="eyJ.-_A0=", max_size=200))
def test_any_text_is_refused_with_one_kind_of_error_that_does_not_show_it(text):
    with pytest.raises(XetIdentityError) as error:
        check(text)
    assert len(text) < 20 or text not in str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    )
)
def test_any_claim_may_have_any_value(value):
    for name in CLAIMS:
        try:
            check(token(**{name: value})).described  # noqa: B018
        except XetIdentityError:
            continue
