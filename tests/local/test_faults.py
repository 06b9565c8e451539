"""Faults on purpose, and the request log that shows what clients did about them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from airflow_provider_xethub.local.commits import PutRegular
from airflow_provider_xethub.local.faults import Fault
from airflow_provider_xethub.local.server import LocalHub

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


@pytest.mark.parametrize("options", [{"route": "("}, {"route": ".*", "drop": "after"}, {"route": ".*", "truncate": -1}])
def test_a_fault_that_makes_no_sense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises((ValueError, re.error)):
        Fault(**options)  # type: ignore[arg-type]


def test_the_log_counts_requests_and_keeps_no_secret(hub: LocalHub) -> None:
    get(hub, "/api/whoami-v2?token=hidden")
    get(hub, "/api/models/acme/none")
    file(hub)
    assert hub.log.counts() == {
        (WHOAMI, 200): 1,
        ("GET /api/models/acme/none", 404): 1,
        ("GET /acme/m/resolve/main/f.bin", 200): 1,
    }
    (logged,) = hub.log.requests("GET /acme/.*", status=200)
    assert (logged.bytes_out, logged.user_agent) == (len(CONTENT), "tester/1.0")
    text = repr(hub.log.requests())
    for secret in (hub.token(), "hidden", "secret"):
        assert secret not in text


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
