"""Issuers that are not the Hub's own: it asks those that publishers name for their keys, within limits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from support.small_server import Answer, Asked, SmallServer
from xethub_local.hub import issuer_keys
from xethub_local.hub.issuer_keys import MAX_DOCUMENT_BYTES, IssuerKeys
from xethub_local.server import LocalHub
from xethub_local.store.id_tokens import IdTokenError
from xethub_local.store.issuer import Issuer

DISCOVERY = "/.well-known/openid-configuration"


class Stranger:
    """An issuer with keys of its own; its documents can be changed."""

    def __init__(self, keys: Issuer) -> None:
        self.keys = keys
        self.documents: dict[str, Callable[[Asked], Answer]] = {
            DISCOVERY: lambda _: Answer({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}),
            "/jwks": lambda _: Answer(self.keys.jwks()),
        }
        self.server = SmallServer(lambda asked: self.documents[asked.path](asked))
        self.url = self.server.url

    def identity(self, hub: LocalHub, **claims: Any) -> str:
        now = int(hub.access.now())
        return self.keys.sign({"iss": self.url, "sub": "job", "aud": hub.url, "exp": now + 60, **claims}, "ES256")

    @property
    def asked(self) -> list[str]:
        return [each.path for each in self.server.asked]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def stranger(keys: Issuer) -> Iterator[Stranger]:
    issuer = Stranger(keys)
    with issuer.server:
        yield issuer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    """A Hub with one repository, which has no publishers."""
    server.reset(data=True)
    server.create_repo("acme/model", private=True)
    return server


def exchange(hub: LocalHub, token: str) -> int:
    body = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": token,
        "resource": "acme/model",
    }
    answer = requests.post(f"{hub.url}/oauth/token", json=body, timeout=20)
    assert answer.status_code == 200 or answer.json()["error"] == "invalid_grant"
    return answer.status_code


def test_the_keys_of_an_issuer_are_asked_for_once(hub: LocalHub, stranger: Stranger) -> None:
    hub.publisher("acme/model", stranger.url, sub="job")
    assert exchange(hub, stranger.identity(hub)) == 200
    assert exchange(hub, stranger.identity(hub)) == 200
    assert stranger.asked == [DISCOVERY, "/jwks"]


def test_an_issuer_that_no_publisher_names_is_never_asked(hub: LocalHub, stranger: Stranger) -> None:
    hub.publisher("acme/model", sub="job")
    hub.publisher("acme/model", "https://gitlab.com", sub="job")
    assert exchange(hub, stranger.identity(hub)) == 400
    assert stranger.asked == []


def test_new_keys_of_an_issuer_are_found(hub: LocalHub, stranger: Stranger, tmp_path: Path) -> None:
    hub.publisher("acme/model", stranger.url, sub="job")
    assert exchange(hub, stranger.identity(hub)) == 200
    (tmp_path / "new").mkdir()
    stranger.keys = Issuer(tmp_path / "new")
    assert exchange(hub, stranger.identity(hub)) == 200
    assert stranger.asked == [DISCOVERY, "/jwks"] * 2


def test_a_publisher_of_the_hubs_own_issuer_takes_no_token_of_another(hub: LocalHub, stranger: Stranger) -> None:
    hub.publisher("acme/model", sub="job")
    assert exchange(hub, stranger.identity(hub, iss=hub.issuer)) == 400
    hub.publisher("acme/model", stranger.url, sub="job")
    assert exchange(hub, stranger.identity(hub, iss=hub.issuer)) == 400
    assert exchange(hub, hub.identity("job", iss=stranger.url)) == 400
    assert exchange(hub, hub.identity("job", iss=f"http://localhost:{hub.port}/_issuer")) == 200


def test_a_second_local_hub_is_an_issuer_like_any_other(hub: LocalHub, tmp_path: Path) -> None:
    with LocalHub(tmp_path / "second") as second:
        hub.publisher("acme/model", second.issuer, sub="job")
        assert exchange(hub, second.identity("job", aud=hub.url)) == 200


def _forever(_: Asked) -> Answer:
    return Answer(b" " * 10, length=MAX_DOCUMENT_BYTES)


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        (DISCOVERY, Answer({"issuer": "https://gitlab.com", "jwks_uri": "https://gitlab.com/jwks"}), "another issuer"),
        (DISCOVERY, Answer({}), "names another issuer"),
        (DISCOVERY, Answer(b"<html>"), "cannot be read"),
        (DISCOVERY, Answer([]), "is not a JSON object"),
        (DISCOVERY, Answer({}, 404), "404"),
        (DISCOVERY, Answer({}, 302, {"Location": "http://127.0.0.1:1/"}), "302"),
        (DISCOVERY, Answer(b"[" * 100_000), "cannot be read"),
        (DISCOVERY, Answer(b" " * (MAX_DOCUMENT_BYTES + 1)), "more than 262,144 bytes"),
        ("/jwks", Answer({"keys": []}), ""),
        ("/jwks", Answer({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), ""),
        ("/jwks", Answer({"keys": "none"}), ""),
        ("/jwks", Answer({}), ""),
        ("/jwks", Answer({}, 500), "500"),
    ],
    ids=str,
)
def test_an_issuer_that_is_not_in_order_is_refused(
    hub: LocalHub, stranger: Stranger, path: str, answer: Answer, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.publisher("acme/model", stranger.url, sub="job")
    stranger.documents[path] = lambda _: answer
    with caplog.at_level("INFO"):
        assert exchange(hub, stranger.identity(hub)) == 400
    assert message in caplog.text


@pytest.mark.parametrize("uri", ["http://192.0.2.1/jwks", "file:///etc/passwd", "ftp://127.0.0.1/", 1, None])
def test_keys_are_fetched_by_https_or_from_this_machine(stranger: Stranger, uri: object) -> None:
    stranger.documents[DISCOVERY] = lambda _: Answer({"issuer": stranger.url, "jwks_uri": uri})
    with pytest.raises(IdTokenError, match=r"neither https nor on this machine|names no jwks_uri"):
        IssuerKeys().get(stranger.url)


def test_an_issuer_that_does_not_answer_is_not_waited_for(
    hub: LocalHub, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "TIMEOUT_SECONDS", 0.2)
    released = threading.Event()

    def silent(_: Asked) -> Answer:
        released.wait(20)
        return Answer({})

    hub.publisher("acme/model", stranger.url, sub="job")
    try:
        for answer in (silent, _forever):
            stranger.documents[DISCOVERY] = answer
            assert exchange(hub, stranger.identity(hub)) == 400
    finally:
        released.set()
    hub.publisher("acme/model", "http://127.0.0.1:9", sub="job")
    assert exchange(hub, stranger.identity(hub, iss="http://127.0.0.1:9")) == 400


def test_a_repository_that_is_deleted_during_the_exchange_does_not_exist(hub: LocalHub, stranger: Stranger) -> None:
    def delete(_: Asked) -> Answer:
        hub.repositories.delete("models/acme/model")
        return Answer(stranger.keys.jwks())

    hub.publisher("acme/model", stranger.url, sub="job")
    stranger.documents["/jwks"] = delete
    assert exchange(hub, stranger.identity(hub)) == 400


def test_kept_keys_are_forgotten_after_five_minutes(stranger: Stranger) -> None:
    now = [0.0]
    keys = IssuerKeys(lambda: now[0])
    keys.get(stranger.url)
    now[0] = 299
    keys.get(stranger.url)
    assert len(stranger.asked) == 2
    now[0] = 300
    assert keys.get(stranger.url) == json.loads(json.dumps(stranger.keys.jwks()))
    assert len(stranger.asked) == 4
