"""The Hub over HTTP: no answer at all, redirects, and successes that are none."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from contextlib import suppress

import pytest

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetInputError,
    XetProtocolError,
    XetRedirectError,
    XetTimeoutError,
    XetTLSError,
)
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.network.settings import Network
from support.hub_client import REPO, client, refusal, token_answer
from support.private_network import private_certificate
from support.small_server import Answer, SmallServer
from xethub_local.control.faults import Fault

# --- no answer


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_a_refused_connection_is_tried_again_and_named(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(XetConnectionError) as caught:
        client(url).whoami()
    assert str(caught.value) == (
        f"The Hub at {url} could not be reached (connection refused). Check the network and the host of the "
        "connection. This ended the whoami request."
    )
    assert caught.value.retryable


def test_an_unknown_name_is_named(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(XetConnectionError, match=r"\(the host name could not be resolved\)"):
        client("http://hub.invalid").whoami()


def test_no_answer_in_time_is_a_timeout(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    fault = hub.faults.add(Fault("GET .*", delay=0.7))
    with pytest.raises(
        XetTimeoutError, match=r"did not respond in time.*raise timeout in the connection. .* the whoami request"
    ):
        client(hub.url, hub.token(), timeout=0.2).whoami()
    assert hub.faults.acted(fault) == 2


def test_an_answer_that_stops_half_way_is_a_timeout(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    with SmallServer(Answer({"name": "x"}, length=1000)) as server, pytest.raises(XetTimeoutError, match="in time"):
        client(server.url, timeout=0.3).whoami()


@pytest.mark.parametrize("when", ["before", "middle"])
def test_a_dropped_connection_is_tried_again(hub, repo, when):
    fault = hub.faults.add(Fault("GET .*", times=1, drop=when))
    assert client(hub.url, hub.token()).xet_token(repo, "read").access_token
    assert hub.faults.acted(fault) == 1


@pytest.mark.parametrize("when", ["before", "middle"])
def test_a_connection_that_always_drops_is_named(hub, monkeypatch, when):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    fault = hub.faults.add(Fault("GET .*", drop=when))
    with pytest.raises(XetConnectionError, match=r"could not be reached .*This ended the whoami request") as caught:
        client(hub.url, hub.token()).whoami()
    assert hub.faults.acted(fault) == 2
    assert caught.value.__cause__ is None


def test_a_hub_on_plain_http_that_is_asked_in_https_is_named(hub):
    url = hub.url.replace("http://", "https://")
    with pytest.raises(XetTLSError) as caught:
        client(url).whoami()
    assert str(caught.value) == (
        f"The Hub at {url} does not speak https. If it speaks http, write {hub.url} as host of the connection. The "
        "whoami request was not sent."
    )


def test_a_server_that_hangs_up_during_the_handshake_says_nothing_about_its_certificate(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            with suppress(OSError):
                while True:
                    taken, _ = server.accept()
                    taken.recv(10_000)
                    taken.shutdown(socket.SHUT_RDWR)
                    taken.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(XetConnectionError) as raised:
            client(f"https://127.0.0.1:{server.getsockname()[1]}").whoami()
        server.shutdown(socket.SHUT_RDWR)
    assert type(raised.value) is XetConnectionError


@pytest.mark.parametrize("status", [408, 425])
def test_an_answer_that_says_to_ask_again_is_asked_again(hub, status):
    fault = hub.faults.add(Fault("GET .*", status=status, times=1))
    assert client(hub.url, hub.token()).whoami()["name"]
    assert hub.faults.acted(fault) == 1


def test_a_certificate_that_is_not_trusted_is_final_and_the_ca_bundle_mends_it(tmp_path, monkeypatch):
    pem = private_certificate(tmp_path / "hub.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with SmallServer(Answer({"name": "x"}), tls=context) as server:
        with pytest.raises(XetTLSError, match=r"is not trusted here. Set .* The whoami request was not sent"):
            client(server.url).whoami()
        assert server.asked == []
        assert client(server.url, network=Network(str(pem))).whoami() == {"name": "x"}
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ssl.get_default_verify_paths().cafile or "/etc/ssl/cert.pem")
        assert client(server.url, network=Network(str(pem))).whoami() == {"name": "x"}
    assert not XetTLSError.retryable


# --- redirects


def test_a_redirect_within_the_hub_is_followed(hub, repo):
    hub.faults.add(
        Fault("GET .*/xet-read-token/old", status=307, headers={"Location": repo.token_path("read")}),
    )
    assert client(hub.url, hub.token()).xet_token(repo.at("old"), "read").access_token
    assert [asked.status for asked in hub.log.requests(f".* {repo.api_path}.*")] == [307, 200]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_refused_and_no_hub_token_goes_there(status):
    with SmallServer(Answer({})) as elsewhere:
        to = Answer(b"", status, {"Location": f"{elsewhere.url}/steal"})
        error = refusal(to, XetRedirectError)
        assert (
            f"redirects to {elsewhere.url}. Check the host of the connection. The Hub token is not sent there"
            in str(error)
        )
        assert error.status == status
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:pass@other.example/x", "an invalid URL"),
        ("https://other.example\\@127.0.0.1/x", "a URL with a backslash"),
        ("/\\other.example/x", "a URL with a backslash"),
        ("http://other.example/\xc3\xa9", "a URL with non-ASCII characters"),
        ("http://other.example\t/x", "a URL with spaces or control characters"),
        ("//other.example/x", "http://other.example:80"),
        ("file:///etc/passwd", "an invalid URL"),
        ("http://[::1", "an invalid URL"),
        ("http://other.example:port/", "an invalid URL"),
    ],
)
def test_wherever_a_redirect_leads_only_its_origin_is_shown(location, shown):
    error = refusal(Answer(b"", 302, {"Location": location}), XetRedirectError)
    assert f"redirects to {shown}. Check the host" in str(error)
    assert "pass" not in str(error).replace("passwd", "")


def test_a_redirect_in_a_circle_ends():
    circle = Answer(b"", 302, {"Location": "/api/whoami-v2"})
    with SmallServer(circle) as server, pytest.raises(XetProtocolError, match=r"unusable response .*TooManyRedirects"):
        client(server.url).whoami()


@pytest.mark.parametrize("url", ["http://other.example/api", "https://127.0.0.1/api", "ftp://x/", "http://[::1"])
def test_the_session_speaks_to_no_other_origin(url):
    with pytest.raises(XetInputError, match=r"session sends requests only to the Hub at http://127\.0\.0\.1:1, not to"):
        client("http://127.0.0.1:1").request("GET", url, about="x")


# --- successes that are none


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(b"<html>login", headers={"Content-Type": "text/html; charset=utf-8"}), "an HTML page"),
        (Answer(b"\n <!DOCTYPE html>"), "an HTML page"),
        (Answer(b"[" * 100_000), "content that is nested too deeply"),
        (Answer([]), "JSON that is not an object"),
        (Answer("x"), "JSON that is not an object"),
    ],
    ids=["html", "page", "deep", "list", "string"],
)
def test_a_success_of_another_kind_is_a_protocol_error(answer, kind):
    with SmallServer(answer) as server, pytest.raises(XetProtocolError) as caught:
        client(server.url).whoami()
    message = str(caught.value)
    assert f"did not answer like a Hub, but with {kind}. Check that the host of the connection is a Hub" in message
    assert message.endswith("This was the answer to the whoami request.")
    assert not caught.value.retryable


@pytest.mark.parametrize("body", [b"", b"OK", b'{"name": "so', b'{"name": "\xff"}'])
def test_a_response_that_lost_something_is_requested_again(monkeypatch, body):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    given = iter([Answer(body), Answer({"name": "somebody"})])
    with SmallServer(lambda _: next(given)) as server:
        assert client(server.url).whoami() == {"name": "somebody"}
    with SmallServer(Answer(body)) as server, pytest.raises(XetConnectionError) as caught:
        client(server.url).whoami()
    assert "damaged or cut off: it is not JSON. Let the task retry" in str(caught.value)[:100]
    assert caught.value.retryable


def test_a_token_answer_that_lost_something_is_requested_again():
    given = iter([Answer(b'{"accessToken": "xet_'), token_answer()])
    with SmallServer(lambda _: next(given)) as server:
        assert client(server.url).xet_token(REPO, "read").access_token == "xet_0"
    assert len(server.asked) == 2


def test_a_token_answer_that_is_a_page_is_a_protocol_error():
    error = str(refusal(Answer(b"<html>", headers={"Content-Type": "text/html"}), XetProtocolError))
    assert re.match(r"http://127\.0\.0\.1:\d+ did not answer like a Hub, but with an HTML page\. ", error)
    assert error.endswith(f"This was the answer to the read token request for {REPO}.")


@pytest.mark.parametrize("body", [b"", b"\xff"])
def test_a_token_may_come_in_headers_whatever_the_body_is(body):
    headers = {
        "X-Xet-Access-Token": "xet_abc",
        "X-Xet-Token-Expiration": str(int(time.time()) + 900),
        "X-Xet-Cas-Url": "https://cas.example",
    }
    with SmallServer(Answer(body, headers=headers)) as server:
        assert client(server.url).xet_token(REPO, "read").access_token == "xet_abc"
