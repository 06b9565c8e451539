"""Scripts of other origins, in a browser, may use the API with a token of theirs, and read no page and no control."""

from __future__ import annotations

import pytest
import requests
from hub_calls import binary, upload
from huggingface_hub import HfApi

from airflow_provider_xethub.local.server import LocalHub

ORIGIN = {"Origin": "https://example.invalid"}
ASKED = {**ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,range"}


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
        assert one.headers.get("access-control-allow-origin") == ("*" if is_open else None)
        assert "access-control-allow-credentials" not in one.headers


def test_a_browser_may_read_the_headers_that_clients_need(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("cors"))
    answer = requests.get(f"{hub.url}/datasets/{repo}/resolve/main/a.bin", headers=ORIGIN, timeout=20)
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    needed = {"x-repo-commit", "x-request-id", "etag", "link", "accept-ranges", "x-linked-size", "x-xet-hash"}
    assert needed <= exposed & {name.lower() for name in answer.headers}
    missing = requests.get(f"{hub.url}/datasets/{repo}/resolve/main/none", headers=ORIGIN, timeout=20)
    assert missing.headers["access-control-allow-origin"] == "*"
    assert "x-error-code" in exposed


def test_who_is_no_browser_sees_no_difference(hub: LocalHub, repo: str) -> None:
    answer = requests.get(f"{hub.url}/api/datasets/{repo}", timeout=20)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert requests.options(f"{hub.url}/api/datasets/{repo}", timeout=20).status_code == 405
