"""Which server a URL names: refused where two parsers could disagree, and no request leaves the Hub's origin."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from airflow_provider_xethub.exceptions import XetTokenFormatError
from airflow_provider_xethub.xet import urls
from airflow_provider_xethub.xet.hub.webhooks import _page
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import check_cas_url

REPO = Repo("acme/corpus", "dataset")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Hub.Example/a?b#c", "https://hub.example:443"),
        ("HTTP://hub.example:8080", "http://hub.example:8080"),
        ("http://hub.example:/x", "http://hub.example:80"),
        ("http://[::1]:5/x", "http://[::1]:5"),
        ("http://127.0.0.1?x", "http://127.0.0.1:80"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, expected):
    assert urls.origin(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("", "/a", "hub.example", "ftp://a/", "file:///x", "http:///x", "http://", "https:hub.example", "http:/a"),
        *("http://u@a/", "http://u:p@a/", "http://a\\@b/", "http://a\\b", "http://a/\\", "http://a /", "http://a/ b"),
        *(
            "http://a\n/",
            "http://a/\r\nX: y",
            "http://a/\t",
            "http://a/\x00",
            "http://a/\x7f",
            "http://a/é",
            "http://é/",
        ),
        *(
            "http://a%2eb/",
            "http://a:x/",
            "http://a:0/",
            "http://a:99999/",
            "http://a:-1/",
            "http://[::1/",
            "http://::1/",
        ),
        *("http://a;b/", "http://a\uff0fb/", "http://a/\ud800", "http://a:80:80/", "http://a,b/"),
    ],
)
def test_what_two_parsers_may_read_differently_has_no_origin(url):
    with pytest.raises(ValueError, match=r"a URL with|an invalid URL"):
        urls.origin(url)


@given(st.lists(st.sampled_from([*r"\/@:?#.[]%ab1", "http:", "//", "127.0.0.1", "\t", "é"]), max_size=12))
def test_every_parser_agrees_on_the_origin_of_an_accepted_url(parts):
    url = "http://" + "".join(parts)
    try:
        origin = urls.origin(url)
    except ValueError:
        return
    try:
        prepared = requests.Request("GET", url).prepare().url
    except requests.RequestException:
        return  # nothing is sent
    one, other = urlsplit(prepared), parse_url(prepared)
    port = f":{other.port or 80}"
    assert (
        f"http://{one.hostname}{port}"
        == f"http://{other.host.strip('[]')}{port}"
        == origin.replace("[", "").replace("]", "")
    )
    assert urls.origin(prepared) == origin


@pytest.mark.parametrize("url", ["https://a\\@b", "https://a\\b", "https://a/\tb", "https://é", "https://a b"])
def test_a_cas_url_that_parsers_read_differently_is_refused(url):
    with pytest.raises(XetTokenFormatError, match=r"'casUrl' that has (a backslash|non-ASCII|spaces)"):
        check_cas_url(url, "https://hub.example", "the answer")


@pytest.mark.parametrize("web", ["https://evil\\@hub.example/datasets/acme/corpus", "https://u@h/datasets/acme/corpus"])
def test_a_page_that_parsers_read_differently_is_not_linked(web):
    assert _page({"url": {"web": web}}, REPO) == "https://huggingface.co/datasets/acme/corpus"
    own = "https://hub.example/datasets/acme/corpus"
    assert _page({"url": {"web": own}}, REPO) == own


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://huggingface.co", "https://huggingface.co"),
        ("HTTPS://HuggingFace.co:443/", "https://huggingface.co"),
        ("http://127.0.0.1:7777/hf/", "http://127.0.0.1:7777/hf"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_a_url_has_one_canonical_form(url, canonical):
    assert urls.canonical(url) == canonical


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9", True),
        ("http://localhost:7777", True),
        ("http://[::1]:7777/x", True),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://evil.example/127.0.0.1", False),
        ("http://128.0.0.1", False),
        ("http://0.0.0.0", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(url, is_local):
    assert urls.is_loopback(url) == is_local
