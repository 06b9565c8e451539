"""What is sent to commit, compared with what ``huggingface_hub`` sends for the same."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub._commit_api import _fetch_upload_modes, _prepare_commit_payload

from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.publish.parts import git_blob_id
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record
from support.small_server import Answer, Asked, SmallServer

REPO = Repo("acme/corpus", "dataset", "refs/pr/1")
CONTENTS = {
    "b.bin": b"\x00" * 600,
    "empty": b"",
    "inline.txt": "grüße\n".encode(),
    "sub folder/ü 🎉.bin": bytes(range(256)) * 10,
}
INLINE = ("inline.txt", "empty")


def theirs(deletes=(), description="", parent=None) -> list[dict]:
    operations: list[Any] = []
    for path, content in CONTENTS.items():
        operation = CommitOperationAdd(path, content)
        operation._upload_mode = "regular" if path in INLINE else "lfs"
        operations.append(operation)
    operations += [CommitOperationDelete(path) for path in deletes]
    return list(_prepare_commit_payload(operations, {}, "the title", description, parent))


def ours(deletes=(), description="", parent=None) -> list[dict]:
    def answer(asked: Asked) -> Answer:
        if "/paths-info/" in asked.path:
            paths = json.loads(asked.body)["paths"]
            return Answer([{"path": path, "type": "directory" if f"{path}/" in deletes else "file"} for path in paths])
        return Answer({"commitOid": "1" * 40})

    files = [record(REPO, path, content) for path, content in CONTENTS.items()]
    request = CommitRequest(REPO, files, deletes, "the title", description, parent)
    modes = {path: UploadMode(path in INLINE, None, False) for path in CONTENTS}
    with SmallServer(answer) as server:
        commit.publish(Hub(server.url), request, modes, lambda _: CONTENTS)
    return server.asked[-1].lines


@pytest.mark.parametrize("deletes", [(), ("old.txt",), ("old/",), ("a/b.txt", "c d/e/", "f")])
@pytest.mark.parametrize("parent", [None, "0" * 40])
@pytest.mark.parametrize("description", ["", "more text", "two\n\nparagraphs"])
def test_the_payload_is_theirs_but_for_the_key_in_the_description(deletes, parent, description):
    mine, other = ours(deletes, description, parent), theirs(deletes, description, parent)
    text = mine[0]["value"].pop("description")
    assert other[0]["value"].pop("description") == description
    assert re.fullmatch(re.escape(f"{description}\n\nXet-Commit-Key: ".lstrip()) + "[0-9a-f]{32}", text)
    assert mine == other


def modes_for_all(asked: Asked) -> Answer:
    files = json.loads(asked.body)["files"]
    return Answer({"files": [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False} for f in files]})


@pytest.mark.parametrize("gitignore", [None, "", "*.env\n"])
@pytest.mark.parametrize("create_pr", [False, True])
def test_the_preupload_requests_are_theirs(create_pr, gitignore):
    contents = CONTENTS | {f"{number:03}.bin": b"\x00" * number for number in range(300)}
    with SmallServer(modes_for_all) as server:
        operations = [CommitOperationAdd(path, content) for path, content in contents.items()]
        _fetch_upload_modes(operations, "dataset", "acme/corpus", {}, "refs%2Fpr%2F1", server.url, create_pr, gitignore)
        files = [record(REPO, path, content) for path, content in contents.items()]
        modes = commit.upload_modes(Hub(server.url), REPO, files, create_pr=create_pr, gitignore=gitignore)
    assert {path for path, mode in modes.items() if mode.inline} == {"empty", "000.bin"}
    for operation in operations:
        assert modes[operation.path_in_repo].inline == (operation._upload_mode == "regular")
    first, second = [asked.target for asked in server.asked[:2]], [asked.target for asked in server.asked[2:]]
    assert first == second
    # Ours are under way at the same time, so that either may arrive first.
    bodies = [json.loads(asked.body) for asked in server.asked]
    assert bodies[:2] == sorted(bodies[2:], key=bodies[:2].index)
    assert {asked.method for asked in server.asked} == {"POST"}


@pytest.mark.parametrize("create_pr", [False, True])
def test_the_commit_request_is_theirs(create_pr):
    oid = "1" * 40

    def answer(asked: Asked) -> Answer:
        if "/preupload/" in asked.path:
            return Answer({"files": [{"path": "inline.txt", "uploadMode": "regular", "shouldIgnore": False}]})
        if "/paths-info/" in asked.path:
            return Answer([{"type": "file", "path": "old.txt", "size": 1, "oid": oid}])
        if "/commit/" not in asked.path:
            return Answer({"id": "acme/corpus", "sha": oid, "siblings": []})
        made = {"commitOid": oid, "commitUrl": f"{server.url}/datasets/acme/corpus/commit/{oid}", "success": True}
        return Answer({**made, "pullRequestUrl": f"{server.url}/datasets/acme/corpus/discussions/1"})

    repo, content = REPO.at("main"), {"inline.txt": CONTENTS["inline.txt"]}
    with SmallServer(answer) as server:
        HfApi(server.url, token="hf_x").create_commit(
            repo.repo_id,
            [CommitOperationAdd("inline.txt", content["inline.txt"]), CommitOperationDelete("old.txt")],
            commit_message="the title",
            repo_type="dataset",
            revision="main",
            create_pr=create_pr,
        )
        files = [record(repo, path, content[path]) for path in content]
        request = CommitRequest(repo, files, ["old.txt"], "the title", create_pr=create_pr)
        modes = {"inline.txt": UploadMode(True, None, False)}
        commit.publish(Hub(server.url, "hf_x"), request, modes, lambda _: content)
    theirs, ours = [asked for asked in server.asked if "/commit/" in asked.path]
    assert ours.target == theirs.target
    assert ours.method == theirs.method == "POST"
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert ours.headers["authorization"] == theirs.headers["authorization"]
    assert ours.lines[1:] == theirs.lines[1:]
    assert ours.lines[0]["value"]["summary"] == theirs.lines[0]["value"]["summary"]


@pytest.mark.parametrize("content", [b"", b"text\n", bytes(1000)])
def test_the_blob_id_is_theirs(content):
    operation = CommitOperationAdd("x", content)
    operation._upload_mode = "regular"
    assert git_blob_id(content) == operation._local_oid


def test_the_sample_is_theirs():
    content = bytes(range(256)) * 4
    sample = base64.b64encode(CommitOperationAdd("x", content).upload_info.sample).decode()
    assert record(REPO, "x", content)["sample"] == sample
