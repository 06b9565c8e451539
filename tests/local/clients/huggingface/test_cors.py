"""Scripts of other origins, in a browser, may use the API with a token of theirs, and read no page and no control."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi

from support.hub_calls import binary, upload
from xethub_local.server import LocalHub

ORIGIN = {"Origin": "https://example.invalid"}
ALLOWED = [ORIGIN["Origin"], "http://localhost:3000/"]
ASKED = {**ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,range"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub"), allowed_origins=ALLOWED) as hub:
        yield hub


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/api/whoami-v2", True),
        ("/api/datasets/{repo}", True),
        ("/api/buckets/acme/none", True),
        ("/cas/x/v1/reconstructions/{zeros}", True),
        ("/datasets/{repo}/resolve/main/a.bin", True),
        ("/datasets/{repo}/raw/main/a.bin", True),
        ("/acme/model/resolve/main/a.bin", True),
        ("/buckets/acme/raw/resolve/a.bin", True),
        ("/datasets/{repo}.git/info/lfs/objects/batch", True),
        ("/", False),
        ("/datasets/{repo}", False),
        ("/datasets/{repo}/tree/main", False),
        ("/datasets/{repo}/blob/main/resolve/a.bin", False),
        ("/datasets/resolve/resolve", False),
        ("/acme/resolve", False),
        ("/_local/status", False),
        ("/_local/reset", False),
        ("/_local%2Fstatus", False),
    ],
)
def test_other_origins_reach_what_needs_a_credential_and_nothing_else(
    hub: LocalHub, repo: str, path: str, is_open: bool
) -> None:
    url = hub.url + path.format(repo=repo, zeros="0" * 64)
    preflight = requests.options(url, headers=ASKED, timeout=20)
    answer = requests.get(url, headers=ORIGIN, timeout=20)
    if is_open:
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-headers"] == "authorization,range"
        assert "GET" in preflight.headers["access-control-allow-methods"]
    else:
        assert preflight.status_code >= 400
    for one in (preflight, answer):
        assert one.headers.get("access-control-allow-origin") == (ORIGIN["Origin"] if is_open else None)
        assert "access-control-allow-credentials" not in one.headers


def test_a_browser_may_read_the_headers_that_clients_need(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("cors"))
    answer = requests.get(f"{hub.url}/datasets/{repo}/resolve/main/a.bin", headers=ORIGIN, timeout=20)
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    needed = {"x-repo-commit", "x-request-id", "etag", "link", "accept-ranges", "x-linked-size", "x-xet-hash"}
    assert needed <= exposed & {name.lower() for name in answer.headers}
    missing = requests.get(f"{hub.url}/datasets/{repo}/resolve/main/none", headers=ORIGIN, timeout=20)
    assert missing.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert "x-error-code" in exposed


@pytest.mark.parametrize(
    "origin",
    ["https://other.invalid", "http://example.invalid", "https://example.invalid:8443", "null", "http://localhost"],
)
def test_an_origin_that_was_not_named_reads_nothing(hub: LocalHub, repo: str, origin: str) -> None:
    url = f"{hub.url}/api/datasets/{repo}/xet-read-token/main"
    answer = requests.get(url, headers={"Origin": origin}, timeout=20)
    preflight = requests.options(url, headers={**ASKED, "Origin": origin}, timeout=20)
    assert (answer.status_code, preflight.status_code) == (200, 405)
    for one in (answer, preflight):
        assert not [name for name in one.headers if name.lower().startswith("access-control")]


def test_the_second_origin_is_named_too_and_caches_tell_them_apart(hub: LocalHub, repo: str) -> None:
    headers = {"Origin": "http://localhost:3000"}
    answer = requests.get(f"{hub.url}/api/datasets/{repo}", headers=headers, timeout=20)
    assert answer.headers["access-control-allow-origin"] == headers["Origin"]
    assert "Origin" in answer.headers["vary"]


def test_no_origin_is_allowed_by_default_and_all_may_be(tmp_path: Path) -> None:
    for allowed, expected in (([], None), (["*"], "*")):
        with LocalHub(tmp_path / str(len(allowed)), allowed_origins=allowed) as hub:
            answer = requests.get(f"{hub.url}/api/whoami-v2", headers=ORIGIN, timeout=20)
        assert answer.headers.get("access-control-allow-origin") == expected


@pytest.mark.parametrize("wrong", ["localhost:3000", "http://a/b", "http://", "", "http://user@a", "null"])
def test_what_is_no_origin_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        LocalHub(tmp_path, allowed_origins=[wrong])


def test_who_is_no_browser_sees_no_difference(hub: LocalHub, repo: str) -> None:
    answer = requests.get(f"{hub.url}/api/datasets/{repo}", timeout=20)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert requests.options(f"{hub.url}/api/datasets/{repo}", timeout=20).status_code == 405
