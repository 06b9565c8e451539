"""The control API: who may use it, what it does, and that faults and the log leave it alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from xethub_local.control import api as control_api
from xethub_local.control.fault import Fault
from xethub_local.control.presets import PRESETS
from xethub_local.metadata.commits import PutRegular
from xethub_local.server import LocalHub
from xethub_local.store.errors import BadRequestError

ROUTES = [
    ("GET", "status"),
    ("PATCH", "settings"),
    ("GET", "faults"),
    ("POST", "faults"),
    ("DELETE", "faults"),
    ("DELETE", "faults/1"),
    ("GET", "requests"),
    ("DELETE", "requests"),
    ("GET", "counters"),
    ("GET", "transfers"),
    ("GET", "transfers/s"),
    ("GET", "scans"),
    ("POST", "scans"),
    ("DELETE", "scans"),
    ("GET", "publishers"),
    ("POST", "publishers"),
    ("DELETE", "publishers/p"),
    ("POST", "identities"),
    ("POST", "reset"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub"), token_life=600) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    server.reset(data=True)
    return server


def ask(hub: LocalHub, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}", **options.pop("headers", {})}
    return requests.request(method, f"{hub.url}/_local/{path}", json=body, headers=headers, timeout=20, **options)


def whoami(hub: LocalHub) -> int:
    headers = {"Authorization": f"Bearer {hub.token()}", "User-Agent": "tester/1"}
    return requests.get(f"{hub.url}/api/whoami-v2", headers=headers, timeout=20).status_code


def test_the_list_of_routes_is_complete(hub: LocalHub) -> None:
    described = requests.get(f"{hub.url}/_local/openapi.json", timeout=20).json()["paths"]
    there = {(method.upper(), path) for path, methods in described.items() for method in methods}
    there = {(method, path) for method, path in there if path.startswith("/_local/") and method != "HEAD"}
    tested = {(m, f"/_local/{p}".replace("faults/1", "faults/{id}").replace("/s", "/s")) for m, p in ROUTES}
    templates = {
        "/_local/transfers/s": "/_local/transfers/{session}",
        "/_local/publishers/p": "/_local/publishers/{publisher}",
    }
    tested = {(m, templates.get(p, p)) for m, p in tested}
    assert there == tested | {("GET", "/_local/openapi.json")}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_a_hub_token_that_may_write_everywhere_controls(hub: LocalHub, method: str, path: str) -> None:
    tokens = {
        "": 401,
        "Bearer hf_wrong": 401,
        f"Bearer {hub.token('read')}": 403,
        f"Bearer {hub.add_user('ana', role='write')}": 403,
        f"Bearer {hub.add_user('bob', role='read', grants={'*': 'write'})}": 403,
        f"Bearer {hub.add_user('eve', role='fineGrained', grants={'*': 'read'})}": 403,
    }
    hub.faults.add("hub-busy")
    for header, status in tokens.items():
        answer = ask(hub, method, path, {}, headers={"Authorization": header})
        assert (header[:9], answer.status_code) == (header[:9], status)
        assert "Hub token" in answer.json()["error"] or "credentials" in answer.json()["error"]
    assert len(hub.faults.armed()) == 1


def test_a_fine_grained_token_for_everything_controls_too(hub: LocalHub) -> None:
    token = hub.add_user("zoe", role="fineGrained", grants={"*": "write"})
    assert ask(hub, "GET", "status", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_status_says_what_this_is_and_how_it_is_set(hub: LocalHub) -> None:
    hub.create_repo("acme/m")
    hub.faults.add(Fault("GET /x", status=500))
    whoami(hub)
    status = ask(hub, "GET", "status").json()
    assert {name: status[name] for name in ("repositories", "faults", "requests")} == {
        "repositories": 1,
        "faults": 1,
        "requests": 1,
    }
    assert status["settings"] == {
        "token_life": 600,
        "data_url_life": 900,
        "clock_offset": 0.0,
        "exchanged_token_lifetime": 3600,
    }


def test_settings_change_what_is_named_and_nothing_else(hub: LocalHub) -> None:
    changed = ask(hub, "PATCH", "settings", {"token_life": 50, "clock_offset": -7.5})
    assert changed.json() == {
        "token_life": 50,
        "data_url_life": 900,
        "clock_offset": -7.5,
        "exchanged_token_lifetime": 3600,
    }
    assert (hub.token_life, hub.data_url_life, hub.clock_offset) == (50, 900, -7.5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"token_life": 0}, "token_life must be at least 1 second"),
        ({"token_life": "9"}, "token_life must be"),
        ({"token_life": True}, "token_life must be"),
        ({"token_life": None}, "not null"),
        ({"data_url_life": 1.5}, "data_url_life must be"),
        ({"clock_offset": 1e12}, "clock_offset must be"),
        ({"life": 5}, "'life' is not known; use token_life, data_url_life, clock_offset"),
        ({"data_url_life": 5, "token_life": 0}, "token_life"),
        ([], "must be a JSON object, not list"),
    ],
)
def test_settings_that_make_no_sense_change_nothing(hub: LocalHub, body: object, reason: str) -> None:
    answer = ask(hub, "PATCH", "settings", body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert (hub.token_life, hub.data_url_life, hub.clock_offset) == (600, 900, 0.0)


def test_a_fault_is_armed_acts_is_counted_and_disarmed(hub: LocalHub) -> None:
    answer = ask(hub, "POST", "faults", {"route": "GET /api/.*", "times": 2, "status": 418, "client": "tester"})
    assert answer.status_code == 201
    armed = answer.json()
    assert armed == {"id": armed["id"], "seen": 0, "acted": 0, "route": "GET /api/.*", "times": 2, "status": 418,
                     "client": "tester"}  # fmt: skip
    assert [whoami(hub) for _ in range(3)] == [418, 418, 200]
    assert ask(hub, "GET", "faults").json()["faults"] == [{**armed, "seen": 3, "acted": 2}]
    assert ask(hub, "DELETE", f"faults/{armed['id']}").status_code == 204
    assert ask(hub, "DELETE", f"faults/{armed['id']}").status_code == 404
    assert ask(hub, "GET", "faults").json()["faults"] == []


def test_ready_made_faults_are_listed_and_armed_by_name(hub: LocalHub) -> None:
    listed = ask(hub, "GET", "faults").json()["ready_made"]
    assert [each["name"] for each in listed] == list(PRESETS)
    for each in listed:
        assert ask(hub, "POST", "faults", {"name": each["name"], "times": 1}).status_code == 201
    assert [armed.fault.times for armed in hub.faults.armed()] == [1] * len(PRESETS)
    assert ask(hub, "DELETE", "faults").status_code == 204
    assert hub.faults.armed() == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "route is missing"),
        ({"route": "("}, "route is not a regular expression"),
        ({"route": "x", "status": 99}, "status must be"),
        ({"route": "x", "satus": 500}, "'satus' is not known"),
        ({"name": "nothing"}, "there is no ready-made fault 'nothing'"),
        ({"name": 5}, "'name' must be a string"),
        ({"name": "hub-busy", "tmies": 1}, "'tmies' is not known"),
        ("hub-busy", "must be a JSON object"),
    ],
)
def test_a_wrong_fault_is_refused_with_the_reason(hub: LocalHub, body: object, reason: str) -> None:
    answer = ask(hub, "POST", "faults", body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert hub.faults.armed() == []


def test_requests_are_listed_filtered_and_forgotten(hub: LocalHub) -> None:
    for session in ("a", "b"):
        requests.get(f"{hub.url}/api/models/acme/none", headers={"X-Xet-Session-Id": session}, timeout=20)
    whoami(hub)
    every = ask(hub, "GET", "requests").json()["requests"]
    assert [request["status"] for request in every] == [401, 401, 200]
    assert set(every[0]) == {"method", "path", "status", "user_agent", "bytes_in", "bytes_out", "milliseconds",
                             "session", "route"}  # fmt: skip
    for query, count in {
        "route=GET%20/api/models/.*": 2,
        "route=GET%20/api": 0,
        "status=200": 1,
        "client=tester/": 1,
        "session=b": 1,
        "limit=2": 2,
        "limit=0": 0,
        "status=401&session=a": 1,
    }.items():
        assert len(ask(hub, "GET", f"requests?{query}").json()["requests"]) == count, query
    counters = ask(hub, "GET", "counters").json()["counters"]
    assert [(each["client"], each["requests"]) for each in counters if each["route"] == "GET /api/whoami-v2"] == [
        ("tester/1", 1)
    ]
    assert ask(hub, "DELETE", "requests").status_code == 204
    assert ask(hub, "GET", "requests").json() == {"requests": []}
    assert ask(hub, "GET", "counters").json() == {"counters": []}


@pytest.mark.parametrize(
    "query", ["route=(", "route=" + "a" * 501, "status=x", "status=600", "limit=-1", "limit=10001"]
)
def test_a_wrong_query_is_refused(hub: LocalHub, query: str) -> None:
    answer = ask(hub, "GET", f"requests?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


def test_a_transfer_is_shown_by_its_session(hub: LocalHub) -> None:
    requests.get(f"{hub.url}/api/models/acme/none", headers={"X-Xet-Session-Id": "s-1"}, timeout=20)
    shown = ask(hub, "GET", "transfers/s-1").json()
    assert (shown["session"], shown["requests"], shown["errors"]) == ("s-1", 1, 1)
    assert ask(hub, "GET", "transfers").json() == {"transfers": [shown]}
    missing = ask(hub, "GET", "transfers/s-2")
    assert missing.status_code == 404
    assert "s-2" in missing.json()["error"]


def test_reset_goes_back_to_the_beginning_and_keeps_the_data(hub: LocalHub) -> None:
    hub.create_repo("acme/m")
    ask(hub, "POST", "faults", {"name": "hub-busy"})
    ask(hub, "PATCH", "settings", {"token_life": 5, "data_url_life": 5, "clock_offset": 5})
    whoami(hub)
    assert ask(hub, "POST", "reset").json() == {"repositories_deleted": 0}
    assert (hub.faults.armed(), hub.log.requests(), hub.log.counters()) == ([], [], [])
    assert (hub.token_life, hub.data_url_life, hub.clock_offset) == (600, 900, 0.0)
    assert len(hub.repositories.find_all()) == 1


def test_reset_with_data_deletes_repositories_and_their_read_permissions(hub: LocalHub) -> None:
    for repo_type in ("model", "dataset", "space", "bucket"):
        hub.create_repo("acme/all", repo_type)  # type: ignore[arg-type]
    hub.commits.commit("models/acme/all", "main", [PutRegular("a", b"a")], title="a")
    stored = hub.content.add_plain(b"bytes" * 100, repository="datasets/acme/all")
    assert hub.content.is_readable("datasets/acme/all", stored.xet_hash)
    assert ask(hub, "POST", "reset", {"data": True}).json() == {"repositories_deleted": 4}
    assert hub.repositories.find_all() == []
    assert not hub.content.is_readable("datasets/acme/all", stored.xet_hash)
    assert whoami(hub) == 200
    hub.create_repo("acme/all", "dataset")


@pytest.mark.parametrize("body", [{"data": "yes"}, {"data": None}, {"date": True}])
def test_reset_does_nothing_where_it_is_not_understood(hub: LocalHub, body: object) -> None:
    hub.create_repo("acme/m")
    assert ask(hub, "POST", "reset", body).status_code == 400
    assert len(hub.repositories.find_all()) == 1


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_body_that_is_not_json_is_refused(hub: LocalHub, media_type: str) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}", "Content-Type": media_type}
    answer = requests.post(f"{hub.url}/_local/faults", data='{"name":"hub-busy"}', headers=headers, timeout=20)
    assert answer.status_code == 415
    assert hub.faults.armed() == []


@pytest.mark.parametrize("text", [b"{", b"\xff", b'{"a":NaN}', b'{"a":"\\ud800"}', b"[" * 100_000])
def test_broken_json_is_refused(hub: LocalHub, text: bytes) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}", "Content-Type": "application/json; charset=utf-8"}
    answer = requests.post(f"{hub.url}/_local/faults", data=text, headers=headers, timeout=20)
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]


def test_a_body_has_a_limit(hub: LocalHub) -> None:
    body = {"route": "x", "status": 500, "body": "x" * control_api.MAX_BODY}
    assert ask(hub, "POST", "faults", body).status_code == 413


@pytest.mark.parametrize(("method", "path"), [("GET", "nothing"), ("POST", "status"), ("GET", "faults/x/y")])
def test_what_is_no_control_route_is_not_found(hub: LocalHub, method: str, path: str) -> None:
    answer = ask(hub, method, path)
    assert answer.status_code == 404
    assert f"/_local/{path}" in answer.json()["error"]


def test_nothing_can_be_created_where_the_control_api_is(hub: LocalHub) -> None:
    with pytest.raises(BadRequestError, match="reserved"):
        hub.create_repo("_local/status")


def test_faults_and_the_log_leave_the_control_api_alone(hub: LocalHub) -> None:
    ask(hub, "POST", "faults", {"route": ".*", "drop": "before"})
    hub.clock_offset = 3600
    with pytest.raises(requests.ConnectionError):
        whoami(hub)
    assert ask(hub, "GET", "faults").json()["faults"][0]["seen"] == 1
    assert ask(hub, "DELETE", "faults").status_code == 204
    assert [request["path"] for request in ask(hub, "GET", "requests").json()["requests"]] == ["/api/whoami-v2"]


def test_answers_are_json_and_not_kept_by_anybody(hub: LocalHub) -> None:
    for method, path in ROUTES:
        answer = ask(hub, method, path, {} if method in ("POST", "PATCH") else None)
        if answer.status_code != 204:
            json.loads(answer.text)
            assert answer.headers["content-type"] == "application/json"
        if answer.ok and answer.status_code != 204:
            assert answer.headers["cache-control"] == "no-store"
        assert hub.token() not in answer.text
        assert "access-control-allow-origin" not in answer.headers
