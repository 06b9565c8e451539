"""A keyless connection that somebody edited to collect ID tokens, or the tokens that they are exchanged for."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

import pytest
from airflow.configuration import conf
from cryptography.fernet import Fernet

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetIdentityError,
    XetRedirectError,
    XetTLSError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub.client import MAX_TRIES
from airflow_provider_xethub.xet.repo import Repo
from support.cloud_services import google, jwt
from support.private_network import Proxy, TlsFront, private_certificate
from support.small_server import Answer, SmallServer
from xethub_local.control.faults import Fault

HUB = "https://huggingface.co"
REPO = Repo("local/corpus", "dataset")
HOSTS = ("huggingface.co", "hub.example", "evil.example", "huggingface.co.evil.example")


@pytest.fixture
def hostile(tmp_path):
    """A server that takes any ID token, and to which the network leads for each of ``HOSTS``."""
    answer = Answer({"access_token": "hf_jwt_stolen", "token_type": "bearer", "expires_in": 3600})
    pem = private_certificate(tmp_path / "attacker.pem", *HOSTS)
    with SmallServer(answer) as server, TlsFront(urlsplit(server.url).port, pem) as front:
        routes = {f"{host}:{port}": front.port for host in HOSTS for port in (443, 444)}
        routes |= {f"{host}:80": urlsplit(server.url).port for host in HOSTS} | {
            host: urlsplit(server.url).port for host in HOSTS
        }
        with Proxy(routes=routes) as proxy:
            server.proxy, server.certificate = proxy, pem
            yield server


@pytest.fixture
def led_astray(hostile, monkeypatch):
    """The network of the workers belongs to the attacker, whose certificates they trust."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{hostile.proxy.address}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hostile.certificate))


@pytest.fixture
def metadata(monkeypatch):
    """The metadata server of Google Cloud, which issues an ID token for any audience."""
    from google.auth.compute_engine import _metadata

    with SmallServer(google(jwt)) as server:
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", server.url.removeprefix("http://"))
        yield server


@pytest.fixture
def edit(connection, id_file, hostile):
    """Sets the connection; returns the error of a task, after the Test button had its try."""
    id_file.write_text(jwt(HUB))

    def set_and_use(host=HUB, identity="file", **extra):
        named = {"identity": identity, "repo_id": REPO.repo_id, "repo_type": "dataset", **extra}
        if identity == "file":
            named.setdefault("identity_file", str(id_file))
        connection(host=host, password=None, extra=json.dumps(named))
        with pytest.raises(XetHubError) as caught:
            XetHubConnection().get_token(REPO, "write")
        is_ok, said = XetHubConnection().test_connection()
        assert not is_ok
        assert "eyJ" not in f"{caught.value} {said}"
        return caught.value

    return set_and_use


def test_the_attacker_gets_what_is_sent_to_an_allowed_hub(hostile, led_astray, connection, id_file, monkeypatch):
    """So that what the other tests find missing would be there."""
    id_file.write_text(jwt("https://hub.example"))
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", "https://hub.example")
    extra = {"identity": "file", "identity_file": str(id_file)}
    connection(host="https://hub.example", password=None, extra=json.dumps(extra))
    with pytest.raises(XetHubError):
        XetHubConnection().get_token(REPO, "write")
    assert json.loads(hostile.asked[0].body)["subject_token"] == jwt("https://hub.example")
    assert hostile.asked[1].headers["authorization"] == "Bearer hf_jwt_stolen"


@pytest.mark.parametrize("identity", ["file", "google"])
@pytest.mark.parametrize(
    "host",
    [
        "https://evil.example",
        "evil.example",
        "http://huggingface.co",
        "https://huggingface.co:444",
        "https://huggingface.co.evil.example",
        "https://huggingface.co@evil.example",
        "https://evil.example\\@huggingface.co",
        "https://evil.example#@huggingface.co",
        "https://evil.example/huggingface.co",
        "https://hugg\u0131ngface.co",
        "https://huggingface\u3002co",
        "https://huggingface.co/evil",
    ],
)
def test_another_host_gets_no_id_token_and_none_is_issued_for_it(hostile, led_astray, metadata, edit, identity, host):
    error = edit(host, identity)
    assert not error.retryable
    assert hostile.asked == []
    assert metadata.asked == []


@pytest.mark.parametrize("identity", ["file", "google"])
def test_a_server_on_this_machine_gets_no_id_token(hostile, metadata, edit, identity):
    error = edit(hostile.url, identity)
    assert isinstance(error, XetIdentityError)
    assert f"not for {hostile.url}" in str(error) if identity == "file" else "No identity may be sent" in str(error)
    assert hostile.asked == []
    assert metadata.asked == []


def test_a_proxy_cannot_pass_for_the_hub(hostile, edit):
    error = edit(proxy=f"http://{hostile.proxy.address}")
    assert isinstance(error, XetTLSError)
    assert "CONNECT huggingface.co:443" in hostile.proxy.through
    assert hostile.asked == []
    # Not with a certificate authority that the attacker was able to put on the workers, either.
    hostile.proxy.through.clear()
    error = edit(proxy=f"http://{hostile.proxy.address}", ca_bundle=str(hostile.certificate))
    assert "cannot choose its own CA bundle: leave ca_bundle empty, and set REQUESTS_CA_BUNDLE" in str(error)
    # A proxy could read all of plain http.
    assert "No identity may be sent" in str(edit("http://huggingface.co", proxy=f"http://{hostile.proxy.address}"))
    assert hostile.proxy.through == []


@pytest.mark.parametrize("name", ["Host", "hOST", "Transfer-Encoding", "Content-Length"])
def test_a_header_cannot_lead_to_another_server(hostile, led_astray, edit, name):
    error = edit(secret_headers=json.dumps({name: "evil.example"}))
    assert f"it cannot set the header '{name}'" in str(error)
    assert hostile.proxy.through == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_the_hub_is_not_followed(hub, hostile, keyless, publisher, make_repo, status):
    repo = make_repo()
    publisher(repo)
    for target in ("POST /oauth/token", "GET /api/datasets/.*"):
        hub.faults.add(Fault(target, status=status, headers={"Location": f"{hostile.url}/oauth/token"}))
        with pytest.raises(XetRedirectError):
            XetHubConnection().get_token(repo, "write")
        hub.faults.clear()
    assert hostile.asked == []


def secret_files(folder):
    """What lies on a worker and is no ID token for the Hub, by a name for the test."""
    config = folder / "airflow.cfg"
    config.write_text("[database]\nsql_alchemy_conn = postgresql://airflow:hunter2@db/airflow\n")
    (folder / "fernet").write_bytes(Fernet.generate_key())
    (folder / "other").write_text(jwt("https://kubernetes.default.svc"))
    (folder / "several").write_text(jwt([HUB, "https://kubernetes.default.svc"]))
    (folder / "access").write_text(f'{{"access_token": "{jwt(HUB)}"}}')
    return {
        "passwords": "/etc/passwd",
        "environment": "/proc/self/environ",
        "configuration": str(config),
        **{name: str(folder / name) for name in ("fernet", "other", "several", "access")},
    }


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize("name", ["passwords", "environment", "configuration", "fernet", "other", "several", "access"])
def test_no_other_file_is_sent(hostile, led_astray, edit, monkeypatch, tmp_path, name, is_listed):
    """Not where the administrator listed it by mistake, either."""
    path = secret_files(tmp_path)[name]
    if is_listed:
        monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_FILES", path)
    error = edit(identity_file=path)
    assert isinstance(error, XetIdentityError)
    assert ("is not allowed" in str(error)) is not is_listed
    assert hostile.asked == []
    for content in ("root:", "hunter2", "airflow:", "=" * 2, os.environ["PATH"]):
        assert content not in str(error)


@pytest.mark.parametrize("is_listed", [False, True])
def test_no_other_variable_is_sent(hostile, led_astray, edit, monkeypatch, is_listed):
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    if is_listed:
        monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_VARIABLES", name)
    error = edit(identity="variable", identity_variable=name)
    assert isinstance(error, XetIdentityError)
    assert ("is not allowed" in str(error)) is not is_listed
    assert conf.get("database", "sql_alchemy_conn") not in str(error)
    assert hostile.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        {"access_token": "{id_token}", "token_type": "bearer"},
        {"access_token": "hf_jwt_a\r\nX-Other: b", "token_type": "bearer"},
        {"access_token": "x" * 100_000, "token_type": "bearer"},
        {"access_token": ["hf_jwt_a"], "token_type": "bearer"},
        {"access_token": "hf_jwt_a", "token_type": "mac"},
        {"access_token": "hf_jwt_a", "token_type": "bearer", "expires_in": -1},
        {"access_token": "hf_jwt_a", "token_type": "bearer", "expires_in": True},
        "<html>eyJ</html>",
        "x" * 999_999,
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_garbled_exchange_is_an_error_and_nothing_is_sent_with_it(hub, keyless, id_file, repo, answer):
    body = (answer if isinstance(answer, str) else json.dumps(answer)).replace("{id_token}", id_file.read_text())
    hub.faults.add(Fault("POST /oauth/token", status=200, body=body, headers={"Content-Type": "application/json"}))
    hub.log.clear()
    with pytest.raises(XetHubError, match="the exchange of the ID token of file ") as caught:
        XetHubConnection().get_token(repo, "write")
    # What is neither JSON nor a page was damaged on its way: the same is asked again.
    is_damaged = isinstance(answer, str) and not answer.startswith("<html>")
    assert caught.value.retryable == is_damaged
    assert id_file.read_text() not in str(caught.value)
    assert len(hub.log.requests()) == len(hub.log.requests("POST /oauth/token")) == (MAX_TRIES if is_damaged else 1)


def test_a_token_of_another_repository_is_refused_by_the_hub_and_not_believed(hub, keyless, publisher, make_repo):
    """An exchange that is answered with an older response, for another repository."""
    one, other = make_repo(), make_repo(private=True)
    publisher(one)
    publisher(other)
    hook = XetHubConnection()
    replayed = hook.hub.exchanged_token(hook.hub.exchanged.of_repo(one))
    answer = json.dumps({"access_token": replayed, "token_type": "bearer", "expires_in": 3600})
    hub.faults.add(Fault("POST /oauth/token", status=200, body=answer, headers={"Content-Type": "application/json"}))
    with pytest.raises(XetHubError) as caught:
        hook.get_token(other, "write")
    assert replayed not in str(caught.value)
