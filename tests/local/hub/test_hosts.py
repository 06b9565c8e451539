"""The names that the local Hub answers to: a page that gives its own name this machine's address reads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from xethub_local.server import LocalHub

EVIL = "rebound.example"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(
        tmp_path_factory.mktemp("hub"), public_url="http://Hub.example:1234", allowed_hosts=["named.test", "Other:80"]
    ) as running:
        running.create_repo("acme/corpus", "dataset", private=True)
        yield running


def ask(hub: LocalHub, host: str, path: str = "/api/datasets/acme/corpus", **headers: str) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{hub.port}{path}", headers={"Host": host, **headers}, timeout=10)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/datasets/acme/corpus",
        "/api/datasets/acme/corpus",
        "/datasets/acme/corpus/resolve/main/.gitattributes",
        "/cas/x/v2/reconstructions/0",
        "/_local/status",
        "/v1/telemetry",
        "/none",
    ],
)
def test_a_host_that_nobody_named_is_refused_everywhere(hub: LocalHub, path: str) -> None:
    for host in (EVIL, f"{EVIL}:{hub.port}", "localhost.rebound.example", "127.0.0.1.rebound.example", "10.0.0.1"):
        answer = ask(hub, host, path, Authorization=f"Bearer {hub.token()}", Origin=f"http://{EVIL}")
        assert answer.status_code == 421, host
        assert "--allow-host" in answer.json()["error"]
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:1",
        "localhost.",
        "127.0.0.1:5",
        "127.0.0.2",
        "[::1]:7",
        "::1",
        "hub.example:9",
        "NAMED.test",
        "other",
    ],
)
def test_hosts_of_this_machine_and_those_that_were_named_are_answered(hub: LocalHub, host: str) -> None:
    assert ask(hub, host, Authorization=f"Bearer {hub.token()}").status_code == 200


def test_a_server_for_other_machines_answers_to_addresses_and_no_names(tmp_path: Path) -> None:
    with LocalHub(tmp_path, host="0.0.0.0") as hub:  # noqa: S104 - it is what is tested
        for host, status in {"172.17.0.1:80": 401, "[fd00::1]": 401, EVIL: 421}.items():
            assert ask(hub, host).status_code == status
