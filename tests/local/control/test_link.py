"""A link that requests share: its bandwidth in both directions, and its collapse when too many are open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from xethub_local.control.faults import Fault
from xethub_local.control.link import Link
from xethub_local.metadata.commits import PutRegular
from xethub_local.server import LocalHub

SIZE = 400_000
READ = "GET /acme/m/resolve/main/.*"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        hub.create_repo("acme/m")
        hub.commits.commit("models/acme/m", "main", [PutRegular("f.bin", bytes(SIZE))], title="f")
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> Iterator[LocalHub]:
    yield server
    server.faults.clear()


def link(hub: LocalHub, fault: Fault) -> Link:
    found = hub.faults.link(hub.faults.add(fault))
    assert found
    return found


def read(hub: LocalHub, session: requests.Session | None = None, *, stream: bool = False) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    call = session.get if session else requests.get
    return call(f"{hub.url}/acme/m/resolve/main/f.bin", headers=headers, timeout=20, stream=stream)


def seconds(work: object) -> float:
    started = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - started


def crowd(hub: LocalHub, several: int, sessions: list[requests.Session]) -> None:
    """Have several requests open at the same time."""
    answers = [read(hub, session, stream=True) for session in sessions[:several]]
    for answer in answers:
        assert len(answer.content) == SIZE


def test_all_requests_share_the_bandwidth_of_the_link(hub: LocalHub) -> None:
    hub.faults.add(Fault(READ, bandwidth=4_000_000))
    with ThreadPoolExecutor(4) as pool:
        took = seconds(lambda: list(pool.map(lambda _: read(hub).content, range(4))))
    assert took >= 4 * SIZE / 4_000_000 - 0.05  # unused bandwidth is kept for so long


def test_what_a_client_sends_shares_the_bandwidth_as_well(hub: LocalHub) -> None:
    hub.faults.add(Fault("POST /api/.*", bandwidth=4_000_000))
    took = seconds(lambda: requests.post(f"{hub.url}/api/models/acme/m/commit/main", data=bytes(2_000_000), timeout=20))
    assert took >= 0.3  # the rest can be in the buffers of the socket, or is not read after the refusal


def test_a_link_collapses_beyond_so_many_open_requests_and_stays_so_for_its_connections(hub: LocalHub) -> None:
    shared = link(hub, Fault(READ, bandwidth=2_000_000, max_open=2, collapsed_bandwidth=500_000))
    sessions = [requests.Session() for _ in range(3)]
    crowd(hub, 2, sessions)
    assert (shared.collapses, shared.most_open) == (0, 2)
    fast = seconds(lambda: read(hub, sessions[0]))
    assert seconds(lambda: crowd(hub, 3, sessions)) >= SIZE / 500_000
    assert (shared.collapses, shared.most_open) == (1, 3)
    # Fewer requests on the same connections do not help; a new connection does.
    assert seconds(lambda: read(hub, sessions[0])) >= SIZE / 500_000 - 0.05
    assert seconds(lambda: read(hub)) < SIZE / 500_000 * 0.75
    assert fast < SIZE / 500_000 * 0.75


def test_a_crowd_that_is_over_in_time_does_no_harm(hub: LocalHub) -> None:
    shared = link(hub, Fault(READ, bandwidth=2_000_000, max_open=2, collapse_after=5.0, collapsed_bandwidth=1_000))
    crowd(hub, 3, [requests.Session() for _ in range(3)])
    assert (shared.collapses, shared.most_open) == (0, 3)


def test_a_client_that_has_gone_away_does_not_keep_the_link_busy(hub: LocalHub) -> None:
    shared = link(hub, Fault(READ, bandwidth=4_000_000, max_open=1, collapsed_bandwidth=20_000))
    sessions = [requests.Session() for _ in range(2)]
    answers = [read(hub, session, stream=True) for session in sessions]
    assert shared.collapses == 1
    for answer, session in zip(answers, sessions, strict=True):
        answer.close()
        session.close()
    deadline = time.monotonic() + 5
    while shared.open_requests and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert seconds(lambda: read(hub)) < SIZE / 20_000 / 10
