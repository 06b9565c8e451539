"""The endpoint for webhooks over real HTTP: what is refused, what is ignored, and that nothing leaks."""

from __future__ import annotations

import logging
import stat

import pytest
import requests
from airflow.secrets.base_secrets import BaseSecretsBackend

from airflow_provider_xethub.plugins import webhook_app
from airflow_provider_xethub.plugins.xethub import XetHubPlugin
from airflow_provider_xethub.xet.hub import webhooks
from airflow_provider_xethub.xet.repo import Repo
from support.webhook_bodies import ONE, TWO, pushed
from support.webhook_server import SECRET, endpoint, post, raw

pytestmark = pytest.mark.airflow

SETTING = "AIRFLOW__XETHUB__WEBHOOK_SECRET"
UNKNOWN = pushed(Repo("nobody/nothing", "dataset"), ONE, TWO)
HEAD = f"POST /xethub/webhook HTTP/1.1\r\nHost: airflow\r\nX-Webhook-Secret: {SECRET}\r\n".encode()


@pytest.fixture(scope="module")
def url(airflow_db):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SETTING, SECRET)
        apps = XetHubPlugin().fastapi_apps
    with endpoint(apps) as url:
        yield url


@pytest.fixture
def no_work(monkeypatch):
    """Nothing of a refused request may reach the parser or the database."""

    def fail(*_):
        raise AssertionError("it was looked into")

    monkeypatch.setattr(webhooks, "parse_ref_updates", fail)
    monkeypatch.setattr(webhook_app, "_record", fail)


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET[:-1], f"{SECRET}x", SECRET.upper(), "\xe9" * 20])
def test_without_the_secret_nothing_is_read(url, no_work, secret):
    answer = post(url, UNKNOWN, secret=secret)
    assert answer.status_code == 401
    assert SECRET not in answer.text


def test_the_secret_counts_only_in_its_header(url, no_work):
    assert post(f"{url}?secret={SECRET}", {**UNKNOWN, "secret": SECRET}, secret=None).status_code == 401
    assert post(url, UNKNOWN, secret=None, Authorization=f"Bearer {SECRET}").status_code == 401


def test_a_request_without_the_secret_is_answered_before_its_body_came(url, no_work):
    head = b"POST /xethub/webhook HTTP/1.1\r\nHost: airflow\r\nContent-Length: 1000\r\n\r\n"
    assert raw(url, head).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("size", [webhooks.MAX_BODY + 1, 10**12, 10**4000])
def test_a_body_that_is_declared_too_large_is_refused_before_it_came(url, no_work, size):
    answer = raw(url, HEAD, b"Content-Length: %d\r\n\r\n" % size)
    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    if size < 10**13:
        assert b"larger than 1048576 bytes" in answer


def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(url, no_work):
    # It never ends: what is refused is not read to its end.
    chunks = [b"%x\r\n%s\r\n" % (size, b" " * size) for size in (webhooks.MAX_BODY, 1)]
    answer = raw(url, HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *chunks)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_of_just_the_limit_is_read(url):
    body = b'{"event":{"scope":"repo"},"repo":{"type":"model","name":"a/b"}}'
    assert post(url, body + b" " * (webhooks.MAX_BODY - len(body))).json()["events"] == 0


def test_a_body_that_does_not_come_is_not_waited_for(url, no_work, monkeypatch):
    monkeypatch.setattr(webhook_app, "BODY_SECONDS", 0.2)
    answer = raw(url, HEAD, b"Content-Length: 1000\r\n\r\n", b"{")
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_cut_off_is_nothing(url, no_work, caplog):
    for _ in range(3):
        raw(url, HEAD, b"Content-Length: 1000\r\n\r\n", b"{", finish=True)
    assert post(url, UNKNOWN, secret="wrong").status_code == 401  # it lives
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"event=push&x=1", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 900_000, "nested too deeply"),
        (b'{"event":' * 100_000, "nested too deeply"),
        (b"9" * 100_000, "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "event"),
        (b'{"event": {"scope": "repo.content"}, "repo": {"type": "dataset"}}', "repo.name"),
    ],
)
def test_a_malformed_body_is_refused_and_the_answer_says_why(url, body, says):
    answer = post(url, body)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_no_other_method(url, no_work, method):
    assert requests.request(method, url, headers={"X-Webhook-Secret": SECRET}, timeout=60).status_code == 405


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json", "", "webhook/x"])
def test_there_is_nothing_else_to_see(url, path):
    assert requests.get(url.removesuffix("webhook") + path, timeout=60).status_code == 404


def test_a_repository_that_is_no_asset_is_ignored_and_so_are_other_events(url):
    answer = post(url, UNKNOWN)
    assert answer.status_code == 200
    assert answer.json() == {
        "events": 0,
        "detail": "Ignored: no asset of this Airflow matches hf://datasets/nobody/nothing@main.",
    }
    comment = {**UNKNOWN, "event": {"action": "create", "scope": "discussion.comment"}}
    assert post(url, comment).json()["detail"].startswith("Ignored: no existing branch")


def test_a_database_that_fails_is_told_without_what_it_says(url, monkeypatch, caplog):
    from sqlalchemy.exc import OperationalError

    def fail(_):
        raise OperationalError("SELECT private", {}, Exception("password=hunter2"))

    monkeypatch.setattr(webhook_app.asset_events, "find_assets", fail)
    answer = post(url, UNKNOWN)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    assert "OperationalError" in caplog.text
    for shown in (answer.text, caplog.text):
        assert "private" not in shown
        assert "hunter2" not in shown


def test_no_answer_and_no_log_has_a_secret(url, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    texts = []
    for secret in (SECRET, "wrong-secret-0123456789"):
        for body in (UNKNOWN, b"{", {**UNKNOWN, "updatedRefs": [{"ref": SECRET, "oldSha": SECRET}]}):
            answer = post(url, body, secret=secret)
            texts.append(f"{answer.text}{answer.headers}")
    text = "".join([*texts, caplog.text, *capfd.readouterr()])
    assert "POST /xethub/webhook" in caplog.text
    assert SECRET not in text
    assert "wrong-secret" not in text


def test_both_secrets_count_while_one_takes_the_place_of_the_other(airflow_db, monkeypatch):
    monkeypatch.setenv(SETTING, f"{SECRET}, another-0123456789")
    with endpoint() as url:
        for secret in (SECRET, "another-0123456789"):
            assert post(url, UNKNOWN, secret=secret).status_code == 200
        assert post(url, UNKNOWN, secret=f"{SECRET}, another-0123456789").status_code == 401


def test_the_secret_may_come_from_a_command(airflow_db, monkeypatch, tmp_path, caplog):
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    script = tmp_path / "secret"
    script.write_text(f"#!/bin/sh\necho {SECRET}\n")
    script.chmod(stat.S_IRWXU)
    monkeypatch.setenv(f"{SETTING}_CMD", str(script))
    with endpoint() as url:
        assert post(url, UNKNOWN).status_code == 200
    script.write_text("#!/bin/sh\necho hunter2 >&2\nexit 3\n")
    assert XetHubPlugin().fastapi_apps == []
    assert "Airflow could not read [xethub] webhook_secret" in caplog.text
    assert "hunter2" not in caplog.text


class Vault(BaseSecretsBackend):
    """A secrets backend as an administrator sets one."""

    def get_config(self, key):
        return SECRET if key == "webhook/of/the/hub" else None


def test_the_secret_may_come_from_a_secrets_backend(airflow_db, monkeypatch):
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{__name__}.Vault")
    monkeypatch.setenv(f"{SETTING}_SECRET", "webhook/of/the/hub")
    with endpoint() as url:
        assert post(url, UNKNOWN).status_code == 200
        assert post(url, UNKNOWN, secret="webhook/of/the/hub").status_code == 401
