"""What version 1.1 of the published protocol says about the routes of CAS, asked by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from huggingface_hub import HfApi

from support.stored_content import Upload
from support.xet_client import bearer
from xethub_local.server import LocalHub

if TYPE_CHECKING:
    from support.running_cas import RunningCas


@pytest.fixture(scope="module")
def stored(cas: RunningCas) -> Upload:
    """A file of three chunks."""
    made = Upload([os.urandom(1000), b"text " * 400, os.urandom(77)])
    cas.content.xorbs.add(made.xorb_hash, made.body)
    cas.content.add_shard(made.shard(), repository=cas.repository)
    return made


def ask(cas: RunningCas, method: str, path: str, scope: Any = "read", **options: Any) -> requests.Response:
    headers = {**bearer(cas.token(scope)), **options.pop("headers", {})}
    return requests.request(method, cas.url + path, headers=headers, timeout=10, **options)


def test_a_data_url_is_refused_without_its_range(cas: RunningCas, stored: Upload) -> None:
    ((entry,),) = ask(cas, "GET", f"/v2/reconstructions/{stored.xet_hash}").json()["xorbs"].values()
    for headers in ({}, {"Range": "nonsense"}, {"Range": "bytes=9-3"}, {"Range": "chunks=0-5"}):
        answer = requests.get(entry["url"], headers=headers, timeout=10)
        assert answer.status_code == 403
        assert "Range" in answer.json()["error"]
    last = entry["ranges"][0]["bytes"]["end"]
    answer = requests.get(entry["url"], headers={"Range": f"bytes=0-{last}"}, timeout=10)
    assert (answer.status_code, answer.content) == (206, stored.body)


@pytest.mark.parametrize(
    "header",
    ["bytes=5-2", "bytes=-5", "bytes=5-", "bytes=", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "0-1", "bytes=99999-"],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_range_that_is_not_valid_is_416(cas: RunningCas, stored: Upload, version: int, header: str) -> None:
    path = f"/v{version}/reconstructions/{stored.xet_hash}"
    answer = ask(cas, "GET", path, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(stored.raw)}"
    assert ask(cas, "GET", path, headers={"Range": "bytes=0-9999999"}).status_code == 200


def test_the_size_of_a_xorb_is_told(cas: RunningCas, stored: Upload) -> None:
    answer = ask(cas, "HEAD", f"/v1/xorbs/default/{stored.xorb_hash}")
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(stored.body)))
    assert ask(cas, "HEAD", f"/v1/xorbs/default/{'1' * 64}").status_code == 404
    for malformed in ("nohash", "1" * 63, "G" * 64, stored.xorb_hash.upper()):
        assert ask(cas, "HEAD", f"/v1/xorbs/default/{malformed}").status_code == 400


def test_the_size_of_a_file_is_told(cas: RunningCas, stored: Upload) -> None:
    answer = ask(cas, "HEAD", f"/v1/files/{stored.xet_hash}")
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(stored.raw)))
    assert ask(cas, "HEAD", f"/v1/files/{'0' * 64}").headers["Content-Length"] == "0"
    assert ask(cas, "HEAD", f"/v1/files/{'1' * 64}").status_code == 404
    assert ask(cas, "HEAD", "/v1/files/nohash").status_code == 400
    other = bearer(cas.token("read", cas.other_repository))
    assert requests.head(f"{cas.url}/v1/files/{stored.xet_hash}", headers=other, timeout=10).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "prefix", "status"),
    [
        ("POST", "/v1/xorbs/{}/{}", "default", 400),  # the body is no xorb
        ("POST", "/v1/xorb-grants/{}/{}", "default", 400),
        ("GET", "/v1/chunks/{}/{}", "default", 404),
        ("GET", "/v1/chunks/{}/{}", "default-merkledb", 404),
        ("HEAD", "/v1/xorbs/{}/{}", "default", 404),
        ("POST", "/v1/xorbs/{}/{}", "default-merkledb", 400),
        ("POST", "/v1/xorb-grants/{}/{}", "other", 400),
        ("POST", "/v1/xorb-commits/{}/{}/grant/x", "other", 400),
        ("GET", "/v1/chunks/{}/{}", "other", 400),
        ("HEAD", "/v1/xorbs/{}/{}", "other", 400),
    ],
)
def test_a_prefix_that_the_protocol_does_not_know_is_refused(
    cas: RunningCas, method: str, path: str, prefix: str, status: int
) -> None:
    answer = ask(cas, method, path.format(prefix, "1" * 64), "write", data=b"no xorb")
    assert answer.status_code == status
    if status == 400 and method != "HEAD":
        is_known = prefix == "default" or (prefix == "default-merkledb" and "chunks" in path)
        assert ("prefix" in answer.json()["error"]) is not is_known


def test_several_files_are_reconstructed_by_one_post(cas: RunningCas, stored: Upload) -> None:
    key, empty = {"prefix": "default", "hash": stored.xet_hash}, {"prefix": "default", "hash": "0" * 64}
    answer = ask(cas, "POST", "/v1/reconstructions", json=[key, empty, key])
    assert answer.status_code == 200
    one = ask(cas, "GET", f"/v1/reconstructions/{stored.xet_hash}").json()
    assert answer.json()["files"] == {stored.xet_hash: one["terms"], "0" * 64: []}
    ((found,),) = answer.json()["fetch_info"].values()
    assert (found["range"], found["url_range"]) == ({"start": 0, "end": 3}, {"start": 0, "end": len(stored.body) - 1})
    missing = [key, {"prefix": "default", "hash": "1" * 64}]
    assert ask(cas, "POST", "/v1/reconstructions", json=missing).status_code == 404
    other = bearer(cas.token("read", cas.other_repository))
    assert ask(cas, "POST", "/v1/reconstructions", json=[key], headers=other).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"[null]",
        b'["%s"]' % (b"1" * 64),
        b'[{"prefix": "default"}]',
        b'[{"prefix": "default", "hash": 5}]',
        b'[{"prefix": "default", "hash": "nohash"}]',
        b'[{"prefix": "other", "hash": "%s"}]' % (b"0" * 64),
        b"[" * 100_000,
        b'[{"prefix": "default", "hash": "\xff"}]',
    ],
)
def test_a_batch_that_is_malformed_is_refused(cas: RunningCas, body: bytes) -> None:
    assert ask(cas, "POST", "/v1/reconstructions", data=body).status_code == 400


def test_the_last_event_of_a_shard_tells_its_result(cas: RunningCas) -> None:
    made = Upload([os.urandom(500)])
    cas.content.xorbs.add(made.xorb_hash, made.body)
    for expected in (1, 0):
        answer = ask(cas, "POST", "/v2/shards", "write", data=made.shard())
        assert answer.headers["Cache-Control"] == "no-cache"
        assert json.loads(answer.text.splitlines()[-1]) == {"type": "result", "result": expected}


def test_telemetry_wants_a_token(cas: RunningCas) -> None:
    url = f"{cas.origin}/v1/telemetry"
    for headers in ({}, bearer("xet_forged")):
        assert requests.post(url, headers=headers, json={}, timeout=10).status_code == 401
    for scope in ("read", "write"):
        assert requests.post(url, headers=bearer(cas.token(scope)), json={}, timeout=10).status_code == 400


# -- tokens and revisions


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def repo(hub: LocalHub) -> str:
    return hub.create_repo(f"acme/{os.urandom(6).hex()}", "dataset").repo_id


def token(hub: LocalHub, repo: str, revision: str, scope: Any = "read", **query: str) -> tuple[str, dict[str, str]]:
    """Return the CAS URL and the header with a Xet token of a revision."""
    quoted = revision.replace("/", "%2F")
    answer = requests.get(
        f"{hub.url}/api/datasets/{repo}/xet-{scope}-token/{quoted}",
        headers=bearer(hub.token()),
        params=query,
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["casUrl"], bearer(answer.json()["accessToken"])


def status(hub: LocalHub, repo: str, revision: str, xet_hash: str, scope: Any = "read") -> int:
    """Return how a token of a revision fares with a file; all routes agree."""
    cas_url, headers = token(hub, repo, revision, scope)
    statuses = {
        requests.get(f"{cas_url}/v2/reconstructions/{xet_hash}", headers=headers, timeout=10).status_code,
        requests.get(f"{cas_url}/v1/reconstructions/{xet_hash}", headers=headers, timeout=10).status_code,
        requests.head(f"{cas_url}/v1/files/{xet_hash}", headers=headers, timeout=10).status_code,
        requests.post(
            f"{cas_url}/v1/reconstructions",
            headers=headers,
            json=[{"prefix": "default", "hash": xet_hash}],
            timeout=10,
        ).status_code,
    }
    (one,) = statuses
    return one


def commit(hub: LocalHub, repo: str, path: str, content: bytes, revision: str = "main", **options: Any) -> str:
    """Commit a file in CAS with the real client, and return its Xet hash."""
    api = HfApi(endpoint=hub.url, token=hub.token())
    done = api.upload_file(
        path_or_fileobj=content, path_in_repo=path, repo_id=repo, repo_type="dataset", revision=revision, **options
    )
    (found,) = api.get_paths_info(repo, path, repo_type="dataset", revision=done.oid)
    return str(found.xet_hash)


def test_a_token_reads_only_files_of_its_revision(hub: LocalHub, repo: str) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token())
    first = commit(hub, repo, "first.bin", b"\0" + os.urandom(2000))
    api.create_tag(repo, tag="v1", repo_type="dataset")
    api.create_branch(repo, branch="dev", repo_type="dataset")
    on_dev = commit(hub, repo, "dev.bin", b"\0" + os.urandom(2000), "dev")
    on_main = commit(hub, repo, "main.bin", b"\0" + os.urandom(2000))
    commits = {name: api.dataset_info(repo, revision=name).sha for name in ("main", "dev", "v1")}
    for revision, readable in {
        "main": {first, on_main},
        "refs/heads/main": {first, on_main},
        "dev": {first, on_dev},
        "v1": {first},
        commits["main"]: {first, on_main},
        commits["dev"]: {first, on_dev},
        commits["v1"]: {first},
    }.items():
        for xet_hash in (first, on_dev, on_main):
            assert status(hub, repo, revision, xet_hash) == (200 if xet_hash in readable else 403), revision
    cas_url, headers = token(hub, repo, "v1")
    answer = requests.get(f"{cas_url}/v2/reconstructions/{on_dev}", headers=headers, timeout=10)
    assert answer.json()["error"].startswith(f"File {on_dev} is not in datasets/{repo}@v1, which this token is for")


def test_a_file_that_is_not_committed_is_readable_with_tokens_of_its_revision(hub: LocalHub, repo: str) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token())
    api.create_branch(repo, branch="dev", repo_type="dataset")
    made = Upload([b"\0" + os.urandom(1000)])
    cas_url, headers = token(hub, repo, "dev", "write")
    for path, body in ((f"/v1/xorbs/default/{made.xorb_hash}", made.body), ("/v2/shards", made.shard())):
        assert requests.post(cas_url + path, headers=headers, data=body, timeout=10).status_code == 200
    assert {status(hub, repo, "dev", made.xet_hash, scope) for scope in ("read", "write")} == {200}
    assert status(hub, repo, "refs/heads/dev", made.xet_hash) == 200
    assert {status(hub, repo, "main", made.xet_hash, scope) for scope in ("read", "write")} == {403}
    head = api.dataset_info(repo, revision="dev").sha
    assert status(hub, repo, str(head), made.xet_hash) == 403


def test_a_pull_request_has_files_of_its_own(hub: LocalHub, repo: str) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token())
    proposed = commit(hub, repo, "a.bin", b"\0" + os.urandom(2000), create_pr=True)
    assert status(hub, repo, "refs/pr/1", proposed) == 200
    later = commit(hub, repo, "b.bin", b"\0" + os.urandom(2000), "refs/pr/1")
    assert status(hub, repo, "refs/pr/1", later) == 200
    assert status(hub, repo, "main", later) == 403
    api.merge_pull_request(repo, 1, repo_type="dataset")
    assert status(hub, repo, "main", later) == 200


def test_what_a_branch_had_stays_readable_while_tokens_of_it_live(hub: LocalHub, repo: str, tmp_path: Path) -> None:
    """A download that has begun is not cut off by the commit that replaces its file."""
    old = commit(hub, repo, "a.bin", b"\0" + os.urandom(2000))
    new = commit(hub, repo, "a.bin", b"\0" + os.urandom(2000))
    assert {status(hub, repo, "main", xet_hash) for xet_hash in (old, new)} == {200}


def test_a_repository_that_moves_takes_its_uploads_along(hub: LocalHub, repo: str) -> None:
    made = Upload([b"\0" + os.urandom(1000)])
    cas_url, headers = token(hub, repo, "main", "write")
    for path, body in ((f"/v1/xorbs/default/{made.xorb_hash}", made.body), ("/v2/shards", made.shard())):
        assert requests.post(cas_url + path, headers=headers, data=body, timeout=10).status_code == 200
    api = HfApi(endpoint=hub.url, token=hub.token())
    api.move_repo(repo, f"{repo}-moved", repo_type="dataset")
    assert status(hub, f"{repo}-moved", "main", made.xet_hash) == 200
    api.delete_repo(f"{repo}-moved", repo_type="dataset")
    hub.create_repo(f"{repo}-moved", "dataset")
    assert status(hub, f"{repo}-moved", "main", made.xet_hash) == 403


def test_a_bucket_has_no_revisions(hub: LocalHub) -> None:
    bucket = hub.create_repo(f"acme/{os.urandom(6).hex()}", "bucket").repo_id
    made = Upload([b"\0" + os.urandom(1000)])
    answers = {}
    for scope in ("write", "read"):
        url = f"{hub.url}/api/buckets/{bucket}/xet-{scope}-token"
        answers[scope] = requests.get(url, headers=bearer(hub.token()), timeout=10).json()
    cas_url, headers = answers["write"]["casUrl"], bearer(answers["write"]["accessToken"])
    for path, body in ((f"/v1/xorbs/default/{made.xorb_hash}", made.body), ("/v2/shards", made.shard())):
        assert requests.post(cas_url + path, headers=headers, data=body, timeout=10).status_code == 200
    headers = bearer(answers["read"]["accessToken"])
    assert requests.get(f"{cas_url}/v2/reconstructions/{made.xet_hash}", headers=headers, timeout=10).status_code == 200
