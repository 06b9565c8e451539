"""Publishers and identities through the control API, for tests in other languages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from xethub_local.server import LocalHub
from xethub_local.store.publishers import Resource


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    server.reset(data=True)
    server.create_repo("acme/corpus", "dataset")
    return server


def ask(hub: LocalHub, method: str, path: str, body: object = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    return requests.request(method, f"{hub.url}/_local/{path}", json=body, headers=headers, timeout=20)


def exchange(hub: LocalHub, token: str) -> int:
    body = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": token,
        "resource": "datasets/acme/corpus",
    }
    return requests.post(f"{hub.url}/oauth/token", json=body, timeout=20).status_code


def test_a_publisher_is_added_used_listed_and_removed(hub: LocalHub) -> None:
    new = {"resource": "datasets/acme/corpus", "claims": {"sub": "pod", "team": "data"}, "read_only": True}
    answer = ask(hub, "POST", "publishers", new)
    added = answer.json()
    assert answer.status_code == 201
    assert added.pop("created") > 0
    assert added == {"id": added["id"], **new, "issuer": None, "last_used": None}
    token = ask(hub, "POST", "identities", {"sub": "pod", "claims": {"team": "data"}}).json()["id_token"]
    assert exchange(hub, token) == 200
    (listed,) = ask(hub, "GET", "publishers").json()["publishers"]
    assert listed["last_used"] > 0
    assert ask(hub, "DELETE", f"publishers/{added['id']}").status_code == 204
    assert ask(hub, "DELETE", f"publishers/{added['id']}").status_code == 404
    assert exchange(hub, token) == 400


def test_an_identity_is_for_the_url_at_which_the_hub_was_asked(hub: LocalHub) -> None:
    hub.publisher("datasets/acme/corpus", sub="airflow")
    assert exchange(hub, ask(hub, "POST", "identities", {}).json()["id_token"]) == 200
    by_name = requests.post(
        f"http://localhost:{hub.port}/_local/identities",
        headers={"Authorization": f"Bearer {hub.token()}"},
        timeout=20,
    )
    assert exchange(hub, by_name.json()["id_token"]) == 400  # its audience is http://localhost:…


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("publishers", {"claims": {"sub": "x"}}, "'resource' is missing"),
        ("publishers", {"resource": "datasets/acme/corpus"}, "'claims' is missing"),
        ("publishers", {"resource": "datasets/acme/corpus", "claims": {}}, "at least one claim"),
        ("publishers", {"resource": "datasets/acme/corpus", "claims": {"sub": []}}, "'sub' must be a string"),
        ("publishers", {"resource": "acme/none", "claims": {"sub": "x"}}, "does not exist"),
        ("publishers", {"resource": "acme/none", "claim": {"sub": "x"}}, "'claim' is not known"),
        ("publishers", {"resource": "datasets/acme/corpus", "claims": {"sub": "x"}, "read_only": 1}, "true or false"),
        ("identities", {"sub": 1}, "'sub' must be a string"),
        ("identities", {"claims": []}, "'claims' must be an object"),
        ("identities", {"lifetime": "long"}, "lifetime must be"),
        ("identities", {"lifetime": True}, "lifetime must be"),
        ("identities", {"lifetime": 1e300}, "lifetime must be"),
        ("identities", {"algorithm": "none"}, "algorithm 'none' is not known"),
        ("identities", {"algorithm": {}}, "is not known"),
        ("identities", {"team": "data"}, "'team' is not known; use sub, aud, lifetime, algorithm, claims"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(hub: LocalHub, path: str, body: dict[str, Any], message: str) -> None:
    answer = ask(hub, "POST", path, body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert hub.publishers.find(Resource("datasets/acme/corpus")) == []
