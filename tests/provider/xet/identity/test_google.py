"""Identity google: the real google-auth against a stand-in for the metadata server."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError, XetIdentityUnavailableError
from airflow_provider_xethub.xet.identity import google as identity
from airflow_provider_xethub.xet.identity.google import GoogleIdentity
from support.cloud_services import google, jwt
from support.small_server import Answer, SmallServer

HUB = "https://huggingface.co"


@pytest.fixture
def metadata(monkeypatch):
    """Makes google-auth ask a server, by its address."""
    from google.auth.compute_engine import _metadata

    # The library reads GCE_METADATA_HOST when it is imported.
    return lambda url: monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", url.removeprefix("http://"))


def test_the_metadata_server_issues_a_token_for_the_hub(metadata):
    with SmallServer(google(jwt)) as server:
        metadata(server.url)
        token = GoogleIdentity().id_token(HUB)
    assert token == jwt(HUB)
    assert server.asked[-1].query == {"audience": [HUB], "format": ["full"]}


def test_no_proxy_sees_the_token(metadata, monkeypatch):
    with SmallServer(google(jwt)) as server:
        metadata(server.url)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert GoogleIdentity().id_token(HUB)


def test_a_key_file_is_not_used(metadata, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with SmallServer(google(jwt)) as server:
        metadata(server.url)
        assert GoogleIdentity().id_token(HUB)


def test_a_worker_without_a_service_account_fails_at_once(metadata):
    with SmallServer(Answer(b"Not Found", 404, {"Metadata-Flavor": "Google"})) as server:
        metadata(server.url)
        with pytest.raises(XetIdentityError, match=r"Give this worker a service account: .*404") as caught:
            GoogleIdentity().id_token(HUB)
    assert not caught.value.retryable
    assert len(server.asked) == 1


def test_a_metadata_server_that_starts_is_asked_again(metadata):
    ready, starting = google(jwt), iter([True])
    with SmallServer(lambda asked: Answer(b"", 503) if next(starting, False) else ready(asked)) as server:
        metadata(server.url)
        assert GoogleIdentity().id_token(HUB) == jwt(HUB)


@pytest.mark.parametrize("cause", ["refused", "silent", "broken"])
def test_an_unreachable_metadata_server_fails_within_seconds(metadata, monkeypatch, cause):
    monkeypatch.setattr(identity, "_TOGETHER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, SmallServer(Answer(b"no", 500)) as broken:
        urls = {
            "refused": "127.0.0.1:1",
            "silent": f"127.0.0.1:{silent.getsockname()[1]}",
            "broken": broken.url,
        }
        metadata(urls[cause])
        started = time.monotonic()
        with pytest.raises(XetIdentityUnavailableError, match=r"Check that this worker runs on Google Cloud") as caught:
            GoogleIdentity().id_token(HUB)
        assert time.monotonic() - started < 4
    assert caught.value.retryable
    assert "may reach metadata.google.internal" in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>portal</html>", b"eyJhbGciOiJub25lIn0.e30", b"\xc3.\xc3.\xc3"])
def test_what_is_no_jwt_is_an_error_that_does_not_repeat_it(metadata, body):
    with SmallServer(google(lambda _: body.decode("latin-1"))) as server:
        metadata(server.url)
        with pytest.raises(XetIdentityError, match="its response is not a JWT") as caught:
            GoogleIdentity().id_token(HUB)
    assert caught.value.__context__ is None
    assert "eyJ" not in str(caught.value)
    assert "portal" not in str(caught.value)


def test_no_log_shows_a_token(metadata, caplog, monkeypatch):
    monkeypatch.setenv("GOOGLE_SDK_PYTHON_LOGGING_SCOPE", "google")
    caplog.set_level(logging.DEBUG)
    with SmallServer(google(jwt)) as server:
        metadata(server.url)
        assert GoogleIdentity().id_token(HUB)
    assert "eyJ" not in caplog.text
