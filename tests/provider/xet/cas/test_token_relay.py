"""The refresh route for the client: what it returns, to whom, and what a transfer reports about it."""

from __future__ import annotations

import gc
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pendulum
import pytest
import requests

from airflow_provider_xethub.exceptions import (
    XetForbiddenError,
    XetHubError,
    XetRedirectError,
    XetServerError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas import token_relay
from airflow_provider_xethub.xet.cas.token_relay import Refresh
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import XetToken
from support.builders import write
from support.small_server import Answer, SmallServer
from xethub_local.control.faults import Fault

SECRET = "proxy-key-5e1f0c"
TOKEN = XetToken(
    Repo("acme/m"),
    "read",
    "https://cas.example",
    pendulum.from_timestamp(4_000_000_000),
    access_token="xet-access",
)


@pytest.fixture
def relayed():
    """A session that asks a refresh route as the client does, past any proxy."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_only_who_has_the_key_is_answered(relayed):
    refresh = Refresh(lambda: TOKEN)
    route = refresh.route()
    asked = relayed.get(route.url, headers=route.headers)
    assert asked.json() == {
        "accessToken": "xet-access",
        "exp": TOKEN.local_expiry,
        "casUrl": "https://cas.example",
    }
    other = Refresh(lambda: TOKEN).route().headers
    for headers in ({}, other, {"Authorization": "Bearer "}, {"Authorization": "Bearer \xe9"}):
        assert relayed.get(route.url, headers=headers).status_code == 401
    assert relayed.get(f"{route.url}9", headers=route.headers).status_code == 401
    assert relayed.post(route.url, headers=route.headers).status_code == 501
    assert relayed.get(route.url, headers=route.headers).status_code == 200


def test_it_listens_on_loopback_only_and_ends_with_the_transfer(relayed):
    refresh = Refresh(lambda: TOKEN)
    route = refresh.route()
    assert route.host.startswith("127.")
    assert token_relay._relay.socket.getsockname()[0] == route.host
    assert "xet-access" not in repr(refresh)
    del refresh
    gc.collect()
    assert relayed.get(route.url, headers=route.headers).status_code == 401


def test_who_asks_meanwhile_gets_the_same_answer(relayed):
    asked = []
    arrived = threading.Semaphore(0)

    def fetch():
        asked.append(1)
        if len(asked) == 1:  # goes on when all five have asked
            assert all(arrived.acquire(timeout=60) for _ in range(5))
        return TOKEN

    class Turn:
        """Counts who waits for their turn."""

        def __enter__(self):
            arrived.release()
            turn.acquire()

        def __exit__(self, *_):
            turn.release()

    refresh = Refresh(fetch)
    turn, refresh._turn = refresh._turn, Turn()
    route = refresh.route()
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(refresh.answer(route.headers["Authorization"])[0]))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (statuses, len(asked)) == ([200] * 5, 1)
    assert relayed.get(route.url, headers=route.headers).ok
    assert len(asked) == 2


@pytest.mark.parametrize("error", [XetServerError("down", status=500), ValueError("odd"), RecursionError()])
def test_a_failure_is_kept_until_there_is_a_token(relayed, error):
    def fetch():
        if failing:
            raise error
        return TOKEN

    failing = [True]
    refresh = Refresh(fetch)
    route = refresh.route()
    assert relayed.get(route.url, headers=route.headers).status_code == 403
    assert refresh.failure is error or type(refresh.failure) is XetHubError
    failing.clear()
    assert relayed.get(route.url, headers=route.headers).status_code == 200
    assert refresh.failure is None


def test_a_caller_that_sends_nothing_does_not_stop_others(relayed):
    refresh = Refresh(lambda: TOKEN)
    route = refresh.route()
    host, port = re.search(r"//([^:]+):(\d+)/", route.url).groups()
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    silent[0].sendall(b"GET / HTTP/9.9\r\n\x00\xff: \r\n\r\n")
    assert relayed.get(route.url, headers=route.headers, timeout=5).ok
    for each in silent:
        each.close()


def test_a_child_process_has_a_relay_of_its_own(relayed):
    refresh = Refresh(lambda: TOKEN)
    before = refresh.route()
    code = "\n".join(
        [
            "import os, pendulum, urllib.request as u",
            "from airflow_provider_xethub.xet.cas.token_relay import Refresh",
            "from airflow_provider_xethub.xet.token import XetToken",
            "from airflow_provider_xethub.xet.repo import Repo",
            "t = XetToken(Repo('a/m'), 'read', 'https://c', pendulum.from_timestamp(4000000000), access_token='x')",
            "r = Refresh(lambda: t); one = r.route()",
            "pid = os.fork()",
            "two = r.route()",
            "ask = u.build_opener(u.ProxyHandler({})).open",
            "status = ask(u.Request(two.url, headers=two.headers), timeout=5).status",
            "os.write(1, f'{status}\\n'.encode())",  # print may write the end of the line on its own
            "assert (one.url.split('/')[2] == two.url.split('/')[2]) == bool(pid)",
            "pid and os.waitpid(pid, 0)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["200", "200"], done.stderr
    assert relayed.get(before.url, headers=before.headers).ok


def test_where_nothing_can_listen_a_transfer_has_no_refresh_route(monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(token_relay, "_relay", None)
    monkeypatch.setattr(token_relay, "_Relay", refuse)
    begun = {}
    access = cas_session.CasAccess(TOKEN, refresh=Refresh(lambda: TOKEN))
    cas_session.begin(access, lambda **options: begun.update(options))
    assert set(begun) == {"endpoint", "token", "token_expiry_unix_secs"}
    assert "This worker cannot listen on loopback" in caplog.text


# --- transfers


@pytest.fixture
def gateway(hub):
    """A gateway in front of the Hub: it requires its header, and can redirect refresh requests."""

    def answer(asked):
        if asked.headers.get("x-gate") != SECRET:
            return Answer({"error": "who are you?"}, 403)
        again = len([each for each in server.asked if "-token/" in each.path]) > 1
        if again and server.refresh is not None:
            return server.refresh
        headers = {"Authorization": asked.headers["authorization"]}
        got = requests.request(asked.method, f"{hub.url}{asked.target}", headers=headers, data=asked.body, timeout=9)
        return Answer(got.content, got.status_code, {"Content-Type": got.headers["Content-Type"]})

    with SmallServer(answer) as server:
        server.refresh = None
        yield server


@pytest.fixture
def long_transfer(hub, repo, connection, gateway, tmp_path, monkeypatch):
    """Does an upload that outlives its first token."""
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)

    def upload():
        connection(host=gateway.url, password=hub.token(), extra=json.dumps({"secret_headers": {"X-Gate": SECRET}}))
        hub.access.token_life = 31
        hook = XetHubConnection()
        token = hook.get_token(repo, "write")
        hub.access.token_life = 900
        hub.faults.add(Fault("POST /cas/.*/v1/xorb-grants/.*", delay=1.5, times=1))
        hub.faults.add(Fault("GET /cas/.*/v1/chunks/.*", delay=1.5, times=1))
        source = write(tmp_path / "in", {"a.bin": os.urandom(200_000)})
        return hook.upload(str(source), repo, token=token, deduplicate=True)

    yield upload
    hub.faults.clear()


def test_a_long_transfer_works_behind_a_gateway_that_wants_a_secret_header(long_transfer, gateway):
    assert len(long_transfer()["files"]) == 1
    assert len([each for each in gateway.asked if "-token/" in each.path]) == 2


def test_a_refresh_is_not_followed_to_another_origin(long_transfer, gateway):
    with SmallServer(Answer({})) as elsewhere:
        gateway.refresh = Answer(b"", 307, {"Location": f"{elsewhere.url}/xet-write-token/main"})
        with pytest.raises(XetRedirectError, match=f"redirects to {elsewhere.url}. Check the host of the conn"):
            long_transfer()
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (
            Answer({"error": f"no {SECRET}"}, 403),
            XetForbiddenError,
            r"to the write token request .* The Hub says: no \*\*\*",
        ),
        (Answer({"error": "down"}, 500), XetServerError, "the write token request"),
    ],
)
def test_a_refresh_that_fails_says_why(long_transfer, gateway, answer, kind, says):
    gateway.refresh = answer
    with pytest.raises(kind, match=says) as caught:
        long_transfer()
    assert SECRET not in str(caught.value)
