"""The local Hub exchanges ID tokens for Hub tokens as the documentation of Trusted Publishers says, and no others."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from xethub_local.server import LocalHub

GRANT = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}
CORPUS, OTHER = "datasets/acme/corpus", "datasets/acme/other"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    """A Hub with two private repositories and a public one of the user ``acme``, and no publishers."""
    server.reset(data=True)
    for publisher in server.publishers.find():
        server.publishers.remove(publisher.id)
    for name in ("corpus", "other"):
        server.create_repo(f"acme/{name}", "dataset", private=True)
    server.create_repo("acme/open", "dataset")
    server.add_user("acme", role="write")
    return server


def post(hub: LocalHub, token: object, resource: object = CORPUS, **fields: object) -> requests.Response:
    body = {**GRANT, "subject_token": token, "resource": resource, **fields}
    return requests.post(f"{hub.url}/oauth/token", json=body, timeout=10)


def exchanged(hub: LocalHub, token: str, resource: str = CORPUS) -> str:
    answer = post(hub, token, resource)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def status_of(hub: LocalHub, token: str, path: str, method: str = "GET", **arguments: Any) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, hub.url + path, headers=headers, timeout=10, **arguments).status_code


def assert_refused(answer: requests.Response, error: str = "invalid_grant") -> None:
    """The same words for every reason: nobody can probe what exists or which check failed."""
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.json()["error_description"] in {
        "The provided authorization grant is invalid",
        "The request is missing a required parameter or is otherwise malformed",
        "The grant type is not supported",
    }
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_an_id_token_with_the_publishers_claims_becomes_a_token_of_the_repository(
    hub: LocalHub, algorithm: Any
) -> None:
    publisher = hub.publisher(CORPUS, sub="pod", namespace="airflow")
    answer = post(hub, hub.identity("pod", namespace="airflow", more="claims", algorithm=algorithm))
    body = answer.json()
    assert body.pop("access_token").startswith("hf_jwt_")
    assert body == {
        "token_type": "bearer",
        "expires_in": 3600,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }
    assert answer.headers["cache-control"] == "no-store"
    assert [each.last_used is not None for each in hub.publishers.find()] == [True]
    assert publisher.last_used is None


def test_a_form_is_accepted_as_well(hub: LocalHub) -> None:
    hub.publisher(CORPUS, sub="pod")
    body = {**GRANT, "subject_token": hub.identity("pod"), "resource": CORPUS}
    assert requests.post(f"{hub.url}/oauth/token", data=body, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "pod2"},
        {"sub": "po"},
        {"sub": "POD"},
        {"aud": "https://huggingface.co"},
        {"aud": []},
        {"lifetime": 0},
        {"nbf": 4_000_000_000},
        {"nbf": "soon"},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": 10**400},
        {"nbf": 10**400},
        {"iss": "https://gitlab.com"},
        {"iss": None},
        {"iss": 1},
        {"ref": "refs/heads/main-backup"},
        {"ref": None},
        {"attempt": "1"},
        {"attempt": True},
        {"attempt": [1]},
    ],
    ids=str,
)
def test_an_id_token_that_differs_in_one_thing_is_refused(hub: LocalHub, claims: dict[str, Any]) -> None:
    good: dict[str, Any] = {"sub": "pod", "ref": "refs/heads/main", "attempt": 1}
    hub.publisher(CORPUS, **good)
    assert post(hub, hub.identity(**good)).status_code == 200
    assert_refused(post(hub, hub.identity(**{**good, **claims})))


def test_one_of_several_audiences_is_enough(hub: LocalHub) -> None:
    hub.publisher(CORPUS, sub="pod")
    assert post(hub, hub.identity("pod", aud=["https://elsewhere.example", hub.url])).status_code == 200


def test_a_token_that_nobody_signed_is_refused(hub: LocalHub, tmp_path: Any) -> None:
    hub.publisher(CORPUS, sub="pod")
    header, payload, signature = hub.identity("pod").split(".")
    other = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    with LocalHub(tmp_path / "other") as stranger:
        signed_by_a_stranger = stranger.identity("pod", iss=hub.issuer, aud=hub.url)
    for token in (f"{header}.{payload}.{other}", f"{none}.{payload}.", signed_by_a_stranger, "a.b.c", "x", "ü.ü.ü"):
        assert_refused(post(hub, token))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"resource": "acme/corpus/more"}, "invalid_request"),
        ({"resource": "buckets/acme/logs"}, "invalid_request"),
        ({"resource": ""}, "invalid_request"),
        ({"resource": None}, "invalid_request"),
        ({"resource": "../corpus"}, "invalid_request"),
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token": ["x"] * 2}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"resource": "acme/corpus"}, "invalid_grant"),
        ({"resource": "datasets/acme/missing"}, "invalid_grant"),
        ({"resource": "kernels/acme/corpus"}, "invalid_grant"),
        ({"resource": OTHER}, "invalid_grant"),
        ({"resource": "acme"}, "invalid_grant"),
        ({"resource": "nobody"}, "invalid_grant"),
    ],
    ids=str,
)
def test_a_request_that_is_wrong_is_refused_in_the_style_of_oauth(
    hub: LocalHub, fields: dict[str, Any], error: str
) -> None:
    hub.publisher(CORPUS, sub="pod")
    assert_refused(post(hub, hub.identity("pod"), **fields), error)


def test_a_body_that_is_no_json_is_refused(hub: LocalHub) -> None:
    for data in (b"{", b"[]", b"\xff"):
        headers = {"Content-Type": "application/json"}
        assert_refused(
            requests.post(f"{hub.url}/oauth/token", data=data, headers=headers, timeout=10), "invalid_request"
        )


def test_the_token_reads_and_writes_its_repository_and_no_other(hub: LocalHub) -> None:
    hub.publisher(CORPUS, sub="pod")
    token = exchanged(hub, hub.identity("pod"))
    api = HfApi(endpoint=hub.url, token=token)
    api.upload_file(path_or_fileobj=b"\0" * 100, path_in_repo="a.bin", repo_id="acme/corpus", repo_type="dataset")
    assert "a.bin" in api.list_repo_files("acme/corpus", repo_type="dataset")
    assert [each.id for each in api.list_datasets()] == ["acme/corpus", "acme/open"]
    newest = api.list_repo_commits("acme/corpus", repo_type="dataset")[0]
    assert newest.authors == [f"[OIDC] {hub.issuer} pod"]
    for repo_id in ("acme/other", "acme/missing"):
        with pytest.raises(RepositoryNotFoundError):
            api.list_repo_files(repo_id, repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id="acme/open", repo_type="dataset")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/whoami-v2", None, 401),
        ("POST", "/api/repos/create", {"name": "new"}, 403),
        ("POST", "/api/repos/create", {"name": "acme/new"}, 403),
        ("POST", "/api/repos/move", {"fromRepo": "acme/corpus", "toRepo": "acme/new", "type": "dataset"}, 403),
        ("POST", "/api/datasets/acme/corpus/duplicate", {"repository": "acme/new"}, 403),
        ("DELETE", "/api/repos/delete", {"name": "acme/open", "type": "dataset"}, 403),
        ("PUT", "/api/datasets/acme/open/settings", {"private": True}, 403),
        ("POST", "/api/buckets/acme/logs", {}, 403),
        ("POST", "/api/buckets/me/logs", {}, 403),
        ("POST", "/api/datasets/acme/open/discussions", {"title": "Hello"}, 403),
        ("POST", "/api/datasets/acme/open/discussions", {"title": "Hello", "pullRequest": True}, 403),
        ("POST", "/api/datasets/acme/open/commit/main?create_pr=1", None, 403),
        ("GET", "/api/datasets/acme/open/xet-write-token/main", None, 403),
        ("GET", "/api/datasets/acme/open/xet-write-token/main?create_pr=1", None, 403),
        ("GET", "/api/datasets/acme/other/xet-read-token/main", None, 404),
        ("GET", "/api/datasets/acme/corpus/xet-read-token/main", None, 200),
        ("GET", "/api/datasets/acme/corpus/xet-write-token/main", None, 200),
        ("GET", "/api/datasets/acme/corpus/auth-check/write", None, 200),
        ("GET", "/api/datasets/acme/open/auth-check", None, 200),
        ("GET", "/_local/status", None, 403),
    ],
)
def test_what_the_token_of_a_repository_may_do(hub: LocalHub, method: str, path: str, body: Any, status: int) -> None:
    hub.publisher(CORPUS, sub="pod")
    assert status_of(hub, exchanged(hub, hub.identity("pod")), path, method, json=body) == status


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/datasets/acme/corpus/xet-read-token/main", None, 200),
        ("GET", "/api/datasets/acme/corpus/xet-write-token/main", None, 403),
        ("GET", "/api/datasets/acme/corpus/xet-write-token/main?create_pr=1", None, 403),
        ("POST", "/api/datasets/acme/corpus/commit/main", None, 403),
        ("POST", "/api/datasets/acme/corpus/commit/main?create_pr=1", None, 403),
        ("POST", "/api/datasets/acme/corpus/branch/b", {}, 403),
        ("POST", "/api/datasets/acme/corpus/discussions", {"title": "Hello"}, 403),
        ("PUT", "/api/datasets/acme/corpus/settings", {"private": False}, 403),
        ("DELETE", "/api/repos/delete", {"name": "acme/corpus", "type": "dataset"}, 403),
    ],
)
def test_the_token_of_a_read_only_publisher_writes_nothing(
    hub: LocalHub, method: str, path: str, body: Any, status: int
) -> None:
    hub.publisher(CORPUS, read_only=True, sub="pod")
    assert status_of(hub, exchanged(hub, hub.identity("pod")), path, method, json=body) == status


def test_the_token_of_a_user_reads_gated_repositories_and_nothing_private(hub: LocalHub) -> None:
    hub.create_repo("acme/gated", "dataset")
    hub.create_repo("stranger/gated", "dataset")
    hub.create_repo("stranger/granted", "dataset")
    gates = hub.repositories.gates
    for name in ("acme/gated", "stranger/gated", "stranger/granted"):
        gates.set_mode(f"datasets/{name}", "manual")
    gates.set_status("datasets/stranger/granted", "acme", "accepted")
    hub.publisher("acme", sub="pod")
    token = exchanged(hub, hub.identity("pod"), "acme")
    assert token.startswith("hf_oauth_")
    api = HfApi(endpoint=hub.url, token=token)
    described = api.whoami()
    assert (described["name"], described["auth"]["type"]) == ("acme", "app_token_as_user")
    assert set(described["auth"]) == {"type", "expiresAt"}
    for readable in ("acme/gated", "stranger/granted"):
        api.auth_check(readable, repo_type="dataset")
    with pytest.raises(GatedRepoError):
        api.auth_check("stranger/gated", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("acme/corpus", repo_type="dataset")
    for path in ("acme/gated/xet-write-token/main", "acme/open/xet-write-token/main?create_pr=1"):
        assert status_of(hub, token, f"/api/datasets/{path}") == 403
    for path in ("acme/open/discussions", "stranger/gated/ask-access"):
        assert status_of(hub, token, f"/api/datasets/{path}", "POST", json={"title": "Hello"}) == 403


def test_an_expired_token_is_answered_like_one_that_never_was(hub: LocalHub) -> None:
    hub.publisher(CORPUS, sub="pod")
    hub.exchanged_token_lifetime = 5
    answer = post(hub, hub.identity("pod")).json()
    assert answer["expires_in"] == 5
    path = "/api/datasets/acme/corpus/xet-write-token/main"
    assert status_of(hub, answer["access_token"], path) == 200
    hub.clock_offset = 6
    late = requests.get(hub.url + path, headers={"Authorization": f"Bearer {answer['access_token']}"}, timeout=10)
    assert (late.status_code, late.json()) == (401, {"error": "Invalid credentials in Authorization header"})


NESTED = base64.urlsafe_b64encode(b"[" * 1500).decode().rstrip("=")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1],
        lambda t: t.replace("hf_jwt_", "hf_oauth_"),
        lambda t: t + "A",
        lambda t: f"hf_jwt_{NESTED}.e30.AAAA",
    ],
    ids=["shorter", "another prefix", "longer", "nested too deeply"],
)
def test_a_forged_exchanged_token_is_refused(hub: LocalHub, change: Callable[[str], str]) -> None:
    hub.publisher(CORPUS, sub="pod")
    assert status_of(hub, change(exchanged(hub, hub.identity("pod"))), "/api/datasets/acme/corpus") == 401


def test_the_token_follows_its_repository_and_dies_with_it(hub: LocalHub) -> None:
    hub.publisher(CORPUS, sub="pod")
    token = exchanged(hub, hub.identity("pod"))
    hub.repositories.move(CORPUS, "datasets/acme/renamed")
    assert status_of(hub, token, "/api/datasets/acme/renamed/xet-write-token/main") == 200
    assert post(hub, hub.identity("pod"), "datasets/acme/renamed").status_code == 200
    hub.repositories.delete("datasets/acme/renamed")
    hub.create_repo("acme/renamed", "dataset", private=True)
    assert status_of(hub, token, "/api/datasets/acme/renamed") == 404
    assert_refused(post(hub, hub.identity("pod"), "datasets/acme/renamed"))


def test_a_removed_publisher_exchanges_nothing_more(hub: LocalHub) -> None:
    publisher = hub.publisher(CORPUS, sub="pod")
    assert hub.publishers.remove(publisher.id)
    assert_refused(post(hub, hub.identity("pod")))
    assert not hub.publishers.remove(publisher.id)


def test_the_stronger_of_two_matching_publishers_counts(hub: LocalHub) -> None:
    hub.publisher(CORPUS, read_only=True, sub="pod")
    hub.publisher(CORPUS, sub="pod")
    token = exchanged(hub, hub.identity("pod"))
    assert status_of(hub, token, "/api/datasets/acme/corpus/xet-write-token/main") == 200


@pytest.mark.parametrize(
    ("repo", "arguments", "message"),
    [
        (CORPUS, {}, "at least one claim"),
        (CORPUS, {"aud": "x"}, "'aud' cannot be chosen"),
        (CORPUS, {"groups": ["a"]}, "must be a string"),
        (CORPUS, {"sub": "x", "issuer": "gitlab.com"}, "must be an URL"),
        ("datasets/acme/missing", {"sub": "x"}, "does not exist"),
        ("nobody", {"sub": "x"}, "does not exist"),
        ("buckets/acme/logs", {"sub": "x"}, "Buckets have no publishers"),
    ],
)
def test_a_publisher_that_could_not_work_is_refused(
    hub: LocalHub, repo: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        hub.publisher(repo, **arguments)
    bucket = hub.create_repo("acme/logs", "bucket")
    with pytest.raises(ValueError, match="buckets are no resource"):
        hub.publisher(bucket, sub="x")


def test_publishers_identities_and_tokens_survive_a_restart(tmp_path: Any) -> None:
    with LocalHub(tmp_path) as first:
        first.create_repo("acme/corpus", "dataset", private=True)
        first.publisher(CORPUS, sub="pod")
        token = exchanged(first, first.identity("pod"))
        id_token, port = first.identity("pod"), first.port
    with LocalHub(tmp_path, port) as second:
        assert status_of(second, token, "/api/datasets/acme/corpus/xet-write-token/main") == 200
        assert post(second, id_token).status_code == 200
    with LocalHub(tmp_path) as third:  # another port: another URL of issuer and audience
        assert post(third, third.identity("pod")).status_code == 200
        assert len(third.access.exchanged_tokens.issued()) == 3
        assert third.access.exchanged_tokens.issued()[0] == token
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
        assert (tmp_path / "issuer.keys").stat().st_mode & 0o077 == 0


def test_the_issuer_describes_itself(hub: LocalHub) -> None:
    document = requests.get(f"{hub.issuer}/.well-known/openid-configuration", timeout=10).json()
    assert document["issuer"] == hub.issuer
    keys = requests.get(document["jwks_uri"], timeout=10).json()["keys"]
    assert [key["alg"] for key in keys] == ["RS256", "ES256"]
    assert not {"d", "p", "q"} & {name for key in keys for name in key}


def test_nothing_of_a_refused_token_is_in_the_log_of_the_server(
    hub: LocalHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.publisher(CORPUS, sub="pod")
    token = hub.identity("other")
    with caplog.at_level("INFO"):
        assert_refused(post(hub, hub.identity("pod", iss="https://one.example\nINFO forged")))
        assert_refused(post(hub, token))
    assert "the claims of the ID token match no publisher of datasets/acme/corpus" in caplog.text
    assert not [part for part in token.split(".") if part in caplog.text]
    assert not [line for line in caplog.messages if "\n" in line]
    assert token not in json.dumps([each.to_json() for each in hub.log.requests()])
