"""Hub tokens: what they may do, what a refusal says, and how an ID token becomes one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from support.hub_wire import Wire, error_of

EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}
SUBJECT = {"sub": "conformance"}


@pytest.fixture
def publisher(wire: Wire) -> Iterator[Callable[..., Any]]:
    """Adds a trusted publisher of the repository, until the test ends."""
    added = []

    def add(resource: str = "", **options: Any) -> Any:
        added.append(wire.hub.publisher(resource or wire.web.removeprefix("/"), **{**SUBJECT, **options}))
        return added[-1]

    yield add
    for one in added:
        wire.hub.publishers.remove(one.id)


def exchange(wire: Wire, token: str | None = None, **fields: str | None) -> requests.Response:
    given = {"subject_token": token or wire.hub.identity("conformance"), "resource": wire.web.removeprefix("/")}
    body = {name: value for name, value in {**EXCHANGE, **given, **fields}.items() if value is not None}
    return wire("POST", "/oauth/token", json=body, token=None)


def exchanged(wire: Wire, **fields: str) -> str:
    answer = exchange(wire, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def test_whoami_names_the_user_and_the_role_of_the_token(wire: Wire) -> None:
    found = wire.get("/api/whoami-v2", token="read")
    assert (found["type"], found["name"]) == ("user", "local")
    assert isinstance(found["orgs"], list)
    assert found["auth"]["accessToken"]["role"] == "read"
    assert found["auth"]["accessToken"]["displayName"]


def test_whoami_refuses_an_invalid_token_with_401(wire: Wire) -> None:
    assert wire("GET", "/api/whoami-v2", token="hf_" + "x" * 34).status_code == 401
    assert wire("GET", "/api/whoami-v2", token=None).status_code == 401


def test_an_invalid_token_is_told_from_a_missing_one(wire: Wire) -> None:
    answer = wire("GET", "{one}", token="hf_" + "x" * 34)
    assert (answer.status_code, answer.headers["X-Error-Message"]) == (
        401,
        "Invalid credentials in Authorization header",
    )


def test_a_read_token_writes_nothing(wire: Wire) -> None:
    before = wire.get("{one}")["sha"]
    value = {"path": "a.txt", "content": "a", "encoding": "utf-8"}
    assert wire.commit({"key": "file", "value": value}, token="read").status_code == 403
    assert wire("POST", "{one}/branch/x", json={}, token="read").status_code == 403
    assert wire.get("{one}")["sha"] == before


def test_a_fine_grained_token_covers_only_what_it_names(wire: Wire, of: Callable[..., Wire]) -> None:
    other, hidden = of(), of(private=True)
    grants: Any = {wire.one.removeprefix("/api/"): "write"}
    token = wire.hub.add_user("fine", role="fineGrained", grants=grants)
    assert wire.put("a.txt", token=token)
    value = {"path": "a.txt", "content": "a", "encoding": "utf-8"}
    assert other.commit({"key": "file", "value": value}, token=token).status_code == 403
    error_of(hidden("GET", "{one}", token=token), 404, "RepoNotFound")


def test_a_private_repository_is_missing_to_others(wire: Wire, of: Callable[..., Wire]) -> None:
    hidden = of(private=True)
    stranger = wire.hub.add_user("stranger", role="write")
    for token, status in ((None, 401), (stranger, 404)):
        for path in (
            "{one}",
            "{one}/tree/main",
            "{one}/refs",
            "{one}/xet-read-token/main",
            hidden.web + "/resolve/main/a",
        ):
            assert error_of(hidden("GET", path, token=token), status, "RepoNotFound") == "Repository not found"


def test_a_gated_repository_is_seen_but_its_files_are_not(wire: Wire) -> None:
    wire.put("a.txt")
    assert wire("PUT", "{one}/settings", json={"gated": "manual"}).status_code == 200
    stranger = wire.hub.add_user("stranger", role="read")
    assert wire.get("{one}", token=stranger)["gated"] == "manual"
    message = error_of(wire("GET", wire.web + "/resolve/main/a.txt", token=stranger), 403, "GatedRepo")
    assert "is restricted and you are not in the authorized list" in message


def test_creating_in_a_foreign_namespace_is_403(wire: Wire) -> None:
    stranger = wire.hub.add_user("stranger", role="write")
    body = {"name": "new", "organization": "somebody-else", "type": "dataset"}
    assert wire("POST", "/api/repos/create", json=body, token=stranger).status_code == 403


def test_auth_check_asks_for_reading_or_writing(wire: Wire) -> None:
    assert wire("GET", "{one}/auth-check", token="read").status_code == 200
    assert wire("GET", "{one}/auth-check/write").status_code == 200
    assert wire("GET", "{one}/auth-check/write", token="read").status_code == 403


def test_an_id_token_becomes_a_token_for_an_hour(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    body = exchange(wire).json()
    assert body.pop("access_token").startswith("hf_jwt_")
    issued = "urn:ietf:params:oauth:token-type:access_token"
    assert body == {"token_type": "bearer", "expires_in": 3600, "issued_token_type": issued}


def test_a_user_as_resource_becomes_a_token_of_another_kind(wire: Wire, publisher: Callable[..., Any]) -> None:
    wire.hub.add_user("ana", role="write")
    publisher("ana")
    token = exchanged(wire, resource="ana")
    assert token.startswith("hf_oauth_")
    error_of_write = wire("POST", "{one}/branch/x", json={}, token=token)
    assert error_of_write.status_code == 403


@pytest.mark.parametrize("name", [*EXCHANGE, "subject_token", "resource"])
def test_an_exchange_without_a_parameter_is_invalid_request(
    wire: Wire, publisher: Callable[..., Any], name: str
) -> None:
    publisher()
    if name == "subject_token":
        body = {**EXCHANGE, "resource": wire.web.removeprefix("/")}
        answer = wire("POST", "/oauth/token", json=body, token=None)
    else:
        answer = exchange(wire, **{name: None})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_an_exchange_that_no_publisher_matches_is_invalid_grant(wire: Wire, publisher: Callable[..., Any]) -> None:
    assert exchange(wire).json()["error"] == "invalid_grant"
    publisher(sub="conform")
    for token in (wire.hub.identity("conformance"), wire.hub.identity("conform", aud="https://example.com")):
        answer = exchange(wire, token)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert exchange(wire, resource="datasets/nobody/nothing").json()["error"] == "invalid_grant"


def test_an_exchange_answers_with_a_request_id(wire: Wire) -> None:
    assert exchange(wire).headers["X-Request-Id"]


def test_a_repository_token_writes_to_no_other_repository(
    wire: Wire, of: Callable[..., Wire], publisher: Callable[..., Any]
) -> None:
    publisher()
    token, other = exchanged(wire), of()
    assert wire.put("a.txt", token=token)
    value = {"path": "a.txt", "content": "a", "encoding": "utf-8"}
    assert other.commit({"key": "file", "value": value}, token=token).status_code == 403


def test_commits_of_a_repository_token_are_by_an_oidc_user(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    wire.put("a.txt", token=exchanged(wire))
    assert wire.get("{one}/commits/main")[0]["authors"][0]["user"].startswith("[OIDC]")


def test_a_read_only_publisher_does_not_write(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher(read_only=True)
    token = exchanged(wire)
    assert wire.get("{one}", token=token)["id"] == wire.repo.repo_id
    value = {"path": "a.txt", "content": "a", "encoding": "utf-8"}
    assert wire.commit({"key": "file", "value": value}, token=token).status_code == 403


def test_an_exchanged_token_ends(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    wire.hub.exchanged_token_lifetime = 1
    try:
        token = exchanged(wire)
        wire.hub.clock_offset = 2
        assert wire("GET", "{one}/auth-check/write", token=token).status_code == 401
    finally:
        wire.hub.clock_offset = 0
        wire.hub.exchanged_token_lifetime = 3600


# --- guesses ----------------------------------------------------------------------------------------------------------


def test_a_write_without_any_token_is_401(wire: Wire) -> None:
    value = {"path": "a.txt", "content": "a", "encoding": "utf-8"}
    assert wire.commit({"key": "file", "value": value}, token=None).status_code == 401
    assert wire("POST", "/api/repos/create", json={"name": "x/y"}, token=None).status_code == 401


def test_a_gated_file_without_a_token_is_401(wire: Wire) -> None:
    wire.put("a.txt")
    wire("PUT", "{one}/settings", json={"gated": "auto"})
    error_of(wire("GET", wire.web + "/resolve/main/a.txt", token=None), 401, "GatedRepo")


def test_the_token_of_a_repository_changes_its_settings(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    assert wire("PUT", "{one}/settings", json={"private": False}, token=exchanged(wire)).status_code == 200


def test_the_token_of_a_repository_has_no_user(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    assert wire("GET", "/api/whoami-v2", token=exchanged(wire)).status_code == 401


def test_removing_a_publisher_leaves_its_tokens(wire: Wire, publisher: Callable[..., Any]) -> None:
    added = publisher()
    token = exchanged(wire)
    wire.hub.publishers.remove(added.id)
    assert wire.put("a.txt", token=token)


def test_another_grant_type_is_unsupported(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    answer = exchange(wire, grant_type="password")
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    assert exchange(wire, "no JWT").json()["error"] == "invalid_grant"


def test_an_id_token_expires_to_the_second(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher()
    assert exchange(wire, wire.hub.identity("conformance", iat=int(time.time()) + 300)).status_code == 200
    assert exchange(wire, wire.hub.identity("conformance", lifetime=0)).json()["error"] == "invalid_grant"


def test_the_stronger_of_two_publishers_counts(wire: Wire, publisher: Callable[..., Any]) -> None:
    publisher(read_only=True)
    publisher()
    assert wire.put("a.txt", token=exchanged(wire))
