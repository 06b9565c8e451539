"""A keyless connection against small servers: where its ID token goes, and which token each request gets."""

from __future__ import annotations

import base64
import json
import time

import pytest
import requests

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetIdentityError,
    XetNotFoundError,
    XetPublisherError,
    XetRedirectError,
    XetServerError,
)
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.repo import Repo
from support.hub_client import AT_ONCE
from support.small_server import Answer, SmallServer

REPO = Repo("acme/corpus", "dataset")
TOKEN = "hf_jwt_0123456789abcdefghijklmnopqrst"
ISSUED = Answer({"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600})
EMPTY = Answer([])
REFUSED = Answer({"error": "invalid_grant"}, 400)


class Worker:
    """An identity that issues a token for any audience, and has its name from then on."""

    name = "not open yet"

    def id_token(self, audience: str) -> str:
        self.name = "worker"
        claims = {"iss": "https://issuer", "sub": "worker", "aud": audience, "exp": time.time() + 60}
        parts = ({"alg": "RS256"}, claims, {"sig": 1})
        return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def keyless(url: str, **options) -> Hub:
    return Hub(url, credential="connection 'xethub_default'", identity=Worker(), **options)


def exchanging(exchanged: Answer = ISSUED, answer: Answer = EMPTY) -> SmallServer:
    return SmallServer(lambda asked: exchanged if asked.path == "/oauth/token" else answer)


def test_the_id_token_is_sent_alone_and_every_secret_is_masked(monkeypatch):
    monkeypatch.setattr(requests.sessions, "get_netrc_auth", lambda *_, **__: ("netrc", "secret"))
    secrets: list[str] = []
    with exchanging() as server:
        hub = keyless(server.url, on_secret=secrets.append)
        assert hub.token_of("kernel", "acme/k") == TOKEN
        hub.list_files(REPO)
    kernel, dataset, listing = server.asked
    assert (kernel.method, kernel.path) == ("POST", "/oauth/token")
    sent = json.loads(kernel.body)
    assert sent["resource"] == "kernels/acme/k"
    assert json.loads(dataset.body)["resource"] == "datasets/acme/corpus"
    assert "authorization" not in kernel.headers
    assert listing.headers["authorization"] == f"Bearer {TOKEN}"
    assert {sent["subject_token"], TOKEN} <= set(secrets)
    assert all(hub.secrets.are_in(each) for each in secrets)


@pytest.mark.parametrize("url", ["http://hub.example", "HTTP://hub.example"])
def test_no_id_token_goes_over_plain_http_to_another_machine(url):
    with pytest.raises(XetIdentityError) as caught:
        keyless(url).exchanged_token(keyless(url).exchanged.of_repo(REPO))
    assert str(caught.value) == (
        f"{url} is not https: no ID token is sent there. Use a Hub with https as the host of the connection. Only a "
        "Hub on this machine may do without, and without a proxy."
    )


def test_no_id_token_goes_over_plain_http_through_a_proxy():
    with exchanging() as proxy, pytest.raises(XetIdentityError, match="is not https: no ID token is sent there"):
        keyless("http://127.0.0.1:1", network=Network(proxy=proxy.url)).token_of("dataset", "acme/corpus")
    assert proxy.asked == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_no_id_token_goes_over_plain_http_through_a_proxy_of_the_environment(monkeypatch, variable):
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with exchanging() as proxy, exchanging() as server:
        monkeypatch.setenv(variable, proxy.url)
        upper_case = server.url.replace("http", "HTTP")
        for url in (server.url, upper_case):
            assert keyless(url).token_of("dataset", "acme/corpus") == TOKEN
    assert proxy.asked == []
    assert len(server.asked) == 2


@pytest.mark.parametrize("url", ["https://hub.example", "HTTPS://hub.example"])
def test_over_https_a_proxy_is_used_like_for_any_request(monkeypatch, url):
    hub = keyless(url, network=Network(proxy="http://127.0.0.1:1"))
    sent = []

    def request(method, path, **options):
        sent.append((method, path, options))
        raise requests.ConnectionError

    monkeypatch.setattr(hub.session, "request", request)
    hub.retries_enabled = False
    with pytest.raises(XetConnectionError, match=r"the exchange of the ID token of worker for datasets/acme"):
        hub.token_of("dataset", "acme/corpus")
    ((method, path, options),) = sent
    assert (method, path) == ("POST", "/oauth/token")
    assert "proxies" not in options


def test_an_exchange_follows_no_redirect():
    with exchanging(Answer(b"", 307, {"Location": "/elsewhere"})) as server, pytest.raises(XetRedirectError):
        keyless(server.url).token_of("dataset", "acme/corpus")
    assert len(server.asked) == 1


@pytest.mark.parametrize(("retries_enabled", "times"), [(True, 3), (False, 1)])
def test_an_exchange_is_repeated_unless_the_caller_schedules_its_own_retries(monkeypatch, retries_enabled, times):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 3)
    with exchanging(Answer(b"", 503, AT_ONCE)) as server:
        hub = keyless(server.url)
        hub.retries_enabled = retries_enabled
        with pytest.raises(XetServerError, match="to the exchange of the ID token of worker for datasets/acme/corpus"):
            hub.token_of("dataset", "acme/corpus")
    assert len(server.asked) == times


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (lambda hub: hub.list_files(REPO), EMPTY),
        (lambda hub: hub.get_files(REPO, ["a"]), EMPTY),
        (lambda hub: hub.latest_commits(REPO), EMPTY),
        (lambda hub: hub.read_inline(REPO, "a"), Answer(b"")),
    ],
)
def test_a_repository_without_a_publisher_is_read_without_a_credential(read, answer):
    with exchanging(REFUSED, answer) as server:
        read(keyless(server.url))
    exchange, asked = server.asked
    assert exchange.path == "/oauth/token"
    assert "authorization" not in asked.headers
    with exchanging(REFUSED, Answer(b"", 404)) as server, pytest.raises(XetPublisherError):
        read(keyless(server.url))
    missing = Answer(b"", 404, {"X-Error-Code": "EntryNotFound"})
    with exchanging(REFUSED, missing) as server, pytest.raises(XetNotFoundError):
        read(keyless(server.url))


@pytest.mark.parametrize(
    ("method", "route"), [("POST", "commit/main"), ("POST", "preupload/main"), ("DELETE", "branch/next")]
)
def test_nothing_is_written_to_a_repository_without_a_publisher(method, route):
    with exchanging(REFUSED) as server, pytest.raises(XetPublisherError):
        keyless(server.url).request(method, f"{REPO.api_path}/{route}", about=f"a request for {REPO}")
    assert [asked.path for asked in server.asked] == ["/oauth/token"]


def test_a_request_whose_path_names_no_repository_gets_the_token_of_the_one_that_it_is_about():
    with exchanging() as server:
        keyless(server.url).request("POST", "/api/validate-yaml", about=f"the card of {REPO}", repo=REPO)
    exchange, asked = server.asked
    assert json.loads(exchange.body)["resource"] == "datasets/acme/corpus"
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
