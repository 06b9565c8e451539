"""The password of the proxy that bounds the bandwidth leaves the task's process by no way, and no server gets it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas.limits import TransferLimits
from airflow_provider_xethub.xet.network import bandwidth
from support.builders import binary, publish, write
from support.private_network import Proxy
from support.secret_values import assert_absent
from support.small_server import Answer, SmallServer
from xethub_local.control.faults import Fault

RATE = 50_000_000


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def own(url: str) -> set[str]:
    """Return the forms in which the password of the proxy with this URL is sent."""
    parts = urlsplit(url)
    assert parts.password
    return {parts.password, base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()}


def test_the_errors_of_the_client_do_not_show_it(hub, where, repo, tmp_path, run_task, seen, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    records = publish(repo, tmp_path / "before", {"a.bin": binary()})
    source = str(write(tmp_path / "in", {"b.bin": os.urandom(5000)}) / "b.bin")
    secrets = own(bandwidth.relay(RATE, None, hub.url))
    password, encoded = sorted(secrets, key=len)
    for answer in (
        {"status": 400, "body": json.dumps({"error": f"bad: {password} {encoded}"})},
        {"status": 302, "headers": {"Location": f"http://127.0.0.1:1/{password}/{encoded}"}},
        {"status": 302, "headers": {"Location": f"nonsense://{password}/{encoded}"}},
    ):
        hub.faults.add(Fault(".* /cas/.*", **answer))
        for run in (
            run_task(XetDownloadOperator, files=records, destination=f"{tmp_path}/out/", max_bandwidth=RATE, **where),
            run_task(XetUploadOperator, source=source, max_bandwidth=RATE, **where),
        ):
            assert seen.run(run).error
        hub.faults.clear()
    access = XetHubConnection().cas_access(TransferLimits(bandwidth=RATE))(XetHubConnection().get_token(repo, "read"))
    with pytest.raises(XetHubError) as caught, cas_session.translated_errors(access, "the upload", upload=True):
        raise RuntimeError(f"Network error: 407 from http://xethub:{password}@127.0.0.1:1 for Basic {encoded}")
    seen.add(caught.value)
    assert_absent(secrets, seen.text())


def test_a_task_with_it_shows_it_nowhere(hub, where, repo, tmp_path, run_task, seen, monkeypatch):
    """Neither in logs, XComs and rendered fields, nor in environment and command line of it and its children."""
    hidden = []
    looks = threading.Event()

    def look():
        while not looks.wait(0.01):
            done = subprocess.run(["env"], capture_output=True, text=True, check=True)
            hidden.extend([done.stdout, Path("/proc/self/environ").read_bytes().decode()])
            hidden.append(json.dumps(dict(os.environ)))

    looking = threading.Thread(target=look)
    looking.start()
    source = str(write(tmp_path / "in", {"b.bin": os.urandom(200_000)}) / "b.bin")
    try:
        up = seen.run(run_task(XetUploadOperator, source=source, max_bandwidth=RATE, **where))
        down = run_task(XetDownloadOperator, destination=f"{tmp_path}/out/", max_bandwidth=RATE, **where)
    finally:
        looks.set()
        looking.join()
    assert (up.state, seen.run(down).state) == ("success", "success")
    url = bandwidth.relay(RATE, None, hub.url)
    hook = XetHubConnection()
    access = hook.cas_access(TransferLimits(bandwidth=RATE))(hook.get_token(repo, "read"))
    seen.add(bandwidth.Relay, access, access.all_secrets(), *bandwidth._RUNNING.values())
    seen.add(*(Path(f"/proc/{os.getpid()}/{name}").read_bytes() for name in ("cmdline", "environ")), *hidden)
    assert len(hidden) >= 3
    assert_absent(own(url), seen.text())


@pytest.mark.parametrize("upstream", [False, True], ids=["CAS", "another proxy"])
def test_no_server_gets_it(upstream):
    """The client names it in each request over plain http; it is for this proxy only."""
    import requests

    here = Answer(b"here", headers={"Connection": "close"})  # as servers answer a request that ends with it
    with SmallServer(here) as server, Proxy() as other, requests.Session() as session:
        url = bandwidth.relay(RATE, f"http://{other.address}" if upstream else None, server.url)
        session.trust_env = False
        for _ in range(3):  # over one connection, if the proxy keeps it
            assert session.get(f"{server.url}/a", proxies={"http": url}, timeout=10).content == b"here"
        heads = [{name.lower() for name in asked.headers} for asked in server.asked]
        assert len(heads) == 3
        assert other.through == [f"GET {server.url}/a"] * 3 * upstream
        assert not any("proxy-authorization" in head for head in heads)


def test_a_proxy_without_a_password_does_not_get_it_either():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = urlsplit(bandwidth.relay(RATE, f"http://127.0.0.1:{listener.getsockname()[1]}", "https://cas.example"))
        user = base64.b64encode(f"{url.username}:{url.password}".encode())
        with socket.create_connection((url.hostname, url.port), 5) as client:
            head = b"CONNECT cas.example:443 HTTP/1.1\r\nHost: cas.example:443\r\n"
            client.sendall(head + b"Proxy-Authorization: Basic " + user + b"\r\n\r\n")
            passed_on, _ = listener.accept()
            with passed_on:
                passed_on.settimeout(5)
                assert passed_on.recv(1000) == head + b"\r\n"
