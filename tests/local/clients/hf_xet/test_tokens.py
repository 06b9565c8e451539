"""Tokens and what they open, as the real transfer client meets it; and the same asked by hand."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hf_xet
import pytest
import requests

from support.xet_client import MIB, bearer, download, session_with, upload
from xethub_local.server import LocalHub

if TYPE_CHECKING:
    from support.running_cas import RunningCas

ROUTES = [
    ("GET", "/v1/chunks/default/{}"),
    ("POST", "/v1/xorb-grants/default/{}"),
    ("POST", "/v1/xorbs/default/{}"),
    ("HEAD", "/v1/xorbs/default/{}"),
    ("POST", "/v1/shards"),
    ("POST", "/v2/shards"),
    ("HEAD", "/v1/files/{}"),
    ("GET", "/v1/reconstructions?file_id={}"),
    ("GET", "/v1/reconstructions/{}"),
    ("GET", "/v2/reconstructions/{}"),
    ("GET", "/v2/file-chunk-hashes/{}"),
]


def test_a_read_token_does_not_upload(session: hf_xet.XetSession, cas: RunningCas) -> None:
    with pytest.raises(ConnectionError, match="403 Forbidden"):
        upload(session, cas.operation("read"), os.urandom(20 * MIB))


def test_a_write_token_may_read(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    raw = os.urandom(1000)
    (info,) = upload(session, cas.operation(), raw)
    assert download(session, cas.operation("write"), tmp_path, info) == [raw]


def test_a_token_of_another_repository_does_not_read(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    raw = os.urandom(1000)
    (info,) = upload(session, cas.operation(), raw)
    with pytest.raises(RuntimeError, match="403 Forbidden"):
        download(session, cas.operation("read", cas.other_repository), tmp_path, info)
    for path in (f"/v1/reconstructions/{info.hash}", f"/v1/reconstructions?file_id={info.hash}"):
        answer = requests.get(cas.url + path, headers=bearer(cas.token("write", cas.other_repository)), timeout=10)
        assert answer.status_code == 403
        assert answer.json() == {
            "error": f"File {info.hash} is not in models/acme/other@main, which this token is for, and was not "
            "uploaded there either."
        }
    cas.content.grant(cas.other_repository, info.hash, "main")
    assert download(session, cas.operation("read", cas.other_repository), tmp_path, info) == [raw]


def test_uploading_known_chunks_gives_the_other_repository_access(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    raw = os.urandom(1000)
    upload(session, cas.operation(), raw)
    (info,) = upload(session, cas.operation("write", cas.other_repository), raw)
    assert download(session, cas.operation("read", cas.other_repository), tmp_path, info) == [raw]


@pytest.mark.parametrize("token", ["", "xet_forged", "not even one of ours", "expired"])
def test_a_token_that_is_not_valid_neither_uploads_nor_downloads(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path, token: str
) -> None:
    (info,) = upload(session, cas.operation(), os.urandom(1000))
    operation = cas.operation(token=cas.token(age=901) if token == "expired" else token)
    before = len(cas.requests)
    with pytest.raises(ConnectionError, match="401 Unauthorized"):
        upload(session, operation, os.urandom(20 * MIB))
    with pytest.raises(RuntimeError, match="401 Unauthorized"):
        download(session, operation, tmp_path, info)
    assert {status for _, path, status in cas.requests[before:] if "telemetry" not in path} == {401}


@pytest.mark.parametrize("headers", [{}, bearer(""), bearer("xet_forged"), {"Authorization": "Basic eHg6eHg="}])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_wants_a_token(cas: RunningCas, headers: dict[str, str], method: str, path: str) -> None:
    url = cas.url + path.format("1" * 64)
    answer = requests.request(method, url, headers=headers, data=b"{}", timeout=10)
    assert answer.status_code == 401
    if method != "HEAD":
        assert "token" in answer.json()["error"]


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
def test_writing_wants_a_write_token(cas: RunningCas, path: str) -> None:
    answer = requests.post(cas.url + path.format("1" * 64), headers=bearer(cas.token("read")), data=b"{}", timeout=10)
    assert answer.status_code == 403
    assert answer.json() == {"error": f"Uploading to {cas.repository} needs a write token; this one is for reading."}


# -- refreshing


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """A whole local Hub, because only that has refresh routes."""
    with LocalHub(tmp_path / "hub") as running:
        running.create_repo("acme/corpus", "dataset")
        yield running


def refreshed(hub: LocalHub, scope: str, hub_token: str) -> dict[str, Any]:
    """Return an operation's arguments with a refresh route and nothing else: the client learns all from there."""
    return {
        "token_refresh_url": f"{hub.url}/api/datasets/acme/corpus/xet-{scope}-token/main",
        "token_refresh_headers": bearer(hub_token),
    }


def test_tokens_that_live_shorter_than_the_client_wants_are_refreshed_all_the_time(
    hub: LocalHub, tmp_path: Path
) -> None:
    hub.access.token_life = 20  # the client refreshes what has less than 30 seconds
    session = session_with()
    raw = os.urandom(3 * MIB)
    (info,) = upload(session, refreshed(hub, "write", hub.token()), raw)
    assert len(hub.log.requests("GET .*/xet-write-token/main", status=200)) >= 3
    assert download(session, refreshed(hub, "read", hub.token("read")), tmp_path, info) == [raw]
    assert len(hub.log.requests("GET .*/xet-read-token/main", status=200)) >= 2
    assert not hub.log.requests("(GET|POST) /cas/.*", status=401)


def test_an_expired_token_is_replaced_before_the_first_request(hub: LocalHub, tmp_path: Path) -> None:
    session = session_with()
    raw = os.urandom(MIB)
    (info,) = upload(session, refreshed(hub, "write", hub.token()), raw)
    answer = requests.get(
        f"{hub.url}/api/datasets/acme/corpus/xet-read-token/main", headers=bearer(hub.token()), timeout=10
    ).json()
    old = time.time() + 1000
    hub.access.clock = lambda: old  # the server's clock has gone on
    stale = {
        "endpoint": answer["casUrl"],
        "token": answer["accessToken"],
        "token_expiry_unix_secs": int(time.time()) - 1,
        **refreshed(hub, "read", hub.token("read")),
    }
    hub.log.clear()
    assert download(session, stale, tmp_path, info) == [raw]
    assert not hub.log.requests("GET /cas/.*", status=401)
    without_route = {name: value for name, value in stale.items() if "refresh" not in name}
    with pytest.raises(RuntimeError, match="Token refresh not expected"):
        download(session, without_route, tmp_path, info)


@pytest.mark.parametrize(
    ("path", "who", "status"),
    [
        ("datasets/acme/corpus/xet-write-token/main", "read", 403),
        ("datasets/acme/corpus/xet-write-token/main", "nobody", 401),
        ("datasets/acme/missing/xet-write-token/main", "write", 404),
        ("datasets/acme/corpus/xet-write-token/missing", "write", 404),
    ],
)
def test_a_refusal_of_the_token_route_ends_the_upload(hub: LocalHub, path: str, who: str, status: int) -> None:
    token = "hf_nobody" if who == "nobody" else hub.token("read" if who == "read" else "write")
    operation = {"token_refresh_url": f"{hub.url}/api/{path}", "token_refresh_headers": bearer(token)}
    with pytest.raises(ConnectionError, match=re.escape(f"({status} ")):
        upload(session_with(), operation, b"anything")
    assert len(hub.log.requests(f"GET /api/{path}", status=status)) == 1
