"""Xet tokens on their way through XCom."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace

import pendulum
import pytest
from cryptography.fernet import Fernet, MultiFernet
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetInputError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedToken, XetToken

pytestmark = pytest.mark.airflow

EXP = 1_800_000_900
NOW = EXP - 900
SECRET = "xet_0123456789abcdefghijklmnopqrstuvwxyz"
KEY, OTHER_KEY = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())

TOKENS = st.builds(
    XetToken,
    st.sampled_from([Repo("acme/m"), Repo("acme/c", "dataset", "refs/pr/1"), Repo("acme/b", "bucket")]),
    st.sampled_from(["read", "write"]),
    st.sampled_from(["https://cas.example", "http://127.0.0.1:1/cas"]),
    st.integers(NOW + 1, 253_402_300_799).map(pendulum.from_timestamp),
    st.none() | st.text(max_size=10),
    st.floats(-1000, 1000),
    access_token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=20, max_size=200),
)


def token(scope="write", **fields) -> XetToken:
    values = {
        "repo": Repo("acme/corpus", "dataset"),
        "cas_url": "https://cas.example",
        "expires_at": pendulum.from_timestamp(EXP),
        "conn_id": "xethub_default",
        "access_token": SECRET,
    }
    return XetToken(scope=scope, **{**values, **fields})


def xcom(fernet=KEY, **changes) -> dict:
    return {**SealedToken.seal(token(), fernet).to_xcom(), **changes}


def opened(value, *fernets, now=NOW) -> XetToken:
    return SealedToken.from_xcom(value).open(fernets or [KEY], now=now)


@given(TOKENS)
def test_a_token_survives_xcom_and_json(original):
    value = json.loads(json.dumps(SealedToken.seal(original, KEY).to_xcom()))
    restored = opened(value)
    assert restored.access_token == original.access_token
    assert (restored.repo, restored.scope, restored.cas_url) == (original.repo, original.scope, original.cas_url)
    assert (restored.expires_at, restored.conn_id) == (original.expires_at, original.conn_id)
    assert SealedToken.from_xcom(value).to_xcom() == value


def test_an_expiry_in_another_time_zone_is_written_in_utc():
    moment = pendulum.from_timestamp(EXP).in_timezone("Asia/Tokyo")
    with pendulum.test_local_timezone(pendulum.timezone("America/New_York")):
        assert SealedToken.seal(token(expires_at=moment), KEY).to_xcom()["expires_at"] == "2027-01-15T08:15:00Z"


def test_the_skew_of_one_workers_clock_does_not_travel_to_another():
    assert opened(SealedToken.seal(token(skew=300.0), KEY).to_xcom()).skew == 0.0


def test_the_value_has_the_documented_shape():
    value = xcom()
    assert value.pop("sealed").startswith("gAAAA")
    assert value == {
        "xet_token": 1,
        "scope": "write",
        "repo": "hf://datasets/acme/corpus@main",
        "cas_url": "https://cas.example",
        "expires_at": "2027-01-15T08:15:00Z",
        "conn_id": "xethub_default",
    }


def test_the_expiry_is_written_in_utc_whatever_its_zone():
    local = token().expires_at.in_timezone("Asia/Tokyo")
    sealed = SealedToken.seal(
        XetToken(Repo("acme/m"), "read", "https://cas.example", local, access_token=SECRET), KEY
    ).to_xcom()
    assert sealed["expires_at"] == "2027-01-15T08:15:00Z"


@given(TOKENS, st.booleans())
def test_a_sealed_token_never_shows_itself(original, has_key):
    sealed = SealedToken.seal(original, KEY if has_key else None)
    assert original.access_token not in f"{sealed!r} {sealed} {json.dumps(sealed.to_xcom())}"


def test_without_a_key_the_value_carries_no_token():
    value = xcom(fernet=None)
    assert value["sealed"] is None
    assert SECRET not in json.dumps(value)
    with pytest.raises(XetTokenSealError, match=r"^No Fernet key where the token was fetched, or it was edited$"):
        opened(value)


def test_another_key_does_not_open_it():
    with pytest.raises(XetTokenSealError, match=r"^Another Fernet key sealed the token, or it is broken$"):
        opened(xcom(), OTHER_KEY)


def test_a_worker_without_a_key_cannot_open_it():
    with pytest.raises(XetTokenSealError, match=r"^No Fernet key on this worker to open the token with$"):
        SealedToken.from_xcom(xcom()).open([], now=NOW)


def test_the_first_key_that_fits_opens_it():
    assert opened(xcom(), OTHER_KEY, KEY).access_token == SECRET


def test_a_rotated_key_still_opens_what_the_old_one_sealed():
    new = Fernet(Fernet.generate_key())
    rotated = MultiFernet([new, KEY])
    assert opened(xcom(), rotated).access_token == SECRET
    sealed_now = xcom(fernet=rotated)
    assert opened(sealed_now, new).access_token == SECRET
    with pytest.raises(XetTokenSealError):
        opened(sealed_now, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "read"},
        {"repo": "hf://datasets/acme/other@main"},
        {"repo": "hf://acme/corpus@main"},
        {"repo": "hf://datasets/acme/corpus@v2"},
        {"cas_url": "https://evil.example"},
        {"expires_at": "2030-01-15T08:15:00Z"},
        {"conn_id": "other"},
        {"conn_id": None},
        {"conn_id": None, "scope": "read"},
    ],
    ids=str,
)
def test_a_changed_clear_field_keeps_it_shut_and_is_named(change):
    for now in (NOW, EXP + 1):
        with pytest.raises(
            XetTokenTamperedError, match=r"\. It is refused; find out who writes to that XCom"
        ) as caught:
            opened(xcom(**change), now=now)
        assert f"was changed after it was sealed ({', '.join(sorted(change, reverse=True))})." in str(caught.value)


def test_what_else_the_key_encrypts_is_not_shown():
    """With Airflow's own key these may be variables and connections."""
    for secret in ({"password": "swordfish"}, {**xcom(), "password": "swordfish"}):
        value = xcom(sealed=KEY.encrypt(json.dumps(secret).encode()).decode())
        with pytest.raises(XetTokenTamperedError) as caught:
            opened(value)
        assert "swordfish" not in "".join(traceback.format_exception(caught.value))
        assert "password" not in str(caught.value)


def test_the_seal_of_another_token_confirms_nothing():
    other = SealedToken.seal(replace(token(), repo=Repo("acme/other", "dataset")), KEY).to_xcom()
    with pytest.raises(XetTokenTamperedError, match=r"sealed \(repo\)"):
        opened(xcom(sealed=other["sealed"]))


def test_a_later_expiry_does_not_bring_an_expired_token_back():
    with pytest.raises(XetTokenTamperedError):
        opened(xcom(expires_at="2030-01-15T08:15:00Z"), now=EXP + 1)


SEALED = xcom()  # once, because Fernet seals differently every time


@given(st.data())
def test_a_changed_ciphertext_keeps_it_shut(data):
    value = SEALED
    sealed = value["sealed"]
    at = data.draw(st.integers(0, len(sealed) - 5))  # the last ones are padding
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=f"+/{sealed[at]}"))
    with pytest.raises(XetTokenSealError, match=r"^Another Fernet key sealed the token, or it is broken$"):
        opened({**value, "sealed": sealed[:at] + other + sealed[at + 1 :]})


@pytest.mark.parametrize(
    "payload",
    [b"", b"text", b"[]", b"[1]", b"5", b"null", json.dumps({"access_token": SECRET}).encode()],
)
def test_what_the_key_opens_must_still_be_a_token(payload):
    with pytest.raises(XetTokenSealError) as caught:
        opened(xcom(sealed=KEY.encrypt(payload).decode()))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("access_token", [None, "", 5])
def test_a_sealed_value_without_a_token_in_it_is_refused(access_token):
    clear = {key: value for key, value in xcom().items() if key != "sealed"}
    payload = json.dumps({**clear, "access_token": access_token}).encode()
    with pytest.raises(XetTokenTamperedError) as caught:
        opened(xcom(sealed=KEY.encrypt(payload).decode()))
    assert str(caught.value) == (
        "the XCom value of the token was changed after it was sealed. It is refused; find out who writes to that XCom, "
        "then fetch a new token."
    )


@pytest.mark.parametrize(("now", "released"), [(EXP - 1, SECRET), (EXP, ""), (EXP + 1, "")])
def test_after_its_expiry_it_confirms_what_it_says_and_releases_no_access_token(now, released):
    confirmed = opened(xcom(), now=now)
    assert confirmed.access_token == released
    assert confirmed == token()
    assert not confirmed.is_fresh(now=now)


# --- a token that does not open here: what it says is only compared


def claims(**changes) -> SealedToken:
    return SealedToken.from_xcom(xcom(fernet=None, **changes))


def test_claims_that_are_what_the_task_names_pass():
    claims().check_claims("write", token().repo)
    claims().check_claims("read", token().repo)


@pytest.mark.parametrize("other", [Repo("acme/other", "dataset"), Repo("acme/corpus"), token().repo.at("v2")], ids=str)
def test_claims_of_another_repository_or_revision_are_refused_by_name(other):
    with pytest.raises(XetTokenTamperedError) as caught:
        claims(repo=other.uri).check_claims("read", token().repo)
    assert str(caught.value) == (
        f"the token says it is for {other}, but this task names {token().repo}, and no seal confirms the token. It is "
        "refused. Give this task the repo_id, repo_type and revision of its token task; if they are the same, find out "
        "who writes to that XCom."
    )


def test_a_claim_of_a_read_token_never_uploads():
    with pytest.raises(XetTokenScopeError, match="a read token for hf://datasets/acme/corpus@main cannot upload"):
        claims(scope="read").check_claims("write", token().repo)


@pytest.mark.parametrize("value", [None, "gAAAA", 5, [], {}, {"sealed": "gAAAA"}])
def test_what_is_no_token_at_all_is_named_by_its_kind(value):
    kind = type(value).__name__
    with pytest.raises(XetInputError, match=f"not the output of a XetTokenOperator but {kind}. Pass token=<task>.outp"):
        SealedToken.from_xcom(value)


def test_a_value_of_another_version_is_refused():
    with pytest.raises(XetInputError, match=r"another version of the provider. Fetch it again"):
        SealedToken.from_xcom(xcom(xet_token=2))


def test_an_extra_key_is_refused():
    with pytest.raises(XetTokenTamperedError, match="is damaged: it is not what XetTokenOperator wrote"):
        SealedToken.from_xcom(xcom(access_token=SECRET))


@pytest.mark.parametrize("name", ["scope", "repo", "cas_url", "expires_at", "conn_id", "sealed"])
def test_a_missing_key_is_refused(name):
    with pytest.raises(XetTokenTamperedError, match="is damaged: it is not what XetTokenOperator wrote"):
        SealedToken.from_xcom({key: value for key, value in xcom().items() if key != name})


@pytest.mark.parametrize(
    ("name", "length"), [("conn_id", 4_000), ("cas_url", 64_000), ("sealed", 256_000)], ids=["id", "URL", "sealed"]
)
def test_a_field_may_have_the_longest_length(name, length):
    value = xcom(**{name: "x" * length})
    assert SealedToken.from_xcom(value).to_xcom() == value


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "admin"},
        {"scope": ["read"]},
        {"repo": None},
        {"repo": "acme/corpus"},
        {"repo": "hf://datasets/../x@main"},
        {"cas_url": None},
        {"expires_at": 5},
        {"expires_at": None},
        {"expires_at": ""},
        {"expires_at": "2027-01-15"},
        {"expires_at": "2027-02-30T00:00:00Z"},
        {"expires_at": "\u0662\u0660\u0662\u0667-01-15T08:15:00Z"},
        {"repo": "hf://acme/" + "x" * 4_000},
        {"conn_id": 5},
        {"conn_id": ["x"]},
        {"conn_id": "x" * 4_001},
        {"cas_url": ["x"]},
        {"cas_url": "x" * 64_001},
        {"sealed": 5},
        {"sealed": ["x"]},
        {"sealed": "x" * 256_001},
    ],
    # mutmut selects tests by their ids, and pytest does not find one with an escaped character.
    ids=lambda change: str(change)[:40].encode("ascii", "replace").decode(),
)
def test_a_damaged_field_is_refused_before_anything_is_opened(change):
    with pytest.raises(XetTokenTamperedError, match="is damaged: it is not what XetTokenOperator wrote"):
        SealedToken.from_xcom(xcom(**change))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def refused(error: XetHubError) -> None:
    """Check an error: it is short, and neither it nor what it was raised from has the access token."""
    assert SECRET not in "".join(traceback.format_exception(error))
    assert len(str(error)) < 10_000


@given(JSON)
def test_arbitrary_json_is_refused_as_one_of_our_errors(junk):
    with pytest.raises((XetInputError, XetTokenTamperedError)) as caught:
        SealedToken.from_xcom(junk)
    refused(caught.value)


EXPIRED = SealedToken.seal(token(expires_at=pendulum.from_timestamp(NOW - 1)), KEY).to_xcom()
OTHER = SealedToken.seal(token("read", repo=Repo("acme/other"), conn_id=None), KEY).to_xcom()
ELSEWHERE = xcom(fernet=OTHER_KEY)
GENUINE = [SEALED, EXPIRED, OTHER]
FIELDS = sorted(SEALED)
EDITS = st.dictionaries(
    st.sampled_from(FIELDS),
    st.sampled_from([value for each in (*GENUINE, ELSEWHERE) for value in each.values()])
    | st.sampled_from([None, "", "read", "admin", True, 1.0, "hf://acme/corpus", "https://evil.example", "\ud800"])
    | st.sampled_from([(SEALED["sealed"] or "")[:-9], "x" * 255_999, "hf://a/b@" + "x" * 5000, "9" * 5000])
    | JSON,
    max_size=4,
)


@given(st.sampled_from(GENUINE), EDITS, st.sets(st.sampled_from(FIELDS), max_size=1), st.booleans())
def test_an_edited_value_opens_as_what_was_sealed_or_not_at_all(genuine, edits, left_out, is_late):
    value = {name: each for name, each in {**genuine, **edits}.items() if name not in left_out}
    now = EXP + 1 if is_late else NOW
    try:
        result = SealedToken.from_xcom(value).open([KEY], now=now)
    except XetHubError as error:
        refused(error)
        return
    (sealed,) = [each for each in GENUINE if each["sealed"] == value["sealed"]]
    assert SealedToken.seal(result, None).to_xcom() == {**sealed, "sealed": None}
    assert result.access_token == (SECRET if result.seconds_left(now) > 0 else "")


@given(st.sampled_from(["scope", "repo", "cas_url", "expires_at", "conn_id", "sealed"]), JSON)
def test_whatever_stands_in_a_field_nothing_but_the_sealed_token_opens(name, junk):
    value = xcom()
    if value[name] == junk:
        return
    with pytest.raises(XetTokenSealError):
        opened({**value, name: junk})
