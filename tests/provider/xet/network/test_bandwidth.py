"""A bounded transfer in a private network: through the proxy of the company, and to a CAS with a private authority."""

from __future__ import annotations

import json
import os
import time
from urllib.parse import quote

import pytest

from airflow_provider_xethub.exceptions import XetProxyError
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.cas import session as cas_session
from support.builders import write
from support.private_network import Proxy, TlsFront, private_certificate
from xethub_local.server import LocalHub

USER, PASSWORD = "anna", "p@ss/w:rd 7f3c"
RATE = 4_000_000
SIZE = 1_600_000


@pytest.fixture
def pem(tmp_path):
    return private_certificate(tmp_path / "authority.pem")


@pytest.fixture
def tls_hub(tmp_path, pem):
    with TlsFront(0, pem) as front, LocalHub(tmp_path / "tls", public_url=front.url) as hub:
        front.to_port = hub.port
        yield hub


@pytest.fixture
def proxy():
    with Proxy(USER, PASSWORD) as proxy:
        yield proxy


@pytest.mark.parametrize("source", ["connection", "environment", "none"])
def test_it_holds_over_tls_and_through_another_proxy(
    tls_hub, proxy, pem, source, connection, run_task, tmp_path, monkeypatch
):
    repo = tls_hub.create_repo("local/bounded", "dataset")
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "max_bandwidth": RATE}
    url = f"http://{USER}:{quote(PASSWORD, safe='')}@{proxy.address}"
    extra = {"ca_bundle": str(pem)} | ({"proxy": url} if source == "connection" else {})
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    if source == "environment":
        monkeypatch.setenv("HTTPS_PROXY", url)
    connection(host=tls_hub.url, password=tls_hub.token(), extra=json.dumps(extra))
    given = {"a.bin": os.urandom(SIZE)}

    for make in (
        lambda: run_task(XetUploadOperator, source=str(write(tmp_path / "in", given)), **where),
        lambda: run_task(XetDownloadOperator, destination=f"{tmp_path}/out/", path="a.bin", **where),
    ):
        proxy.through.clear()
        started = time.monotonic()
        run = make()
        assert run.state == "success", run.error
        assert time.monotonic() - started >= 0.9 * SIZE / RATE
        assert bool(proxy.through) == (source != "none")
        assert set(proxy.through) <= {f"CONNECT {tls_hub.url.removeprefix('https://')}"}
    assert (tmp_path / "out/a.bin").read_bytes() == given["a.bin"]
    assert not proxy.refused


def test_a_proxy_that_refuses_the_password_is_named(
    tls_hub, proxy, pem, connection, hook, run_task, tmp_path, monkeypatch
):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    repo = tls_hub.create_repo("local/bounded", "dataset")
    connection(host=tls_hub.url, password=tls_hub.token(), extra=json.dumps({"ca_bundle": str(pem)}))
    token = hook.seal_token(hook.get_token(repo, "write"))
    wrong = {"ca_bundle": str(pem), "proxy": f"http://{USER}:wrong-5c1d@{proxy.address}"}
    connection(host=tls_hub.url, password=tls_hub.token(), extra=json.dumps(wrong))
    source = str(write(tmp_path / "in", {"a.bin": os.urandom(100_000)}))

    run = run_task(XetUploadOperator, source=source, token=token, commit=False, max_bandwidth=RATE)

    assert isinstance(run.error, XetProxyError), run.error
    assert f"The proxy {proxy.address} " in str(run.error)
    assert "wrong-5c1d" not in run.text
