"""Taking a token from the Hub's answer, and what it may be used for. Sealing: test_token_sealed.py."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import string
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError, XetTokenFormatError, XetTokenScopeError
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import MAX_FIELD_CHARS, XetToken, check_cas_url, check_use, parse_answer

NOW = 1_800_000_000.0
EXP = 1_800_000_900
SECRET = "xet_0123456789abcdefghijklmnopqrstuvwxyz"
GOOD = {"accessToken": SECRET, "exp": EXP, "casUrl": "https://cas.example"}
HEADERS = {
    "accessToken": "X-Xet-Access-Token",
    "exp": "X-Xet-Token-Expiration",
    "casUrl": "X-Xet-Cas-Url",
}
REPO = Repo("acme/corpus", "dataset")

VISIBLE = string.digits + string.ascii_letters + string.punctuation
SECRETS = st.text(VISIBLE, min_size=20, max_size=200)
FIELDS = st.sampled_from(sorted(GOOD))


def parse(body=None, headers=None, *, endpoint="https://hub.example", scope="read") -> XetToken:
    text = body if isinstance(body, str) else json.dumps(GOOD if body is None else body)
    return parse_answer(
        REPO, scope, endpoint=endpoint, body=text, headers=headers or {}, received_at=NOW, conn_id="xethub_default"
    )


def in_headers(**fields) -> dict[str, str]:
    return {HEADERS[name]: str(value) for name, value in {**GOOD, **fields}.items()}


def refusal(*args, **kwargs) -> str:
    with pytest.raises(XetTokenFormatError) as caught:
        parse(*args, **kwargs)
    assert caught.value.__context__ is None, "a chained error may show the answer"
    assert not caught.value.retryable
    assert "read token request for hf://datasets/acme/corpus@main" in str(caught.value)
    return str(caught.value)


# --- the forms of an answer


@given(SECRETS, st.integers(int(NOW) + 1, 253_402_300_799), st.sampled_from(["body", "headers", "both", "mixed"]))
def test_an_answer_may_come_as_json_as_headers_or_both(secret, exp, form):
    body = {"accessToken": secret, "exp": exp, "casUrl": "https://cas.example/path/"}
    headers = {HEADERS[name].upper(): str(value) for name, value in body.items()}
    if form == "mixed":
        body.pop("exp")
        headers.pop("X-XET-CAS-URL")
    token = parse("" if form == "headers" else body, {} if form == "body" else headers)
    assert (token.access_token, token.expires_at.int_timestamp) == (secret, exp)
    assert token.expires_at.utcoffset().total_seconds() == 0
    assert (token.cas_url, token.repo, token.scope, token.skew) == ("https://cas.example/path", REPO, "read", 0.0)
    assert token.conn_id == "xethub_default"


@given(FIELDS, st.data())
def test_an_answer_that_contradicts_itself_is_refused_by_the_fields_name(name, data):
    # Neither the expiry plus something, nor a text without its digits or dots, can equal what the body says.
    other = data.draw(st.integers(EXP + 1, 10**12) if name == "exp" else st.text("abcdef:/", min_size=1))
    message = refusal(GOOD, in_headers(**{name: other}))
    assert f"contradicts itself in {name!r}. Check" in message
    assert f"The header {HEADERS[name]!r} differs." in message


@pytest.mark.parametrize("value", [EXP + 0.5, str(EXP), [EXP]])
def test_json_and_header_that_differ_in_kind_contradict_each_other(value):
    assert "contradicts itself in 'exp'" in refusal({**GOOD, "exp": value}, in_headers())


def test_a_float_that_equals_the_header_is_still_no_whole_number():
    assert "'exp' that is not a whole number" in refusal({**GOOD, "exp": float(EXP)}, in_headers())


@given(FIELDS, st.booleans())
def test_a_missing_field_is_named(name, is_null):
    body = {key: value for key, value in GOOD.items() if key != name} | ({name: None} if is_null else {})
    message = refusal(body)
    assert f"lacks the field {name!r}. Check that the connection's host is a Hub" in message
    assert f"The header {HEADERS[name]!r} is missing as well." in message


@pytest.mark.parametrize("body", ["", "null", "[]", '"text"', "<html>", "{", "[" * 100_000, '{"exp": ' + "9" * 5000])
def test_a_body_that_is_no_object_counts_as_no_fields(body):
    assert "lacks the field 'accessToken'" in refusal(body)
    assert parse(body, in_headers()).access_token == SECRET


def test_a_refusal_says_what_to_check_and_of_which_request_it_was():
    assert refusal("", in_headers(exp="soon")) == (
        "The Hub's token response has a header 'X-Xet-Token-Expiration' that is not whole Unix seconds. Check that the "
        "connection's host is a Hub with Xet storage, and that no proxy changes its responses. This was the response "
        "to the read token request for hf://datasets/acme/corpus@main."
    )


# --- types and sizes


@pytest.mark.parametrize("value", [True, False, 1.5, float(EXP), "soon", str(EXP), [EXP], {}])
def test_an_expiry_that_is_no_whole_number_is_refused(value):
    assert "'exp' that is not a whole number of Unix seconds" in refusal({**GOOD, "exp": value})


@pytest.mark.parametrize("value", ["", " 1", "1.5", "-5", "+5", "1e9", "٣", "true", "1" * 21])
def test_a_header_expiry_that_is_no_whole_number_is_refused(value):
    assert "header 'X-Xet-Token-Expiration' that is not whole Unix seconds" in refusal("", in_headers(exp=value))


@pytest.mark.parametrize("name", ["accessToken", "casUrl"])
@pytest.mark.parametrize("value", ["", 5, True, [], {}, ["x"]])
def test_a_text_that_is_none_is_refused(name, value):
    assert f"{name!r} that is not a non-empty string" in refusal({**GOOD, name: value})


def test_a_token_of_64000_characters_is_accepted_and_one_more_is_refused():
    assert len(parse({**GOOD, "accessToken": "x" * 64_000}).access_token) == MAX_FIELD_CHARS == 64_000
    assert "'accessToken' of more than 64000 characters" in refusal({**GOOD, "accessToken": "x" * 64_001})
    assert "'casUrl' of more than 64000 characters" in refusal({**GOOD, "casUrl": "https://h/" + "x" * 63_991})


@given(
    st.sampled_from(["accessToken", "casUrl"]),
    st.characters(max_codepoint=32) | st.characters(min_codepoint=127),
    st.integers(0, 10),
)
def test_a_control_blank_or_non_ascii_character_is_refused(name, char, at):
    value = GOOD[name][:at] + char + GOOD[name][at:]
    assert f"{name!r} with whitespace, a control or non-ASCII character" in refusal({**GOOD, name: value})


# --- time


def at(seconds: float) -> dict[str, str]:
    return {"Date": formatdate(seconds, usegmt=True)}


@pytest.mark.parametrize("exp", [int(NOW), int(NOW) - 1, 0, -1])
def test_an_expiry_in_the_past_is_refused(exp):
    assert "'exp' that lies in the past" in refusal({**GOOD, "exp": exp})


def test_whether_an_expiry_is_past_is_told_by_the_servers_clock():
    an_hour_ahead = at(NOW + 3600)
    assert "lies in the past" in refusal({**GOOD, "exp": int(NOW) + 1800}, an_hour_ahead)
    an_hour_behind = at(NOW - 3600)
    assert parse({**GOOD, "exp": int(NOW) - 1800}, an_hour_behind).seconds_left(NOW) == pytest.approx(1800, abs=1)


def test_an_expiry_in_milliseconds_is_refused():
    assert "'exp' that is not a time in Unix seconds" in refusal({**GOOD, "exp": EXP * 1000})
    assert "'exp' that is not a time in Unix seconds" in refusal("", in_headers(exp="1" * 20))
    assert parse({**GOOD, "exp": 253_402_300_799}).expires_at.year == 9999


@given(st.integers(-86_400, 86_400 * 365))
def test_the_local_expiry_is_the_servers_life_on_the_local_clock(skew):
    token = parse({**GOOD, "exp": EXP + skew}, at(NOW + skew))
    assert token.skew == pytest.approx(skew, abs=0.51)
    assert token.expires_at.int_timestamp == EXP + skew
    assert token.local_expiry == pytest.approx(EXP, abs=1)
    assert isinstance(token.local_expiry, int)


def test_the_skew_is_measured_from_the_middle_of_the_second_that_the_hub_names():
    assert parse(headers=at(NOW + 10)).skew == 10.5


@pytest.mark.parametrize("date", ["", "soon", "Fri, 99 Xyz 2027 99:99:99 GMT", "0", "\x00", "9" * 400])
def test_a_date_that_is_none_counts_as_no_skew(date):
    assert parse(headers={"date": date}).skew == 0.0


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 15 Jan 2027 08:00:00 GMT",
        "Fri Jan 15 08:00:00 2027",
        "Fri, 15 Jan 2027 08:00:00 -0000",
        "Fri, 15 Jan 2027 13:30:00 +0530",
    ],
)
def test_every_form_of_date_that_http_allows_is_in_utc_wherever_the_worker_is(date, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse(headers={"Date": date}).skew == pytest.approx(0, abs=0.51)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("left", "is_fresh"), [(31, True), (30, False), (29, False), (0, False), (-5, False)])
def test_fresh_means_more_than_30_seconds_left(left, is_fresh):
    token = parse()
    assert token.seconds_left(EXP - left) == left
    assert token.is_fresh(now=EXP - left) is is_fresh


def test_the_margin_of_freshness_can_be_set():
    assert parse().is_fresh(margin=5, now=EXP - 6)
    assert not parse().is_fresh(margin=300, now=EXP - 299)


def test_without_a_moment_given_the_local_clock_counts():
    assert parse().seconds_left() == pytest.approx(EXP - time.time(), abs=5)


# --- the CAS URL


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://cas.example", "https://hub.example"),
        ("https://cas.example:8443/a/b", "https://hub.example"),
        ("https://cas.example", "http://127.0.0.1:1"),
        ("http://127.0.0.1:1/cas", "http://127.0.0.1:1"),
        ("http://[::1]:1", "http://localhost"),
        ("https://cas.example/X", "https://hub.example"),
    ],
)
def test_a_cas_url_that_is_as_safe_as_the_hub_is_trusted(url, endpoint):
    assert check_cas_url(url, endpoint, "the answer") == url


@pytest.mark.parametrize("url", ["https://cas.example/", "https://cas.example//"])
def test_trailing_slashes_of_a_cas_url_are_removed(url):
    assert parse({**GOOD, "casUrl": url}).cas_url == "https://cas.example"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://cas.example", "scheme 'http'; only https is trusted for a Hub at https://hub.example"),
        ("file:///etc/passwd", "scheme 'file'; only https is trusted"),
        ("local:///tmp/cas", "scheme 'local'; only https is trusted"),
        ("ftp://cas.example", "scheme 'ftp'; only https is trusted"),
        ("a234567890123456789://cas.example", "scheme 'a234567890123456'; only https is trusted"),
        ("https://cas.example\\@evil.example", "has a backslash"),
        ("//cas.example", "scheme ''; only https is trusted"),
        ("cas.example", "scheme ''; only https is trusted"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://user@cas.example", "user, query or fragment part"),
        ("https://user:word@cas.example", "user, query or fragment part"),
        ("https://cas.example?x=1", "user, query or fragment part"),
        ("https://cas.example/?", "user, query or fragment part"),
        ("https://cas.example#x", "user, query or fragment part"),
        ("https://cas.example/#", "user, query or fragment part"),
        ("https://cas.example:port", "is not a URL"),
        ("https://cas.example:99999", "is not a URL"),
        ("https://[::1", "is not a URL"),
    ],
)
def test_any_other_cas_url_is_refused(url, why):
    assert re.search(rf"field 'casUrl' that .*{re.escape(why)}", refusal({**GOOD, "casUrl": url}))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "local:///tmp", "ftp://cas.example"])
def test_a_hub_in_plain_http_opens_the_way_for_plain_http_only(url):
    assert "only https is trusted" in refusal({**GOOD, "casUrl": url}, endpoint="http://127.0.0.1:1")


# --- secrecy


@given(SECRETS)
def test_a_token_never_shows_itself(secret):
    token = parse({**GOOD, "accessToken": secret})
    assert token.access_token == secret
    assert secret not in f"{token!r} {token}"


def test_a_token_is_neither_stored_in_plain_text_nor_pickled():
    token = parse()
    with pytest.raises(XetInputError) as caught:
        token.serialize()
    assert str(caught.value) == (
        "A Xet token must not be returned from a task in plain text. Return hook.seal_token(token)."
    )
    with pytest.raises(TypeError) as refused:
        pickle.dumps(token)
    assert str(refused.value) == "A Xet token cannot be pickled. Seal it with hook.seal_token(token)."


@pytest.mark.parametrize(("repo", "revision"), [(REPO.at("v1"), "v1"), (Repo("acme/corpus", "bucket"), None)])
@pytest.mark.parametrize("renewed", [True, False])
def test_a_document_has_what_a_process_without_airflow_needs(repo, revision, renewed):
    token = parse_answer(
        repo,
        "write",
        endpoint="https://hub.example",
        body=json.dumps(GOOD),
        headers=at(NOW - 3600),
        received_at=NOW,
    )
    assert token.to_document("https://hub.example", renewed=renewed) == {
        "version": 1,
        "endpoint": "https://hub.example",
        "repo": repo.uri,
        "repo_type": repo.repo_type,
        "repo_id": "acme/corpus",
        "revision": revision,
        "scope": "write",
        "cas_url": "https://cas.example",
        "access_token": SECRET,
        "expires_at": "2027-01-15T08:15:00Z",
        "expires_at_unix": token.local_expiry,
        "renewed": renewed,
    }


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.just("https://x?y")
)


@given(SECRETS, FIELDS, st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(GOOD), JUNK)), FIELDS)
def test_no_refusal_shows_the_token(secret, broken, junk, where):
    body = {**GOOD, "accessToken": secret, **junk, broken: junk.get(broken)}
    headers = {HEADERS[where]: secret}
    with contextlib.suppress(XetTokenFormatError):
        assert secret not in repr(parse(body, headers))
        return
    assert secret not in refusal(body, headers)


# --- what a token may be used for


OTHERS = [REPO.at("v1"), Repo("acme/corpus", "model"), Repo("acme/other", "dataset")]


@pytest.mark.parametrize(
    ("has", "wanted", "is_allowed"),
    [("read", "read", True), ("write", "write", True), ("write", "read", True), ("read", "write", False)],
)
def test_write_supersedes_read_and_read_never_uploads(has, wanted, is_allowed):
    for repo in (None, REPO):
        if is_allowed:
            check_use(has, REPO, wanted, repo)
        else:
            with pytest.raises(XetTokenScopeError, match="a read token for hf://datasets/acme/corpus@main cannot up"):
                check_use(has, REPO, wanted, repo)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("has", "wanted"), [("read", "read"), ("write", "write"), ("write", "read")])
def test_a_token_for_something_else_is_refused_by_name(other, has, wanted):
    with pytest.raises(XetTokenScopeError) as caught:
        parse(scope=has).check(wanted, other)
    assert str(caught.value) == (
        f"the token is for {REPO}, not for {other}. Fetch one for {other}, or leave out repo_id, repo_type and "
        "revision to use those of the token."
    )


def test_a_read_token_does_not_write_whatever_the_repository():
    with pytest.raises(XetTokenScopeError, match="cannot upload"):
        parse(scope="read").check("write", REPO)
    parse(scope="write").check("write")
