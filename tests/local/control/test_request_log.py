"""The request log: what it counts, what it sums up, what it never keeps, and that it stays small."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from xethub_local.control.faults import Fault
from xethub_local.control.transfers import MAX_REPORTS
from xethub_local.server import LocalHub

WHOAMI = "GET /api/whoami-v2"
CLIENT = "unknown/None; hf_hub/2.4.0; python/3.11.7; hf_xet/1.8.0"
TOKEN_ROUTE = "GET /api/{kind}/{namespace}/{name}/xet-read-token/{revision}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        hub.create_repo("acme/m")
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> Iterator[LocalHub]:
    server.reset()
    yield server
    server.reset()


def ask(hub: LocalHub, path: str, method: str = "GET", **headers: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}", **headers}
    return requests.request(method, hub.url + path, headers=headers, timeout=20)


def test_a_request_that_is_still_answered_belongs_to_the_time_before_a_clear(hub: LocalHub) -> None:
    fault = hub.faults.add(Fault(WHOAMI, delay=0.5))
    late = threading.Thread(target=ask, args=(hub, "/api/whoami-v2"))
    late.start()
    while not hub.faults.acted(fault):
        time.sleep(0.01)
    hub.reset()
    ask(hub, "/api/models/acme/m")
    late.join()
    assert [request.path for request in hub.log.requests()] == ["/api/models/acme/m"]
    assert [counter.requests for counter in hub.log.counters()] == [1]


def test_requests_are_found_by_route_status_client_and_transfer(hub: LocalHub) -> None:
    ask(hub, "/api/whoami-v2", **{"User-Agent": CLIENT, "X-Xet-Session-Id": "s-1"})
    ask(hub, "/api/models/acme/none", **{"User-Agent": "other/2"})
    log = hub.log
    assert [request.path for request in log.requests()] == ["/api/whoami-v2", "/api/models/acme/none"]
    assert len(log.requests(WHOAMI)) == len(log.requests(status=200)) == len(log.requests(client="hf_xet/")) == 1
    assert [request.status for request in log.requests(session="s-1")] == [200]
    assert [request.status for request in log.requests(limit=1)] == [404]
    assert log.requests(limit=0) == []
    assert log.requests(WHOAMI, status=404) == []
    assert log.requests(WHOAMI)[0].client == "hf_xet/1.8.0"


def test_counters_add_up_by_route_and_client(hub: LocalHub) -> None:
    for revision in ("main", "none", "main"):
        ask(hub, f"/api/models/acme/m/xet-read-token/{revision}", **{"User-Agent": CLIENT})
    ask(hub, "/api/models/acme/m/xet-read-token/main", **{"User-Agent": "curl/8"})
    ours, curl = [counter for counter in hub.log.counters() if counter.route == TOKEN_ROUTE][::-1]
    assert (ours.client, ours.requests, ours.errors, curl.client, curl.requests) == ("hf_xet/1.8.0", 3, 1, "curl/8", 1)
    assert ours.bytes_out == sum(request.bytes_out for request in hub.log.requests(client="hf_xet/")) > 0


def test_the_route_is_known_also_where_a_fault_answers_or_nothing_does(hub: LocalHub) -> None:
    hub.faults.add("hub-down", times=1)
    ask(hub, "/api/models/acme/m/xet-read-token/main")
    ask(hub, "/api/no/such/route/at/all", "DELETE")
    ask(hub, "/acme/m/resolve/main/a/b.txt", "HEAD")
    ask(hub, "/cas/nowhere/v1/x")
    assert [request.route for request in hub.log.requests()] == [
        TOKEN_ROUTE,
        "DELETE (no route)",
        "HEAD /{namespace}/{name}/resolve/{revision}/{path}",
        "GET (no route)",
    ]


def test_the_log_keeps_no_secret(hub: LocalHub) -> None:
    grant = ask(hub, "/api/models/acme/m/xet-read-token/main").json()["accessToken"]
    agent = f"tester/1.0 (secret-comment); {hub.token()}; hf_xet/1.8.0"
    ask(hub, f"/api/whoami-v2?token={hub.token()}", **{"User-Agent": agent, "X-Xet-Session-Id": hub.token()})
    ask(hub, f"/{hub.token()}/{grant}", Cookie="secret-cookie", **{"User-Agent": hub.token()})
    ask(hub, f"/cas/x/data/{grant.partition('.')[0]}", **{"X-Xet-Session-Id": grant})
    told = [hub.log.requests(), hub.log.counters(), hub.log.transfers(), hub.log.counts()]
    assert len(hub.log.requests()) == 4
    for secret in (hub.token(), hub.token()[3:], grant, grant[4:40], grant[-20:], "secret-"):
        assert secret not in repr(told), secret
    assert "tester/1.0 hf_xet/1.8.0" in repr(told)


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        (CLIENT, "hf_xet/1.8.0"),
        ("unknown/None; hf_hub/2.4.0; python/3.11.7", "hf_hub/2.4.0"),
        ("python-requests/2.32.3", "python-requests/2.32.3"),
        ("airflow-provider-xethub", "airflow-provider-xethub"),
        ("node", "node"),
        ("", "unknown"),
        ("(comment)", "unknown"),
        ("Mozilla/5.0 (X11; Linux) AppleWebKit/537.36", "Mozilla/5.0"),
    ],
)
def test_the_client_is_the_product_that_says_most(hub: LocalHub, agent: str, client: str) -> None:
    ask(hub, "/api/whoami-v2", **{"User-Agent": agent})
    assert [counter.client for counter in hub.log.counters()] == [client]


def report_of(**fields: object) -> bytes:
    sent = {"time": "2026-07-28T12:00:00.000Z", "event": "xet_upload_summary", "user_agent": "u", "metrics": {}}
    return json.dumps(sent | fields).encode()


def post_report(hub: LocalHub, body: bytes) -> int:
    (identity, *_) = hub.access.identities()
    if "acme/reporting" not in [found.repo_id for found in hub.repositories.find_all()]:
        hub.create_repo("acme/reporting")
    token, _ = hub.access.issue_xet_token(identity, "read", "models/acme/reporting", "main")
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(f"{hub.url}/v1/telemetry", data=body, headers=headers, timeout=20).status_code


def test_of_a_report_only_harmless_metrics_are_kept(hub: LocalHub) -> None:
    secret = secrets.token_urlsafe(40)
    metrics = {"n_files": 1, "outcome": "ok", "ratio": 0.5, "terminal": True, "token": secret, secret: 1, "deep": {}}
    assert post_report(hub, report_of(session_id="s-1", user_agent=secret, metrics=metrics)) == 200
    (transfer,) = hub.log.transfers()
    kept = {"n_files": 1, "outcome": "ok", "ratio": 0.5, "terminal": True}
    assert transfer.reports == [{"event": "xet_upload_summary", "metrics": kept}]
    json.dumps(transfer.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        report_of(session_id=5),
        report_of(session_id="a b"),
        b"[" * 100_000,
        report_of(session_id="x" * 70_000),
        b" " * 1_100_000,
        b"\xff",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_report_that_is_none_is_not_kept(hub: LocalHub, body: bytes) -> None:
    assert post_report(hub, body) in (200, 400, 413)
    assert hub.log.transfers() == []


def test_reports_do_not_pile_up(hub: LocalHub) -> None:
    for number in range(MAX_REPORTS + 3):
        metrics = {"seq": number, "big": 10**300, "bad": float("nan")}
        assert post_report(hub, report_of(session_id="s", metrics=metrics)) == 200
    (transfer,) = hub.log.transfers()
    assert [report["metrics"] for report in transfer.reports] == [{"seq": n} for n in range(3, MAX_REPORTS + 3)]


def test_a_real_upload_and_its_download_are_seen_as_what_they_were(hub: LocalHub, tmp_path: Path) -> None:
    import hf_xet

    content = secrets.token_bytes(3_000_000)
    hub.create_repo("acme/real", "dataset")
    token = ask(hub, "/api/datasets/acme/real/xet-write-token/main").json()
    access = {"endpoint": token["casUrl"], "token": token["accessToken"], "token_expiry_unix_secs": token["exp"]}
    hub.log.clear()
    with hf_xet.XetSession().new_upload_commit(**access) as upload:
        handle = upload.start_upload_bytes(content)
    file = handle.result().xet_info
    (sent,) = hub.log.transfers()
    assert sent.client == "hf_xet/1.8.0"
    assert sent.errors == 0
    assert (sent.xorbs_sent, sent.shards_sent) == (1, 1)
    assert len(content) <= sent.xorb_bytes < len(content) + 10_000
    assert (sent.dedup_asked, sent.dedup_answered) == (1, 0)
    assert sent.ended >= sent.began > 0
    (report,) = sent.reports
    assert report["event"] == "xet_upload_summary"
    assert report["metrics"]["total_bytes"] == len(content)
    assert report["metrics"]["xorb_bytes_uploaded"] == sent.xorb_bytes
    hub.log.clear()
    with hf_xet.XetSession().new_file_download_group(**access) as download:
        download.start_download_file(file, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == content
    (heard,) = hub.log.transfers()
    assert (heard.xorbs_sent, heard.data_bytes) == (0, sent.xorb_bytes)
    assert heard.reconstructions >= 1
    assert heard.session != sent.session
