"""A worker in a private network: its own certificate authority, a proxy that wants a password, and no way out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from functools import partial
from urllib.parse import quote

import pytest
import requests

from airflow_provider_xethub.exceptions import XetConnectionError, XetInputError, XetProxyError, XetTLSError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.network import errors as network_errors
from airflow_provider_xethub.xet.network.settings import Network, host_and_port
from airflow_provider_xethub.xet.token import XetToken
from support.builders import TEXT, binary, names, write
from support.private_network import Proxy, TlsFront, private_certificate
from xethub_local.control.faults import Fault
from xethub_local.server import LocalHub

USER, PASSWORD = "anna", "p@ss/w:rd 7f3c"
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}"


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)


@pytest.fixture
def no_variables(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(tmp_path):
    """A Hub of its own: requests are counted here, and a transfer that another test stopped may still make some."""
    with LocalHub(tmp_path / "own") as hub:
        yield hub


@pytest.fixture
def pem(tmp_path):
    return private_certificate(tmp_path / "authority.pem")


@pytest.fixture
def tls_hub(tmp_path, pem):
    """A Hub and its CAS, which both have a certificate of a private authority."""
    with TlsFront(0, pem) as front, LocalHub(tmp_path / "tls", public_url=front.url) as hub:
        front.to_port = hub.port
        yield hub


@pytest.fixture
def proxy():
    with Proxy(USER, PASSWORD) as proxy:
        yield proxy


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN")}


def round_trip(hub, connection, tmp_path, **extra):
    """Upload a file that goes through CAS, one that streams and one that is stored inline; download all of them."""
    repo = hub.create_repo(f"local/r{os.urandom(6).hex()}", "dataset")
    connection(host=hub.url, password=hub.token(), extra=json.dumps(extra))
    hook = XetHubConnection()
    from airflow_provider_xethub.xet.publish.commit import CommitRequest

    content = {"a.bin": os.urandom(200_000), "b.csv": TEXT}
    source = write(tmp_path / "in", content)
    hook.publish(str(source), CommitRequest(repo, (), message="x"))
    streamed = hook.upload(f"file://{write(tmp_path / 'stored', {'c.bin': os.urandom(100_000)})}", repo)["files"]
    files = hook.list_files(repo)
    hook.download(tmp_path / "out", files)
    for name, each in content.items():
        assert (tmp_path / "out" / name).read_bytes() == each
    hook.download(f"file://{tmp_path}/stored-out/", [*files, *streamed])
    assert names(tmp_path / "stored-out") == [".gitattributes", "a.bin", "b.csv", "c.bin"]
    return hook, repo


# --- certificate authorities


@pytest.mark.parametrize(
    "kind",
    ["file", pytest.param("folder", marks=pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl"))],
)
def test_the_authorities_of_the_connection_are_trusted_by_the_hub_and_cas(tls_hub, connection, tmp_path, pem, kind):
    bundle = pem
    if kind == "folder":
        # The name by which OpenSSL looks for it.
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(pem)]
        name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        bundle = write(tmp_path / "authorities", {f"{name}.0": pem.read_bytes()})
    before = environment()
    round_trip(tls_hub, connection, tmp_path, ca_bundle=str(bundle))
    assert environment() == before


def test_without_them_nothing_is_sent_and_the_hub_is_named(tls_hub, connection, run_task, tmp_path):
    connection(host=tls_hub.url, password=tls_hub.token())
    source = str(write(tmp_path / "in", {"a.bin": binary()}))
    run = run_task(XetUploadOperator, source=source, repo_id="local/r", repo_type="dataset")
    assert (run.state, isinstance(run.error, XetTLSError)) == ("failed", True)
    assert f"The certificate of the Hub at {tls_hub.url} is not trusted here" in str(run.error)
    assert not tls_hub.log.requests()


@pytest.fixture
def token_of(tls_hub, pem):
    """Fetches a token for an empty repository, as a task with the right connection does."""
    repo = tls_hub.create_repo("local/r", "dataset")

    def fetch(scope="write") -> XetToken:
        return hub_module.Hub(tls_hub.url, tls_hub.token(), network=Network(str(pem))).xet_token(repo, scope)

    return fetch


@pytest.mark.parametrize("direction", ["upload", "stream", "download", "download stream"])
def test_without_them_cas_is_named(tls_hub, token_of, tmp_path, direction):
    token = token_of()
    hook = XetHubConnection(None)
    folder = write(tmp_path / "in", {"a.bin": binary()})
    record = {"path": "a.bin", "size": 5, "sha256": "0" * 64, "xet_hash": "1" * 64, "repo": token.repo.uri}
    tls_hub.log.clear()
    out = tmp_path / "out"
    work = {
        "upload": partial(hook.upload, str(folder), token.repo, token=token),
        "stream": partial(hook.upload, f"file://{folder}", token.repo, token=token),
        "download": partial(hook.download, out, [record], token=token),
        "download stream": partial(hook.download, f"file://{out}/", [record], token=token),
    }[direction]
    with pytest.raises(XetTLSError) as caught:
        work()
    assert str(caught.value).startswith(f"The certificate of CAS at {tls_hub.url} is not trusted here. Set ")
    assert "Set ca_bundle in the connection (SSL_CERT_FILE on a worker without the connection)." in str(caught.value)
    assert not caught.value.retryable
    assert not tls_hub.log.requests()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_worker_without_a_connection_trusts_whom_its_environment_says(
    tls_hub, token_of, tmp_path, pem, monkeypatch, name, no_variables
):
    token = token_of()
    monkeypatch.setenv(name, str(pem))
    hook = XetHubConnection(None)
    assert hook.upload(str(write(tmp_path / "in", {"a.bin": binary()})), token.repo, token=token)["files"]
    # An error of another kind is not taken for one of trust.
    tls_hub.faults.add(Fault(".* /cas/.*/v1/.*", drop="before"))
    with pytest.raises(XetConnectionError, match=f"CAS at {tls_hub.url}/cas/.* could not be reached"):
        hook.upload(str(write(tmp_path / "in2", {"b.bin": os.urandom(5000)})), token.repo, token=token)


# --- proxy


def test_the_hub_and_cas_are_reached_through_the_proxy_and_nothing_else_is(hub, connection, tmp_path, proxy):
    assert "127.0.0.1" in os.environ["NO_PROXY"]  # it is the connection's proxy, wherever the Hub is
    seen: list[bool] = []
    done = threading.Event()
    with LocalHub(tmp_path / "other") as other:

        def speak_to_others():
            session = requests.Session()
            while not done.is_set():
                seen.append(session.get(f"{other.url}/api/models").ok)

        speaking = threading.Thread(target=speak_to_others)
        speaking.start()
        before = environment()
        try:
            round_trip(hub, connection, tmp_path, proxy=f"http://{LOGIN}@{proxy.address}")
        finally:
            done.set()
            speaking.join()
        assert environment() == before
        assert not [each for each in proxy.through if str(other.port) in each]
    assert seen
    assert all(seen)
    asked = [f"{each.method} {hub.url}{each.path}" for each in hub.log.requests()]
    through = [each.partition("?")[0] for each in proxy.through]
    assert sorted(through) == sorted(asked)
    assert proxy.refused == 0
    for part in (
        "xet-write-token",
        "/preupload/",
        "/commit/",
        "/xorb-grants/",
        "/v2/shards",
        "/reconstructions/",
        "/data/",
    ):
        assert any(part in each for each in through), part


def test_what_is_encrypted_goes_through_the_proxy_as_it_is(tls_hub, connection, tmp_path, proxy, pem):
    round_trip(tls_hub, connection, tmp_path, proxy=f"http://{LOGIN}@{proxy.address}", ca_bundle=str(pem))
    assert set(proxy.through) == {f"CONNECT {tls_hub.url.removeprefix('https://')}"}


def test_the_next_token_of_a_long_transfer_comes_through_the_proxy_too(hub, repo, connection, proxy, tmp_path):
    connection(extra=json.dumps({"proxy": f"http://{LOGIN}@{proxy.address}"}))
    hub.token_life = 31
    hook = XetHubConnection()
    token = hook.get_token(repo, "write")
    hub.faults.add(Fault("POST /cas/.*/v1/xorb-grants/.*", delay=1.5, times=1))
    hook.upload(str(write(tmp_path / "in", {"a.bin": os.urandom(5000)})), repo, token=token)
    asked = [each for each in proxy.through if "xet-write-token" in each]
    assert len(asked) == len(hub.log.requests(".*xet-write-token.*")) >= 2
    assert all(f"127.0.0.1:{hub.port}" in each for each in proxy.through)  # not what the client asks of this process


def test_the_next_token_comes_past_the_proxy_of_the_environment_to_this_process(
    hub, repo, connection, proxy, tmp_path, monkeypatch, no_variables
):
    monkeypatch.setenv("http_proxy", f"http://{LOGIN}@{proxy.address}")
    monkeypatch.setenv("no_proxy", "other.example")
    hub.token_life = 31
    connection()
    hook = XetHubConnection()
    token = hook.get_token(repo, "write")
    hub.faults.add(Fault("POST /cas/.*/v1/xorb-grants/.*", delay=1.5, times=1))
    hook.upload(str(write(tmp_path / "in", {"a.bin": os.urandom(5000)})), repo, token=token)
    assert len([each for each in proxy.through if "xet-write-token" in each]) >= 2
    assert all(f"127.0.0.1:{hub.port}" in each for each in proxy.through)


def test_no_proxy_is_for_the_relay_alone(monkeypatch, no_variables):
    assert Network(None, "http://p:1").environment("127.9.9.9")["NO_PROXY"] == "127.9.9.9"
    assert Network().environment("127.9.9.9") == {}
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    assert Network().environment("127.9.9.9") == {"NO_PROXY": "127.9.9.9"}
    monkeypatch.setenv("no_proxy", "a.example")
    assert Network().environment("127.9.9.9") == {"NO_PROXY": "a.example,127.9.9.9"}
    monkeypatch.setenv("NO_PROXY", "b.example")
    assert Network().environment("127.9.9.9") == {"NO_PROXY": "b.example,127.9.9.9"}
    assert Network().environment() == {}


WRONG = "wr0ng%2Dsecret"


@pytest.mark.parametrize("service", ["Hub", "CAS"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("trouble", "kind", "says"),
    [
        ("password", XetProxyError, "requires a (different) username and password (407)"),
        ("closed", XetConnectionError, "could not be reached (connection refused)"),
        ("name", XetConnectionError, "could not be reached (the host name could not be resolved)"),
    ],
)
def test_a_wrong_proxy_is_named_without_its_credential(
    hub, tls_hub, pem, proxy, connection, tmp_path, service, scheme, trouble, kind, says, caplog
):
    server = hub if scheme == "http" else tls_hub
    repo = server.create_repo(f"local/r{os.urandom(6).hex()}", "dataset")
    token = hub_module.Hub(server.url, server.token(), network=Network(str(pem))).xet_token(repo, "write")
    address = {"password": proxy.address, "closed": f"127.0.0.1:{closed_port()}", "name": "proxy.invalid:3128"}[trouble]
    extra = {"proxy": f"http://{USER}:{WRONG}@{address}", "ca_bundle": str(pem)}
    connection(host=server.url, password=server.token(), extra=json.dumps(extra))
    hook = XetHubConnection()
    server.log.clear()
    source = str(write(tmp_path / "in", {"a.bin": binary()}))
    work = hook.whoami if service == "Hub" else partial(hook.upload, source, repo, token=token)
    with pytest.raises(XetConnectionError) as caught:
        work()
    assert isinstance(caught.value, kind)
    assert caught.value.retryable == (kind is XetConnectionError)
    name = "the Hub" if service == "Hub" else "CAS"
    assert str(caught.value).startswith(f"The proxy {address} {says}. ")
    assert f"It is on the way to {name} at {server.url}; the " in str(caught.value)
    assert "proxy in the connection" in str(caught.value)
    for secret in (WRONG, "wr0ng", USER + ":"):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value)
        assert secret not in caplog.text
    assert not server.log.requests()
    works, message = hook.test_connection() if service == "Hub" else (False, str(caught.value))
    assert not works
    assert f"The proxy {address}" in message


def test_a_wrong_proxy_of_the_environment_is_named_too(hub, repo, tmp_path, monkeypatch, no_variables):
    token = hub_module.Hub(hub.url, hub.token()).xet_token(repo, "write")
    port = closed_port()
    monkeypatch.setenv("HTTP_PROXY", f"http://{USER}:{WRONG}@127.0.0.1:{port}")
    with pytest.raises(XetConnectionError) as caught:
        XetHubConnection(None).upload(str(write(tmp_path / "in", {"a.bin": binary()})), repo, token=token)
    assert f"The proxy 127.0.0.1:{port} could not be reached (connection refused). Check" in str(caught.value)
    assert "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY on this worker." in str(caught.value)
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("socks5h://anna:wr0ng@127.0.0.1:1", "A SOCKS proxy needs the package PySocks on this worker. Install"),
        ("socks4://127.0.0.1:1", "A SOCKS proxy needs the package PySocks on this worker. Install"),
        *(
            (value, "The proxy URL of this worker is invalid. Set ")
            for value in (
                "nonsense://anna:wr0ng@proxy:1",
                "http://anna:wr0ng",
                "http://wr0ng@[::1",
            )
        ),
    ],
)
@pytest.mark.parametrize("service", ["Hub", "CAS"])
def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(monkeypatch, no_variables, value, says, service):
    if value.startswith("socks"):
        monkeypatch.setattr("requests.adapters.SOCKSProxyManager", _without_pysocks)
    monkeypatch.setenv("ALL_PROXY", value)
    url = "http://hub.example"
    if service == "Hub":
        with pytest.raises(XetProxyError) as caught:
            hub_module.Hub(url).whoami()
        error = caught.value
    else:
        error = network_errors.probe(url, about="the upload", service="CAS", network=Network())
    assert isinstance(error, XetProxyError)
    assert str(error).startswith(says)
    assert "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY" in str(error)
    assert "wr0ng" not in repr(error)


def _without_pysocks(*_, **__):
    raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://anna:pa/ss@proxy:1/", "proxy:1"),
        ("anna:p#a?ss@proxy:1", "proxy:1"),
        ("http://a:p@ss@proxy:1", "proxy:1"),
        ("proxy:1", "proxy:1"),
        ("http://proxy", "proxy"),
    ],
)
def test_of_a_proxy_only_host_and_port_are_shown(url, shown):
    assert host_and_port(url) == shown


def test_a_proxy_that_forbids_is_final_and_one_in_trouble_is_not():
    about = {
        "about": "the upload",
        "service": "CAS",
        "url": "https://cas.example",
        "network": Network(None, "http://p:1"),
    }
    forbidden = network_errors.proxy_error(403, **about)
    assert isinstance(forbidden, XetProxyError)
    assert "blocks https://cas.example (403). Ask its administrator" in str(forbidden)
    assert "to allow it, or correct proxy in the connection" in str(forbidden)
    assert network_errors.proxy_error(503, **about).retryable


@pytest.mark.parametrize(
    "value",
    ["proxy.example:3128", "socks5://proxy:1080", "http://", "http://[::1", "http://p:x", "http://a b", "http://p/x"],
)
def test_a_proxy_that_is_none_is_refused_without_showing_it(connection, value):
    connection(extra=json.dumps({"proxy": value}))
    with pytest.raises(XetInputError) as caught:
        XetHubConnection().whoami()
    assert "The extra 'proxy' of connection 'xethub_default' is not the URL of a proxy" in str(caught.value)


# --- no network at all


@pytest.mark.parametrize(
    ("host", "says"), [("127.0.0.1", "connection refused"), ("cas.invalid", "the host name could not be resolved")]
)
def test_a_worker_that_cannot_reach_cas_is_told_why(hub, repo, tmp_path, host, says, no_variables):
    url = f"http://{host}:{closed_port()}"
    token = replace(hub_module.Hub(hub.url, hub.token()).xet_token(repo, "write"), cas_url=url)
    with pytest.raises(XetConnectionError) as caught:
        XetHubConnection(None).upload(str(write(tmp_path / "in", {"a.bin": binary()})), repo, token=token)
    assert str(caught.value) == (
        f"CAS at {url} could not be reached ({says}). Check the network and the proxy. This ended the upload of 1 file "
        f"to {repo}."
    )
    assert caught.value.retryable


def test_where_only_the_data_cannot_be_reached_that_host_is_named(connection, tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        repo = hub.create_repo("local/r", "dataset")
        connection(host=hub.url, password=hub.token())
        source = write(tmp_path / "in", {"a.bin": binary()})
        records = XetHubConnection().upload(str(source), repo)["files"]
    # Data URLs that lead elsewhere, as those of the real CAS do.
    elsewhere = f"http://127.0.0.1:{closed_port()}"
    with LocalHub(tmp_path / "hub", public_url=elsewhere) as hub:
        url = f"http://127.0.0.1:{hub.port}"
        token = hub_module.Hub(url, hub.token()).xet_token(repo, "read")
        token = replace(token, cas_url=token.cas_url.replace(elsewhere, url))
        with pytest.raises(
            XetConnectionError, match=f"^CAS at {elsewhere} could not be reached .*This ended the download"
        ):
            XetHubConnection(None).download(tmp_path / "out", records, token=token)
    assert names(tmp_path / "out") == []


def test_the_connection_decides_for_no_other_connection(hub, connection, repo, proxy, tmp_path):
    connection("through_proxy", extra=json.dumps({"proxy": f"http://{LOGIN}@{proxy.address}"}))
    source = str(write(tmp_path / "in", {"a.bin": binary()}))
    XetHubConnection("through_proxy").upload(source, repo)
    before = len(proxy.through)
    assert before
    XetHubConnection().upload(source, repo)
    assert len(proxy.through) == before


def test_a_download_stops_being_tried_at_a_proxy_that_refuses(hub, connection, repo, run_task, proxy, tmp_path):
    connection(extra=json.dumps({"proxy": f"http://{USER}:{WRONG}@{proxy.address}"}))
    record = {"path": "a.bin", "size": 5, "sha256": "0" * 64, "xet_hash": "1" * 64, "repo": repo.uri}
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=[record])
    assert (run.state, isinstance(run.error, XetProxyError)) == ("failed", True)


def test_what_the_client_knows_itself_is_left_as_it_is(monkeypatch, no_variables):
    monkeypatch.setenv("SSL_CERT_FILE", "/for/the/client.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/for/requests.pem")
    assert Network().environment() == {}
    assert Network("/of/the/connection.pem").environment() == {"SSL_CERT_FILE": "/of/the/connection.pem"}
    monkeypatch.delenv("SSL_CERT_FILE")
    assert Network().environment() == {"SSL_CERT_FILE": "/for/requests.pem"}
