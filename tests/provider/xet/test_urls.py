"""No request leaves the Hub's origin, and no secret is shown in an address."""

from __future__ import annotations

import json

import pytest
import requests

from airflow_provider_xethub.exceptions import XetInputError, XetProtocolError, XetRedirectError, XetTokenFormatError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.history import commits_until
from airflow_provider_xethub.xet.repo import Repo
from support.small_server import Answer, SmallServer

REPO = Repo("acme/corpus", "dataset")
SECRET = "proxy-key-5e1f0c"


@pytest.fixture
def elsewhere():
    with SmallServer(Answer([])) as elsewhere:
        yield elsewhere
        assert elsewhere.asked == []


def tricks(here: str, elsewhere: str) -> list[str]:
    """URLs for which one parser or another believes that they are on the Hub."""
    a, b = here.removeprefix("http://"), elsewhere.removeprefix("http://")
    return [
        f"http://{b}\\@{a}/x",
        f"http://{b}/\\@{a}",
        f"//{b}/x",
        f"http://{a}@{b}/x",
        f"\\\\{b}/x",
        f"http://{a}\t@{b}/x",
    ]


@pytest.mark.parametrize("number", range(6))
def test_neither_a_link_nor_a_redirect_leads_to_another_origin(elsewhere, number):
    def answer(asked):
        trick = tricks(here.url, elsewhere.url)[number]
        if "redirect" in asked.target:
            return Answer(b"", 307, {"Location": trick})
        return Answer([], headers={"Link": f'<{trick}>; rel="next"'})

    with SmallServer(answer) as here:
        hub = Hub(here.url, "hf_x", headers={"X-Key": SECRET})
        for work in (lambda: hub.list_files(REPO), lambda: commits_until(hub, REPO, {"0" * 40})):
            with pytest.raises(XetProtocolError, match="with a next page on another server"):
                work()
        with pytest.raises(XetRedirectError, match="The Hub token is not sent there"):
            hub.json("GET", "/redirect", about="x")
        trick = tricks(here.url, elsewhere.url)[number]
        if not trick.startswith("/"):
            with pytest.raises(XetInputError, match="This session sends requests only to the Hub"):
                hub.session.get(trick)
        with pytest.raises(XetInputError, match="This session sends requests only to the Hub"):
            hub.session.send(requests.Request("GET", f"{elsewhere.url}/x", headers={"X-Key": SECRET}).prepare())
        for path in (f"/{trick}", f"//{elsewhere.url[7:]}/x", f"/{elsewhere.url}/x"):
            assert hub.session.get(path).ok  # a path on the Hub, however odd


def test_a_path_beyond_ascii_of_a_user_is_sent_percent_encoded():
    with SmallServer(Answer([])) as server:
        assert Hub(server.url).session.get("/api/é x").ok
    assert server.asked[0].target == "/api/%C3%A9%20x"


def test_the_origin_of_a_redirect_shows_no_secret():
    to = Answer(b"", 302, {"Location": f"http://{SECRET}.example/"})
    says = r"redirects to http://\*\*\*\.example:80"
    with SmallServer(to) as server, pytest.raises(XetRedirectError, match=says) as caught:
        Hub(server.url, headers={"X-Key": SECRET}).whoami()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["https://a\\@b", "https://u:p@b", "https://b?x", "https://b#x", "https://b/é", "http://a b"]
)
def test_a_host_that_parsers_read_differently_is_refused(connection, host):
    connection(host=host)
    with pytest.raises(XetInputError, match="is not the URL of a Hub"):
        XetHubConnection().whoami()


def test_a_cas_url_that_repeats_a_secret_is_refused():
    token = "hf_" + "S" * 34
    body = {"accessToken": "t", "exp": 4_000_000_000, "casUrl": f"https://cas.example/{token}"}
    with SmallServer(Answer(body)) as server, pytest.raises(XetTokenFormatError, match="repeats a secret") as caught:
        Hub(server.url, token).xet_token(REPO, "read")
    assert token not in str(caught.value)


def test_the_client_of_hook_api_sends_its_token_to_no_other_origin(connection):
    """It follows redirects to other origins: without the Hub token, and it never has the extra headers."""
    answer = Answer({"name": "x", "type": "user"})
    with SmallServer(answer) as elsewhere, SmallServer(lambda _: Answer(b"", 307, {"Location": to})) as server:
        to = f"{elsewhere.url}/x"
        connection(host=server.url, password="hf_secret", extra=json.dumps({"secret_headers": {"X-Key": SECRET}}))
        XetHubConnection().api.whoami()
    assert server.asked[0].headers["authorization"] == "Bearer hf_secret"
    assert len(elsewhere.asked) == 1
    assert "authorization" not in elsewhere.asked[0].headers
    assert SECRET not in str([server.asked, elsewhere.asked])
