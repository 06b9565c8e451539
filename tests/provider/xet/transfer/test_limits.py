"""Caps on a task's requests at a time and bytes per second: they hold in both directions."""

from __future__ import annotations

import base64
import os
import time
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.cas import streams
from airflow_provider_xethub.xet.cas.limits import TransferLimits
from support.builders import content, publish, write
from xethub_local.control.faults import Fault
from xethub_local.control.presets import PRESETS

CONTENT = PRESETS["crowded-link"].fault.route
MANY = 64


@pytest.fixture
def count(hub):
    """Return the most requests with content that are open at the same time, each for long enough to be seen."""
    link = hub.faults.link(hub.faults.add(Fault(CONTENT, bandwidth=4_000_000, max_open=MANY)))
    return lambda: link.most_open


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def files(several, size):
    return {f"{number}.bin": os.urandom(size) for number in range(several)}


def timed(work):
    started = time.monotonic()
    result = work()
    return time.monotonic() - started, result


def test_a_download_has_no_more_requests_than_allowed(count, where, repo, tmp_path, run_task):
    given = files(12, 100_000)
    for name, data in given.items():  # a xorb each
        publish(repo, tmp_path / name, {name: data})
    count_before = count()

    run = run_task(XetDownloadOperator, destination=f"{tmp_path}/out/", max_concurrency=2, **where)

    assert run.value
    assert count_before <= 2
    assert count() == 2
    assert {name: (tmp_path / "out" / name).read_bytes() for name in given} == given


def test_streams_have_no_more_requests_than_allowed(count, connection, repo, tmp_path):
    given = files(6, 100_000)
    records = [publish(repo, tmp_path / name, {name: data})[0] for name, data in given.items()]
    connection(extra={"max_concurrency": "1"})
    found = {}

    def consume(number, pieces):
        found[records[number]["path"]] = b"".join(pieces)

    def work(access):
        return streams.fetch(access, [(file["xet_hash"], file["size"]) for file in records], consume)

    XetHubConnection().with_cas_access(None, "read", repo, work, limits=TransferLimits(concurrency=3))

    assert found == given
    assert count() == 1  # that of the connection is the most


def test_a_download_is_bounded_to_the_bandwidth_of_the_task(hub, where, repo, tmp_path, run_task):
    given = files(2, 2_000_000)
    publish(repo, tmp_path, given)

    took, run = timed(
        lambda: run_task(XetDownloadOperator, destination=f"{tmp_path}/out/", max_bandwidth="4MB", **where)
    )

    assert run.value
    assert took >= 0.9
    assert {name: (tmp_path / "out" / name).read_bytes() for name in given} == given


def test_an_upload_is_bounded_to_the_bandwidth_of_the_connection(hub, connection, where, repo, tmp_path, run_task):
    connection(extra={"max_bandwidth": "4MB"})
    given = files(2, 2_000_000)

    took, run = timed(
        lambda: run_task(
            XetUploadOperator, source=str(write(tmp_path / "in", given)), max_bandwidth="{{ '1GB' }}", **where
        )
    )

    assert run.value
    assert took >= 0.9
    assert content(hub, repo, "1.bin", tmp_path) == given["1.bin"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"max_concurrency": 0}, "The extra 'max_concurrency' of connection 'xethub_default' must be a whole number"),
        ({"max_concurrency": "many"}, "from 1 to 64, not 'many'"),
        ({"max_bandwidth": "fast"}, "The extra 'max_bandwidth' of connection 'xethub_default' must be a number of"),
        ({"min_rate": 0}, "The extra 'min_rate' of connection 'xethub_default' must be a number of bytes"),
        ({"min_rate": "1MB", "max_bandwidth": "1MB"}, "min_rate (1.0 MB/s) must be below max_bandwidth (1.0 MB/s)"),
        ({"max_bandwidth": "1MB", "proxy": "https://127.0.0.1:1"}, "max_bandwidth needs an http:// proxy or none"),
    ],
)
def test_a_wrong_cap_is_refused(extra, says, connection, where, repo, tmp_path, run_task):
    [record] = publish(repo, tmp_path, {"a.bin": os.urandom(100_000)})
    connection(extra=extra)

    run = run_task(XetDownloadOperator, files=[record], destination=f"{tmp_path}/out/", **where)

    assert isinstance(run.error, XetInputError), run.error
    assert says in str(run.error)
    assert not (tmp_path / "out/a.bin").exists()


def test_the_proxy_of_the_limit_serves_nothing_but_proxy_requests(hub):
    import socket

    from airflow_provider_xethub.xet.network import bandwidth

    url = bandwidth.relay(1_000_000, None, hub.url)
    assert url == bandwidth.relay(1_000_000, None, hub.url)
    place = urlsplit(url)
    user = base64.b64encode(f"{place.username}:{place.password}".encode())
    with socket.create_connection((place.hostname, place.port), 5) as client:
        client.sendall(b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic " + user + b"\r\n\r\n")
        assert client.recv(100) == b""


@pytest.mark.parametrize("user", ["", "xethub:guessed@"], ids=["nothing", "another password"])
def test_the_proxy_that_bounds_the_bandwidth_serves_nobody_else(hub, user):
    from airflow_provider_xethub.xet.network import bandwidth

    url = bandwidth.relay(1_000_000, None, hub.url)
    foreign = f"http://{user}{url.rpartition('@')[2]}"
    hub.log.clear()
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(hub.url, proxies={"http": foreign}, timeout=10).status_code == 407
        with pytest.raises(requests.ConnectionError, match="407"):
            session.get(hub.url.replace("http:", "https:"), proxies={"https": foreign}, timeout=10)
        assert hub.log.requests() == []
        assert session.get(hub.url, proxies={"http": url}, timeout=10).status_code != 407
