"""Which token a request gets, without a Hub."""

from __future__ import annotations

import base64
import json
import time

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.hub import exchanged_tokens
from airflow_provider_xethub.xet.hub.exchanged_tokens import ExchangedTokens
from airflow_provider_xethub.xet.hub.resources import Resource
from airflow_provider_xethub.xet.hub.token_exchange import ExchangedToken
from airflow_provider_xethub.xet.repo import Repo


class Worker:
    """An identity that issues a token for any audience, and counts."""

    name = "worker"

    def __init__(self) -> None:
        self.issued = 0

    def id_token(self, audience: str) -> str:
        self.issued += 1
        claims = {"iss": "https://issuer", "sub": "worker", "aud": audience, "exp": time.time() + 60, "n": self.issued}
        parts = ({"alg": "RS256"}, claims, {"sig": 1})
        return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def tokens(endpoint="https://hub.example/hf/", lifetime=3600.0, **options):
    worker, sent = Worker(), []

    def exchange(id_token, resource):
        sent.append((id_token.audience, resource.text))
        return ExchangedToken(f"hf_jwt_{len(sent)}", lifetime)

    return ExchangedTokens(worker, endpoint, exchange, **options), worker, sent


def test_the_path_of_the_endpoint_is_no_part_of_a_repository():
    kept, _, sent = tokens()
    for url in ("https://hub.example/hf/api/datasets/acme/c/tree/main?cursor=a/b", "/api/datasets/acme/c"):
        assert kept.of_url(url) == Resource("datasets/acme/c")
    assert kept.get(kept.of_repo(Repo("acme/c", "dataset"))) == "hf_jwt_1"
    assert sent == [("https://hub.example/hf", "datasets/acme/c")]


def test_the_token_of_the_repository_that_was_not_used_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(exchanged_tokens, "_MAX_KEPT", 2)
    kept, _, sent = tokens()
    a, b, c = (Resource(f"acme/{name}") for name in "abc")
    for each in (a, b, a, c, a):
        kept.get(each)
    assert [resource for _, resource in sent] == ["acme/a", "acme/b", "acme/c"]
    kept.get(b)
    assert len(sent) == 4


def test_a_short_lived_token_is_replaced_after_three_quarters_of_its_life(monkeypatch):
    now = time.monotonic()
    clock = [now]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    kept, worker, _ = tokens(lifetime=40.0)
    resource = Resource("acme/m")
    for seconds, text in ((0, "hf_jwt_1"), (29, "hf_jwt_1"), (31, "hf_jwt_2")):
        clock[0] = now + seconds
        assert kept.get(resource) == text
    assert worker.issued == 2


def test_only_the_rejected_token_is_replaced():
    kept, _, _ = tokens()
    resource = Resource("acme/m")
    first = kept.get(resource)
    second = kept.get(resource, rejected=first)
    assert (first, second) == ("hf_jwt_1", "hf_jwt_2")
    assert kept.get(resource, rejected=first) == second, "another thread has replaced it"
    assert kept.resource_with(first) == kept.resource_with(second) == resource
    assert kept.resource_with("hf_other") is None


def test_every_secret_is_reported_before_it_is_used():
    secrets: list[str] = []
    kept, _, _ = tokens(on_secret=secrets.append)
    token = kept.get(Resource("acme/m"))
    assert secrets[0].startswith("ey")
    assert token in secrets


def test_the_tokens_of_a_user_are_for_that_user_but_never_for_a_bucket():
    kept, _, _ = tokens(user="reader")
    assert kept.of_url("/api/models/acme/m") == Resource("reader")
    with pytest.raises(XetIdentityError, match=r"^Bucket"):
        kept.of_repo(Repo("acme/b", "bucket"))


def test_advice_names_the_page_and_the_identity_even_before_an_exchange():
    kept, _, _ = tokens()
    assert kept.advice(Resource("acme/m")) == "https://hub.example/hf/acme/m/settings (identity worker)"
    kept.get(Resource("acme/m"))
    assert "for issuer 'https://issuer', subject 'worker', other claims: n=1" in kept.advice(Resource("acme/m"))
