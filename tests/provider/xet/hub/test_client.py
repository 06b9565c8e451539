"""The Hub over HTTP: tokens, refusals, tries. No answer, redirects, wrong answers: test_network.py."""

from __future__ import annotations

import contextlib
import io
import pickle
import time
from email.utils import formatdate

import pytest
import requests

from airflow_provider_xethub.exceptions import (
    XetBusyError,
    XetConflictError,
    XetConnectionError,
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
    XetRateLimitError,
    XetResponseError,
    XetRevisionNotFoundError,
    XetServerError,
    XetTLSError,
    XetTokenFormatError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.network import bounded_answers
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.repo import Repo
from support.hub_client import AT_ONCE, HUB_TOKEN, REPO, client, refusal, token_answer
from support.small_server import Answer, Asked, SmallServer
from support.spans import recording
from xethub_local.control.faults import Fault

# --- tokens


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_token_comes_from_the_refresh_route_of_its_scope(hub, repo, scope):
    token = client(hub.url, hub.token(), conn_id="xethub_default").xet_token(repo, scope)
    grant = hub.access.verify_xet_token(token.access_token)
    assert (grant.scope, grant.repository) == (scope, f"datasets/{repo.repo_id}")
    assert (token.scope, token.repo, token.conn_id) == (scope, repo, "xethub_default")
    assert abs(token.skew) < 2
    assert token.seconds_left() == pytest.approx(900, abs=3)
    assert [asked.path for asked in hub.log.requests(f".* {repo.api_path}.*")] == [
        f"{repo.api_path}/xet-{scope}-token/main"
    ]


def test_the_request_is_authorised_and_says_who_asks():
    with SmallServer(Answer({})) as server, pytest.raises(XetTokenFormatError):
        client(server.url, headers={"X-Proxy-Key": "k"}).xet_token(REPO, "read")
    (asked,) = server.asked
    assert asked.headers["authorization"] == f"Bearer {HUB_TOKEN}"
    assert asked.headers["user-agent"] == "airflow-provider-xethub"
    assert asked.headers["x-proxy-key"] == "k"


def test_without_a_hub_token_nothing_is_sent_as_one():
    with SmallServer(Answer({"name": "x"})) as server:
        hub = client(server.url, None)
        assert hub.whoami() == {"name": "x"}
    assert "authorization" not in server.asked[0].headers
    assert not hub.has_token
    assert client(server.url).has_token


def test_the_timeout_can_be_read_by_those_who_need_a_longer_one():
    assert client("https://hub.example", timeout=7).timeout == 7


def test_neither_a_header_nor_the_password_of_the_proxy_is_repeated():
    proxy = Network(proxy="http://somebody:the-password@proxy.example:3128")
    hub = client("https://hub.example", headers={"X-Proxy-Key": "the-value"}, network=proxy)
    assert hub.shown("header the-value, password the-password") == "header ***, password ***"


def test_a_request_without_a_credential_sends_none_from_netrc_either(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with SmallServer(Answer({})) as server:
        client(server.url).request("GET", "/api/public", about="x", anonymous=True)
    assert "authorization" not in server.asked[0].headers


def test_a_client_with_its_credential_is_not_pickled():
    with pytest.raises(TypeError, match="A Hub with its credential cannot be pickled"):
        pickle.dumps(client("https://hub.example"))


def test_a_token_request_is_traced_with_its_repository_and_scope():
    with SmallServer(token_answer()) as server, recording() as spans:
        client(server.url).xet_token(REPO, "write")
    (span,) = spans
    assert span.name == "xethub.token"
    assert span.attributes["xethub.repository"] == "acme/corpus"
    assert span.attributes["xethub.scope"] == "write"


def test_a_token_request_is_sent_once_if_the_caller_retries_it():
    with SmallServer(Answer(b"", 503, AT_ONCE)) as server, pytest.raises(XetServerError):
        client(server.url).xet_token(REPO, "read", retry=False)
    assert len(server.asked) == 1


def test_a_token_whose_cas_url_repeats_the_hub_token_is_refused():
    answer = token_answer(casUrl=f"https://cas.example/{HUB_TOKEN}")
    with SmallServer(answer) as server, pytest.raises(XetTokenFormatError) as caught:
        client(server.url).xet_token(REPO, "read")
    assert "has a field 'casUrl' that repeats a secret" in str(caught.value)
    assert HUB_TOKEN not in str(caught.value)


def test_a_connection_with_a_token_is_not_keyless():
    with pytest.raises(XetInputError, match=r"^connection 'xethub_default' is not a keyless connection\.$"):
        client("https://hub.example").token_of("model", "acme/m")
    with pytest.raises(XetInputError, match=r"^the caller is not a keyless connection\.$"):
        Hub("https://hub.example").token_of("model", "acme/m")


def test_a_proxy_that_wants_another_password_is_named():
    with SmallServer(Answer(b"", 407)) as server, pytest.raises(XetConnectionError) as caught:
        client(server.url).whoami()
    assert str(caught.value) == (
        "A proxy requires a (different) username and password (407). Correct HTTPS_PROXY, HTTP_PROXY and NO_PROXY on "
        f"this worker. It is on the way to the Hub at {server.url}; the whoami request was not sent."
    )


def test_a_response_that_is_too_large_is_a_protocol_error(monkeypatch):
    monkeypatch.setattr(bounded_answers, "MAX_BYTES", 10)
    with SmallServer(Answer({"name": "x" * 20})) as server, pytest.raises(XetProtocolError):
        client(server.url).whoami()


def test_netrc_does_not_replace_the_hub_token(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def answer(asked: Asked) -> Answer:
        if asked.path == "/api/whoami-v2":
            return Answer(status=307, headers={"Location": "/moved"})
        return Answer({"name": "x"})

    with SmallServer(answer) as server:
        client(server.url).whoami()
    assert [asked.headers["authorization"] for asked in server.asked] == [f"Bearer {HUB_TOKEN}"] * 2


# --- answers that are no success


@pytest.mark.parametrize(
    ("status", "headers", "kind", "text"),
    [
        (401, {}, XetUnauthorizedError, "The Hub token of connection 'xethub_default' is missing, wrong or expired"),
        (
            403,
            {},
            XetForbiddenError,
            "No permission for hf://datasets/acme/corpus@main (403): use a Hub token that has it.",
        ),
        (403, {"X-Error-Code": "GatedRepo"}, XetForbiddenError, "request access on its page, or use"),
        (404, {}, XetNotFoundError, "hf://datasets/acme/corpus@main not found (404). Check repo_id"),
        (
            404,
            {"X-Error-Code": "RepoNotFound"},
            XetNotFoundError,
            "Check repo_id, repo_type and revision, and whether connection 'xethub_default' has access",
        ),
        (
            401,
            {"X-Error-Code": "RepoNotFound"},
            XetNotFoundError,
            "Check repo_id, repo_type and revision, and whether connection 'xethub_default' has access",
        ),
        (
            404,
            {"X-Error-Code": "RevisionNotFound"},
            XetRevisionNotFoundError,
            "Revision not found (404): hf://datasets/acme/corpus@main. Check revision",
        ),
        (
            404,
            {"X-Error-Code": "EntryNotFound"},
            XetNotFoundError,
            "Path not found (404). Check it, and the revision.",
        ),
        (400, {}, XetResponseError, "The Hub answered 400 to the read token request for"),
        (418, {}, XetResponseError, "The Hub answered 418 to the read token request for"),
    ],
)
def test_each_refusal_has_its_error_and_is_not_tried_again(status, headers, kind, text):
    error = refusal(Answer(b"", status, headers))
    assert type(error) is kind
    assert text in str(error)
    assert "hf://datasets/acme/corpus@main" in str(error)
    assert (error.service, error.status, error.retryable) == ("Hub", status, False)


def test_the_local_hubs_own_refusals_are_told_apart(hub, repo):
    known = client(hub.url, hub.token())
    with pytest.raises(XetNotFoundError, match="Revision not found"):
        known.xet_token(repo.at("v9"), "read")
    with pytest.raises(XetNotFoundError, match=r"not found \(404\). Check repo_id"):
        known.xet_token(Repo("local/nowhere", "dataset"), "read")
    with pytest.raises(XetForbiddenError, match=r"lacks permission.*The Hub says: .*read-only"):
        client(hub.url, hub.token("read")).xet_token(repo, "write")
    with pytest.raises(XetUnauthorizedError, match="missing, wrong or expired"):
        client(hub.url, "hf_nobody").xet_token(repo, "read")
    assert all(count == 1 for count in hub.log.counts(".*-token.*").values())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer({"error": "No way"}, 400), " The Hub says: No way"),
        (Answer({"error": ["a", "b"]}, 400), " The Hub says: a; b"),
        (Answer({"error": "body"}, 400, {"X-Error-Message": "header"}), " The Hub says: header"),
        (Answer({"error": "two\nlines\x1b[31m\u202e  here"}, 400), " The Hub says: two lines [31m here"),
        (Answer({"error": "x y " * 100}, 400), f" The Hub says: {'x y ' * 75}…"),
        (Answer({"error": f"not {'x' * 79} but {'x' * 80}"}, 400), f" The Hub says: not {'x' * 79} but ***"),
        (Answer({"other": "x"}, 400), ""),
        (Answer([1], 400), ""),
        (Answer(b"<html>", 400), ""),
    ],
    ids=["text", "list", "header", "two lines", "long", "secret", "other", "array", "page"],
)
def test_what_the_server_says_is_passed_on_short_and_on_one_line(answer, said):
    assert str(refusal(answer)).partition("corpus@main.")[2] == said


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "tree/main", XetServerError),
        ("HEAD", "resolve/main/a", XetServerError),
        ("POST", "paths-info/main", XetServerError),
        ("POST", "commit/main", XetBusyError),
        ("DELETE", "branch/a", XetBusyError),
    ],
)
def test_only_what_changes_a_repository_can_find_it_busy(method, path, kind):
    refused = requests.Response()
    refused.status_code, refused.raw = 409, io.BytesIO(b"not UTF-8: \xff")
    refused.request = requests.Request(method, f"http://127.0.0.1:1/api/datasets/acme/corpus/{path}").prepare()
    assert type(client("http://127.0.0.1:1").response_error(refused, f"a request for {REPO}")) is kind


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@pytest.mark.parametrize("place", ["body", "header", "list"])
def test_a_server_that_shows_the_hub_token_is_not_quoted_on_it(status, place):
    text = f"bad token {HUB_TOKEN}" + " x" * 150
    body = {"error": [text] if place == "list" else text}
    answer = Answer(b"", status, {"X-Error-Message": text}) if place == "header" else Answer(body, status)
    error = refusal(answer)
    assert "bad token *** x x" in str(error)
    assert HUB_TOKEN[:12] not in f"{error} {error!r}"


# --- tries


def test_a_server_error_is_tried_again_until_it_succeeds(hub, repo):
    fault = hub.faults.add(Fault("GET .*/xet-read-token/main", times=2, status=500, headers=AT_ONCE))
    assert client(hub.url, hub.token()).xet_token(repo, "read").access_token
    assert hub.faults.acted(fault) == 2
    assert len(hub.log.requests(f".* {repo.api_path}.*")) == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_a_server_error_that_stays_is_raised_after_six_retries(hub, repo, status):
    hub.faults.add(Fault("GET .*", status=status, headers=AT_ONCE))
    with pytest.raises(XetServerError, match=f"answered {status} for .*. Let the task retry later") as caught:
        client(hub.url, hub.token()).xet_token(repo, "read")
    assert caught.value.retryable
    assert caught.value.status == status
    assert len(hub.log.requests(status=status)) == hub_module.MAX_TRIES == 7


@pytest.mark.parametrize(
    ("error", "tries"),
    [(XetServerError("x"), 3), (XetConnectionError("x"), 3), (XetTLSError("x"), 1), (XetConflictError("x"), 1)],
    ids=lambda value: type(value).__name__,
)
def test_only_what_another_try_may_mend_is_tried_again(monkeypatch, error, tries):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 3)
    tried = []

    def once() -> None:
        tried.append(error)
        error.retry_after = 0
        raise error

    with pytest.raises(type(error)):
        hub_module.with_retries(once)
    assert len(tried) == tries


def test_a_request_that_must_not_be_repeated_is_sent_once(hub):
    hub.faults.add(Fault("GET .*", status=500, headers=AT_ONCE))
    with pytest.raises(XetServerError):
        client(hub.url).request("GET", "/api/only-once", about="x", retry=False)
    assert len(hub.log.requests("GET /api/only-once")) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "1"},
        {"RateLimit": '"api";r=0;t=1'},
        {"Retry-After": " 1 ", "RateLimit": '"api";r=0;t=50'},
    ],
)
def test_a_rate_limit_is_waited_for_as_long_as_the_hub_asks(hub, repo, headers):
    hub.faults.add(Fault("GET .*", times=1, status=429, headers=headers))
    began = time.monotonic()
    assert client(hub.url, hub.token()).xet_token(repo, "read").access_token
    assert 1 <= time.monotonic() - began < 3


def test_a_retry_after_may_be_a_date(hub, repo):
    hub.faults.add(
        Fault("GET .*", times=1, status=429, headers={"Retry-After": formatdate(time.time() + 2, usegmt=True)})
    )
    began = time.monotonic()
    assert client(hub.url, hub.token()).xet_token(repo, "read").access_token
    assert 0.5 < time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3600"}, 3600),
        ({"RateLimit": '"api";r=0;t=3600'}, 3600),
        ({"Retry-After": "9" * 400}, 30 * 24 * 3600),
        ({"Retry-After": "60"}, 60),
    ],
    ids=str,
)
def test_a_wait_beyond_the_budget_gives_up_at_once_and_says_how_long(headers, seconds):
    began = time.monotonic()
    with SmallServer(Answer(b"", 429, headers)) as server, pytest.raises(XetRateLimitError) as caught:
        client(server.url).whoami()
    assert time.monotonic() - began < 2
    assert len(server.asked) == 1
    assert caught.value.retry_after == seconds
    assert "Too many requests from connection 'xethub_default' (429). Let the task retry later" in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "soon"}, {"Retry-After": "-5"}, {"RateLimit": '"api";r=3;t=3600'}, {"RateLimit": "junk"}, {}],
    ids=str,
)
def test_where_the_hub_says_no_time_a_short_wait_is_tried(headers, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    with SmallServer(Answer(b"", 429, headers)) as server, pytest.raises(XetRateLimitError) as caught:
        client(server.url).whoami()
    assert len(server.asked) == 2
    assert caught.value.retry_after is None


def test_all_waits_together_stay_within_the_budget(monkeypatch):
    monkeypatch.setattr(hub_module, "RETRY_BUDGET", 1.5)
    with SmallServer(Answer(b"", 503, {"Retry-After": "1"})) as server, pytest.raises(XetServerError):
        client(server.url).whoami()
    assert len(server.asked) == 2


# --- what a listing of a commit leaves in memory

COMMIT = REPO.at("0123456789" * 4)
ENTRIES = [{"type": "file", "path": name, "size": 1, "oid": "ab" * 20} for name in ("a", "b")]


def listed(*, repo=COMMIT, path=None, recursive=True, keep=None, kept=False):
    """The client of a Hub that lists two files, after it has listed them page by page."""
    with SmallServer(Answer(ENTRIES)) as server:
        hub = client(server.url)
        with hub.keeping_listing() if kept else contextlib.nullcontext():
            pages = list(hub.tree_pages(repo, path, recursive=recursive, keep=keep))
    assert pages == [ENTRIES]
    return hub


@pytest.mark.parametrize(("keep", "kept"), [(True, False), (None, True)])
def test_the_whole_listing_of_a_commit_can_be_kept(keep, kept):
    hub = listed(keep=keep, kept=kept)
    assert hub.listed_tree(COMMIT) == ENTRIES
    assert hub.listed_tree(REPO) is None
    assert hub.listed_tree(COMMIT.at("1123456789" * 4)) is None


@pytest.mark.parametrize(
    "options",
    [{}, {"keep": False, "kept": True}, {"keep": True, "repo": REPO}, {"keep": True, "recursive": False}],
    ids=["not asked for", "not wanted", "a branch changes", "without subfolders"],
)
def test_no_other_listing_is_kept(options):
    assert listed(**options).listed_tree(options.get("repo", COMMIT)) is None


def test_the_listing_of_a_folder_is_not_kept():
    with SmallServer(Answer([{**ENTRIES[0], "path": "f/a"}])) as server:
        hub = client(server.url)
        assert hub.tree(COMMIT, "f", recursive=True)
    assert hub.listed_tree(COMMIT) is None


def test_listings_are_kept_only_within_the_block():
    with SmallServer(Answer(ENTRIES)) as server:
        hub = client(server.url)
        with pytest.raises(KeyError), hub.keeping_listing():
            raise KeyError
        list(hub.tree_pages(COMMIT, recursive=True))
    assert hub.listed_tree(COMMIT) is None


def test_a_listing_that_is_too_long_is_not_kept(monkeypatch):
    monkeypatch.setattr(hub_module, "_MAX_KEPT", 2)
    assert listed(keep=True).listed_tree(COMMIT) == ENTRIES
    monkeypatch.setattr(hub_module, "_MAX_KEPT", 1)
    assert listed(keep=True).listed_tree(COMMIT) is None
