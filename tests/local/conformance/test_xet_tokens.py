"""Xet tokens: who gets one, what is in it, and what CAS does with it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.hub_wire import Wire, error_of
from support.stored_content import Upload


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_xet_token_comes_as_json(wire: Wire, scope: str) -> None:
    found = wire.xet_token(scope)
    assert found.keys() >= {"accessToken", "exp", "casUrl"}
    assert type(found["exp"]) is int
    assert time.time() < found["exp"] < time.time() + 24 * 3600
    assert max(len(found["accessToken"]), len(found["casUrl"])) < 64_000
    assert not found["casUrl"].endswith("/")


def test_a_xet_token_comes_in_headers_too(wire: Wire) -> None:
    answer = wire("GET", "{one}/xet-read-token/main")
    body = answer.json()
    assert answer.headers["X-Xet-Access-Token"] == body["accessToken"]
    assert answer.headers["X-Xet-Cas-Url"] == body["casUrl"]
    assert answer.headers["X-Xet-Token-Expiration"] == str(body["exp"])


def test_a_read_token_is_given_for_a_branch_a_tag_or_a_commit(wire: Wire) -> None:
    head = wire.put("a.txt")
    wire("POST", "{one}/tag/main", json={"tag": "v1"})
    for revision in ("main", "v1", head):
        assert wire.xet_token("read", revision)


def test_the_kinds_of_repositories_have_the_same_token_routes(of: Callable[..., Wire]) -> None:
    for kind in ("model", "dataset", "space"):
        assert of(kind).xet_token("write")


def test_a_write_token_takes_a_hub_token_that_writes(wire: Wire) -> None:
    assert wire("GET", "{one}/xet-write-token/main", token="read").status_code == 403
    assert wire("GET", "{one}/xet-write-token/main", token=None).status_code == 401
    assert wire("GET", "{one}/xet-read-token/main", token="read").status_code == 200


def test_a_missing_repository_or_revision_gives_no_token(wire: Wire) -> None:
    for scope in ("read", "write"):
        error_of(wire("GET", f"/api/datasets/local/nothing/xet-{scope}-token/main"), 404, "RepoNotFound")
        error_of(wire("GET", f"{{one}}/xet-{scope}-token/nowhere"), 404, "RevisionNotFound")


def test_a_pull_request_has_the_revision_none(wire: Wire) -> None:
    reader = wire.hub.add_user("reader", role="write")
    assert wire("GET", "{one}/xet-write-token/None?create_pr=1", token=reader).status_code == 200
    assert wire("GET", "{one}/xet-write-token/main", token=reader).status_code == 403


def test_a_bucket_has_tokens_without_a_revision(bucket: Wire) -> None:
    for scope in ("read", "write"):
        found = bucket.get(f"{{one}}/xet-{scope}-token")
        assert found.keys() >= {"accessToken", "exp", "casUrl"}


def test_cas_refuses_a_request_without_a_token(wire: Wire, stored: Upload) -> None:
    for method, path in (
        ("GET", f"/v2/reconstructions/{stored.xet_hash}"),
        ("GET", f"/v1/reconstructions/{stored.xet_hash}"),
        ("GET", f"/v1/chunks/default-merkledb/{'1' * 64}"),
        ("POST", f"/v1/xorbs/default/{stored.xorb_hash}"),
        ("POST", "/v1/shards"),
        ("POST", "/v2/shards"),
    ):
        assert wire.cas(method, path, scope=None).status_code == 401


def test_cas_refuses_an_expired_token(wire: Wire, stored: Upload) -> None:
    found = wire.xet_token()
    url = f"{found['casUrl']}/v2/reconstructions/{stored.xet_hash}"
    assert wire("GET", url, token=found["accessToken"]).status_code == 200
    wire.hub.clock_offset = wire.hub.token_life + 5
    try:
        assert wire("GET", url, token=found["accessToken"]).status_code == 401
    finally:
        wire.hub.clock_offset = 0


def test_a_read_token_uploads_nothing(wire: Wire, made: Upload) -> None:
    for path, body in (
        (f"/v1/xorbs/default/{made.xorb_hash}", made.body),
        ("/v1/shards", made.shard()),
        ("/v2/shards", made.shard()),
    ):
        assert wire.cas("POST", path, data=body).status_code == 403


def test_a_write_token_reads_too(wire: Wire, stored: Upload) -> None:
    assert wire.cas("GET", f"/v2/reconstructions/{stored.xet_hash}", scope="write").status_code == 200


def test_a_xet_token_is_for_one_repository(wire: Wire, stored: Upload, of: Callable[..., Wire]) -> None:
    assert of().cas("GET", f"/v2/reconstructions/{stored.xet_hash}").status_code in (403, 404)


def test_a_xet_token_is_for_one_reference(wire: Wire, stored: Upload) -> None:
    first = wire.get("{one}/commits/main")[-1]["id"]
    wire("POST", "{one}/branch/empty", json={"startingPoint": first})
    found = wire.xet_token("read", "empty")
    url = f"{found['casUrl']}/v2/reconstructions/{stored.xet_hash}"
    assert wire("GET", url, token=found["accessToken"]).status_code in (403, 404)


def test_telemetry_takes_a_xet_token(wire: Wire) -> None:
    assert wire("POST", "/v1/telemetry", json={}, token=None).status_code == 401


# --- guesses ----------------------------------------------------------------------------------------------------------


def test_a_file_outside_the_tokens_revision_is_403(wire: Wire, stored: Upload) -> None:
    first = wire.get("{one}/commits/main")[-1]["id"]
    wire("POST", "{one}/branch/empty", json={"startingPoint": first})
    found = wire.xet_token("read", "empty")
    url = f"{found['casUrl']}/v2/reconstructions/{stored.xet_hash}"
    assert wire("GET", url, token=found["accessToken"]).status_code == 403


def test_a_replaced_file_stays_readable_for_its_branch(wire: Wire, stored: Upload) -> None:
    wire.commit({"key": "deletedFile", "value": {"path": "d/a.bin"}})
    assert wire.cas("GET", f"/v2/reconstructions/{stored.xet_hash}").status_code == 200
