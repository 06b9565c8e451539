"""Requests that only ``@huggingface/hub`` 2.17 makes, sent by hand: the suites with the client itself need Node."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from xethub_local.server import LocalHub

TEXT = {"encoding": "base64", "content": base64.b64encode(b"hi\n").decode()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as server:
        yield server


def ask(hub: LocalHub, method: str, path: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    return requests.request(method, hub.url + path, headers=headers, timeout=20, **options)


def create(hub: LocalHub, name: str, **fields: object) -> requests.Response:
    return ask(hub, "POST", "/api/repos/create", json={"name": name, "organization": "acme", "type": "model", **fields})


def paths(answer: requests.Response) -> list[str]:
    return [entry["path"] for entry in answer.json()]


def test_a_repository_is_created_with_files(hub: LocalHub) -> None:
    files = [{"path": "README.md", **TEXT}, {"path": "d/a.txt", **TEXT}]
    assert create(hub, "with-files", files=files).status_code == 200
    listed = paths(ask(hub, "GET", "/api/models/acme/with-files/tree/main?recursive=true"))
    assert listed == [".gitattributes", "README.md", "d", "d/a.txt"]
    assert ask(hub, "GET", "/acme/with-files/resolve/main/d/a.txt").content == b"hi\n"


@pytest.mark.parametrize("file", [{"path": "../a", **TEXT}, {"path": "a", "encoding": "rot13", "content": "x"}, "a"])
def test_a_repository_is_not_created_where_its_files_are_wrong(hub: LocalHub, file: object) -> None:
    assert create(hub, "wrong-files", files=[file]).status_code == 400
    assert ask(hub, "GET", "/api/models/acme/wrong-files").status_code == 404


def test_a_list_has_the_files_where_they_are_asked_for(hub: LocalHub) -> None:
    create(hub, "siblings", files=[{"path": "a.txt", **TEXT}])
    url = "/api/models?search=siblings&limit=500&expand=likes"
    assert "siblings" not in ask(hub, "GET", url).json()[0]
    (found,) = ask(hub, "GET", f"{url}&expand=siblings").json()
    assert [file["rfilename"] for file in found["siblings"]] == [".gitattributes", "a.txt"]


def test_an_empty_branch_has_no_files(hub: LocalHub) -> None:
    create(hub, "branches")
    url = "/api/models/acme/branches/branch/empty"
    assert ask(hub, "POST", url, json={"emptyBranch": True}).status_code == 200
    assert paths(ask(hub, "GET", "/api/models/acme/branches/tree/empty")) == []
    assert len(ask(hub, "GET", "/api/models/acme/branches/commits/empty").json()) == 1
    assert ask(hub, "POST", url, json={"emptyBranch": True}).status_code == 409
    assert ask(hub, "POST", url, json={"overwrite": True, "startingPoint": "main"}).status_code == 200
    assert paths(ask(hub, "GET", "/api/models/acme/branches/tree/empty")) == [".gitattributes"]


def test_a_new_bucket_has_an_id(hub: LocalHub) -> None:
    assert len(ask(hub, "POST", "/api/buckets/acme/b", json={}).json()["id"]) == 24


@pytest.mark.parametrize("revision", ["refs/pr/1", "refs%2Fpr%2F1"])
def test_the_slashes_of_a_pull_request_may_be_escaped_or_not(hub: LocalHub, revision: str) -> None:
    name = f"pulls-{len(revision)}"
    create(hub, name)
    lines = (
        '{"key":"header","value":{"summary":"s"}}\n'
        '{"key":"file","value":{"path":"tree/a.txt","content":"hi","encoding":"utf-8"}}'
    )
    made = ask(hub, "POST", f"/api/models/acme/{name}/commit/main?create_pr=1", data=lines).json()
    one = f"/api/models/acme/{name}"
    assert paths(ask(hub, "GET", f"{one}/tree/{revision}")) == [".gitattributes", "tree"]
    assert paths(ask(hub, "GET", f"{one}/tree/{revision}/tree")) == ["tree/a.txt"]
    assert ask(hub, "GET", f"{one}/commits/{revision}").json()[0]["id"] == made["commitOid"]
    assert ask(hub, "GET", f"{one}/revision/{revision}").json()["sha"] == made["commitOid"]
    assert ask(hub, "GET", f"{one}/xet-read-token/{revision}").status_code == 200
    for route in ("resolve", "raw"):
        assert ask(hub, "GET", f"/acme/{name}/{route}/{revision}/tree/a.txt").content == b"hi"
    missing = ask(hub, "GET", f"{one}/tree/{revision.replace('1', '9')}")
    assert (missing.status_code, missing.headers["x-error-code"]) == (404, "RevisionNotFound")
