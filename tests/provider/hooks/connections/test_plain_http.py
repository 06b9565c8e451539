"""A Hub over plain http: the log and the Test button say who can read the Hub token, once and without showing it."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.connections import plain_http
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub import client
from support.builders import TEXT, publish
from support.small_server import Answer, SmallServer

SAYS = "is reached over plain http: everyone on the way can read the Hub token, Xet tokens and files"
OWNER = {"name": "anna", "type": "user", "auth": {"type": "access_token", "accessToken": {"role": "read"}}}


@pytest.fixture(autouse=True)
def new_process(monkeypatch, caplog):
    monkeypatch.setattr(plain_http, "_warned", set())
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    caplog.set_level(logging.WARNING)


@pytest.fixture
def elsewhere(connection):
    """A Hub that is not on this machine: all that the proxy of the connection is asked for is answered here."""
    with SmallServer(lambda asked: Answer({"/api/whoami-v2": OWNER, "/api/models": []}.get(asked.path, b""))) as server:
        connection(host="http://hub.acme.example", password="hf_secret", extra={"proxy": server.url})
        yield server


def test_the_log_says_so_once_in_each_process_and_shows_no_token(elsewhere, repo, caplog):
    for _ in range(3):
        with pytest.raises(XetHubError):
            XetHubConnection().get_token(repo)
    assert len(elsewhere.asked) >= 3
    said = [record.getMessage() for record in caplog.records if SAYS in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("http://hub.acme.example is reached over plain http")
    assert "hf_secret" not in caplog.text


def test_it_is_said_before_anything_is_sent(elsewhere, caplog):
    assert XetHubConnection().hub.endpoint == "http://hub.acme.example"
    assert SAYS in caplog.text
    assert elsewhere.asked == []


def test_each_hub_is_named(elsewhere, connection, caplog):
    for host in ("http://hub.acme.example", "http://other.acme.example:8080", "HTTP://hub.acme.example:80/"):
        connection(host=host)
        assert XetHubConnection().hub
    assert [record.getMessage().partition(" ")[0] for record in caplog.records if SAYS in record.getMessage()] == [
        "http://hub.acme.example",
        "http://other.acme.example:8080",
    ]


@pytest.mark.parametrize("password", ["hf_secret", None])
def test_the_test_button_says_so(elsewhere, connection, password):
    connection(host="http://hub.acme.example", password=password, extra={"proxy": elsewhere.url})
    works, message = XetHubConnection().test_connection()
    assert works, message
    assert SAYS in message
    assert "hf_secret" not in message


def test_nothing_is_said_of_this_machine(hook, repo, tmp_path, caplog):
    publish(repo, tmp_path, {"a.csv": TEXT})
    assert hook.list_files(repo)
    assert "plain http" not in hook.test_connection()[1]
    assert "plain http" not in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "is_said"),
    [
        ("https://huggingface.co", False),
        ("HTTPS://hub.acme.example:8443", False),
        ("http://localhost:7777", False),
        ("http://127.1.2.3:7777", False),
        ("http://[::1]:7777", False),
        ("http://127.0.0.1.acme.example", True),
        ("http://10.0.0.1:7777", True),
        ("http://[fd00::1]:7777", True),
        ("http://xethub:7777", True),
    ],
)
def test_only_this_machine_and_https_are_not_warned_of(endpoint, is_said):
    assert (plain_http.advice(endpoint) is not None) == is_said
