"""Faults on purpose, and the request log that shows what clients did about them."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest
import requests

from xethub_local.control.faults import MAX_ARMED, Fault
from xethub_local.metadata.commits import PutRegular, PutXet
from xethub_local.server import LocalHub

WHOAMI = "GET /api/whoami-v2"
CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        hub.create_repo("acme/m")
        hub.commits.commit("models/acme/m", "main", [PutRegular("f.bin", CONTENT)], title="f")
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> Iterator[LocalHub]:
    server.log.clear()
    yield server
    server.faults.clear()


def get(hub: LocalHub, path: str = "/api/whoami-v2", **options: object) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}", "User-Agent": "unknown/None; tester/1.0 (secret)"}
    return requests.get(hub.url + path, headers=headers, timeout=20, **options)  # type: ignore[arg-type]


def file(hub: LocalHub) -> requests.Response:
    return get(hub, "/acme/m/resolve/main/f.bin")


def test_without_a_fault_nothing_is_wrong(hub: LocalHub) -> None:
    assert get(hub).json()["name"] == "local"
    assert file(hub).content == CONTENT


def test_a_status_is_answered_so_many_times_after_so_many_requests(hub: LocalHub) -> None:
    fault = hub.faults.add(Fault(WHOAMI, skip=1, times=2, status=503, headers={"Retry-After": "7"}, body="busy"))
    answers = [get(hub) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200, 200]
    assert (answers[1].headers["retry-after"], answers[1].text) == ("7", "busy")
    assert hub.faults.acted(fault) == 2


def test_a_fault_acts_on_its_route_only(hub: LocalHub) -> None:
    hub.faults.add(Fault("GET /api/whoami", status=500))
    hub.faults.add(Fault("POST /api/.*", status=500))
    assert get(hub).status_code == 200


def test_a_status_is_answered_after_the_body_was_read(hub: LocalHub) -> None:
    hub.faults.add(Fault("POST /api/.*", status=429))
    answer = requests.post(f"{hub.url}/api/repos/create", data=b"x" * 5_000_000, timeout=20)
    assert answer.status_code == 429
    assert hub.log.requests("POST .*")[0].bytes_in == 5_000_000


def test_a_delay_delays(hub: LocalHub) -> None:
    hub.faults.add(Fault(WHOAMI, delay=0.3))
    began = time.perf_counter()
    assert get(hub).status_code == 200
    assert time.perf_counter() - began >= 0.3


def test_a_connection_dropped_before_gives_no_answer(hub: LocalHub) -> None:
    hub.faults.add(Fault(WHOAMI, drop=True, times=1))
    with pytest.raises(requests.ConnectionError):
        get(hub)
    assert get(hub).status_code == 200
    assert [request.status for request in hub.log.requests(WHOAMI)] == [0, 200]


def test_a_connection_dropped_in_the_middle_cuts_the_body(hub: LocalHub) -> None:
    hub.faults.add(Fault("GET /acme/m/resolve/.*", drop="middle"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        file(hub)


def test_a_lost_answer_was_carried_out_all_the_same(hub: LocalHub) -> None:
    hub.faults.add(Fault("POST /api/repos/create", lose_answer=True))
    headers = {"Authorization": f"Bearer {hub.token()}"}
    body = {"name": "lost", "organization": "acme"}
    assert requests.post(f"{hub.url}/api/repos/create", json=body, headers=headers, timeout=20).status_code == 500
    assert hub.repositories.get("models/acme/lost").name == "models/acme/lost"


def test_a_corrupt_answer_has_one_wrong_byte(hub: LocalHub) -> None:
    hub.faults.add(Fault("GET /acme/m/resolve/.*", corrupt=True))
    body = file(hub).content
    assert len(body) == len(CONTENT)
    assert sum(one != other for one, other in zip(body, CONTENT, strict=True)) == 1


def test_a_truncated_answer_ends_early_and_looks_complete(hub: LocalHub) -> None:
    hub.faults.add(Fault("GET /acme/m/resolve/.*", truncate=100))
    answer = file(hub)
    assert answer.content == CONTENT[:100]
    assert answer.headers["content-length"] == "100"


def test_headers_are_added_to_a_real_answer(hub: LocalHub) -> None:
    hub.faults.add(Fault(WHOAMI, headers={"Content-Type": "text/html"}))
    answer = get(hub)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html"


def test_the_clock_of_the_server_shows_in_the_date_and_in_tokens(hub: LocalHub) -> None:
    real = hub.access.clock
    hub.access.clock = lambda: 1_900_000_000.0
    try:
        answer = get(hub, "/api/models/acme/m/xet-read-token/main")
    finally:
        hub.access.clock = real
    assert answer.headers["date"] == "Sun, 17 Mar 2030 17:46:40 GMT"
    assert answer.json()["exp"] == 1_900_000_900


def test_only_the_client_that_is_meant_notices(hub: LocalHub) -> None:
    fault = hub.faults.add(Fault(WHOAMI, status=500, client="tester/1"))
    assert get(hub).status_code == 500
    other = requests.get(f"{hub.url}/api/whoami-v2", headers={"Authorization": f"Bearer {hub.token()}"}, timeout=20)
    assert other.status_code == 200
    assert hub.faults.acted(fault) == 1


def test_an_answer_made_by_a_fault_shows_the_clock_of_the_server(hub: LocalHub) -> None:
    hub.faults.add(Fault(WHOAMI, status=503))
    real = hub.access.clock
    hub.access.clock = lambda: 1_900_000_000.0
    try:
        assert get(hub).headers["date"] == "Sun, 17 Mar 2030 17:46:40 GMT"
    finally:
        hub.access.clock = real


def test_a_lost_answer_can_be_a_dropped_connection_or_another_status(hub: LocalHub) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    for name, how in (("l1", {"drop": True}), ("l2", {"status": 502})):
        hub.faults.add(Fault("POST /api/repos/create", lose_answer=True, times=1, **how))  # type: ignore[arg-type]
        body = {"name": name, "organization": "acme"}
        try:
            answer = requests.post(f"{hub.url}/api/repos/create", json=body, headers=headers, timeout=20)
            assert (name, answer.status_code) == ("l2", 502)
        except requests.ConnectionError:
            assert name == "l1"
        assert hub.repositories.get(f"models/acme/{name}").repo_id == f"acme/{name}"


def test_fields_and_headers_of_a_real_answer_are_changed_and_taken_away(hub: LocalHub) -> None:
    hub.faults.add(
        Fault(
            "GET .*/xet-read-token/main",
            fields={"exp": "soon", "more": [1]},
            without_fields=("accessToken", "exp"),
            headers={"X-Xet-Cas-Url": "ftp://nowhere"},
            without_headers=("X-Xet-Access-Token",),
        )
    )
    answer = get(hub, "/api/models/acme/m/xet-read-token/main")
    assert answer.json() == {"exp": "soon", "more": [1], "casUrl": f"{hub.url}/cas/{answer.json()['casUrl'][-16:]}"}
    assert answer.headers["x-xet-cas-url"] == "ftp://nowhere"
    assert "x-xet-access-token" not in answer.headers
    assert "x-xet-token-expiration" in answer.headers


def test_fields_are_left_alone_in_what_is_no_json_object(hub: LocalHub) -> None:
    hub.faults.add(Fault("GET .*", fields={"a": 1}))
    assert file(hub).content == CONTENT
    assert isinstance(get(hub, "/api/models").json(), list)


def test_a_token_and_a_clock_can_be_wrong_in_one_answer_only(hub: LocalHub) -> None:
    hub.faults.add(Fault("GET .*/xet-read-token/main", token_life=5, clock_offset=7200, times=1))
    first = get(hub, "/api/models/acme/m/xet-read-token/main")
    second = get(hub, "/api/models/acme/m/xet-read-token/main")
    skew = parsedate_to_datetime(first.headers["date"]) - parsedate_to_datetime(second.headers["date"])
    assert 7198 <= skew.total_seconds() <= 7201
    assert 7200 + 5 - 900 - 3 <= first.json()["exp"] - second.json()["exp"] <= 7200 + 5 - 900 + 2
    assert first.headers["x-xet-token-expiration"] == str(first.json()["exp"])


@pytest.mark.parametrize(
    "path", ["/api/whoami-v2", "/acme/m/resolve/main/empty", "/api/models/acme/m/tree/main", "/cas/nowhere"]
)
def test_any_answer_dropped_in_the_middle_is_seen_as_cut(hub: LocalHub, path: str) -> None:
    hub.commits.commit("models/acme/m", "main", [PutRegular("empty", b"")], title="empty")
    hub.faults.add(Fault("GET .*", drop="middle"))
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        get(hub, path)


def test_a_dropped_answer_to_head_ends_the_connection(hub: LocalHub) -> None:
    hub.faults.add(Fault("HEAD .*", drop="middle"))
    with socket.create_connection(("127.0.0.1", hub.port), timeout=20) as client:
        client.sendall(b"HEAD /acme/m/resolve/main/f.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b""
        while piece := client.recv(4096):
            heard += piece
    assert heard.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("how", ["silent", "trickle"])
def test_an_endless_answer_lasts_until_the_client_leaves(hub: LocalHub, how: str) -> None:
    hub.faults.add(Fault(WHOAMI, endless=how))  # type: ignore[arg-type]
    with socket.create_connection(("127.0.0.1", hub.port)) as client:
        client.settimeout(20)
        request = f"GET /api/whoami-v2 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {hub.token()}\r\n\r\n"
        client.sendall(request.encode())
        heard = b""
        while (b"\r\n\r\n" not in heard) or (how == "trickle" and heard.count(b"1\r\n \r\n") < 2):
            heard += client.recv(4096)
        assert heard.startswith(b"HTTP/1.1 200")
        assert b'"name"' not in heard
        assert hub.log.requests(WHOAMI) == []  # it has not ended
    deadline = time.monotonic() + 20
    while not hub.log.requests(WHOAMI):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["silent", "trickle"])
def test_stopping_ends_an_endless_answer(hub: LocalHub, how: str, caplog: pytest.LogCaptureFixture) -> None:
    fault = hub.faults.add(Fault(WHOAMI, endless=how))  # type: ignore[arg-type]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(get, hub)
        while not hub.faults.acted(fault):
            time.sleep(0.01)
        hub.stop()
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            waiting.result()
    hub.start()
    # No request of this test goes to CAS: that a client of an earlier one is gone may be logged only now.
    earlier = "xethub_local.cas.request"
    assert [record for record in caplog.records if record.name != earlier] == []


def test_faults_are_listed_counted_and_removed_one_by_one(hub: LocalHub) -> None:
    one = hub.faults.arm(Fault(WHOAMI, status=500, skip=1))
    two = hub.faults.arm("hub-busy", times=1)
    assert [get(hub).status_code for _ in range(3)] == [429, 500, 500]
    assert [(armed.id, armed.seen, armed.acted) for armed in hub.faults.armed()] == [(one.id, 3, 2), (two.id, 1, 1)]
    assert hub.faults.acted(two.id) == hub.faults.acted(two.fault) == 1
    assert hub.faults.remove(one.id)
    assert not hub.faults.remove(one.id)
    assert hub.faults.remove(two.fault)
    assert hub.faults.armed() == []
    assert get(hub).status_code == 200


def test_so_many_faults_and_no_more_are_armed(hub: LocalHub) -> None:
    for _ in range(MAX_ARMED):
        hub.faults.add("hub-busy")
    with pytest.raises(ValueError, match="200 faults are switched on"):
        hub.faults.add("hub-busy")


LARGE = 64 * 1024 * 1024


def hear(answer: requests.Response, heard: list[int]) -> str:
    """Read an answer piece by piece; give its digest."""
    digest = hashlib.sha256()
    for piece in answer.iter_content(256 * 1024):
        heard.append(len(piece))
        digest.update(piece)
    return digest.hexdigest()


def test_damage_to_a_large_answer_holds_none_of_it_in_memory(hub: LocalHub) -> None:
    stored = hub.content.add_plain(io.BytesIO(os.urandom(1024) * (LARGE // 1024)), repository="models/acme/m")
    change = PutXet("large.bin", stored.xet_hash, stored.sha256 or "", stored.size)
    hub.commits.commit("models/acme/m", "main", [change], title="large")
    url = "/acme/m/resolve/main/large.bin"
    with get(hub, url, stream=True) as answer:
        assert hear(answer, []) == stored.sha256
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hub.faults.add(Fault(f"GET {url}", drop="middle", times=1))
    hub.faults.add(Fault(f"GET {url}", corrupt=True, times=1))
    heard: list[int] = []
    with (
        get(hub, url, stream=True) as answer,
        pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"),
    ):
        hear(answer, heard)
    assert answer.headers["content-length"] == str(LARGE)
    assert LARGE // 2 - 256 * 1024 <= sum(heard) <= LARGE // 2
    heard.clear()
    with get(hub, url, stream=True) as answer:
        assert hear(answer, heard) != stored.sha256
    assert sum(heard) == LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 20 * 1024  # kilobytes


def test_stopping_hangs_up_on_a_request_that_does_not_end(hub: LocalHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.faults.add(Fault(WHOAMI, delay=60))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(get, hub)
        time.sleep(0.2)
        began = time.perf_counter()
        hub.stop()
        assert time.perf_counter() - began < 1
        with pytest.raises(requests.ConnectionError):
            waiting.result()
    hub.start()
    assert caplog.records == []


def test_a_stopped_hub_refuses_connections_and_comes_back_on_the_same_port(hub: LocalHub) -> None:
    session = requests.Session()
    session.get(hub.url, timeout=20)  # leaves a keep-alive connection open
    url = hub.url
    began = time.perf_counter()
    hub.stop()
    assert time.perf_counter() - began < 1
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=20)
    hub.start()
    assert hub.url == url
    assert get(hub).status_code == 200
