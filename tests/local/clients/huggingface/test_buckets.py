"""Buckets with ``huggingface_hub``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    BucketBatchError,
    BucketNotFoundError,
)

from support.hub_calls import batch_lines, binary, names, upload
from xethub_local.server import LocalHub


def test_a_bucket_takes_and_gives_files(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    api.create_bucket("acme/raw")
    api.create_bucket("acme/raw", exist_ok=True)
    content = {"a.bin": binary("bucket"), "d/\u00e9 x.bin": binary("bucket2", 300_000), "empty": b""}
    api.batch_bucket_files("acme/raw", add=[(data, path) for path, data in content.items()])
    listed = [entry for entry in api.list_bucket_tree("acme/raw", recursive=True) if entry.type == "file"]
    assert {entry.path: entry.size for entry in listed} == {path: len(data) for path, data in content.items()}
    assert [entry.path for entry in api.list_bucket_tree("acme/raw", recursive=False)] == ["a.bin", "d", "empty"]
    api.download_bucket_files("acme/raw", files=[(path, tmp_path / str(n)) for n, path in enumerate(content)])
    assert [(tmp_path / str(n)).read_bytes() for n in range(3)] == list(content.values())
    info = api.bucket_info("acme/raw")
    assert (info.total_files, info.size) == (3, 320_000)
    api.batch_bucket_files("acme/raw", delete=["a.bin"])
    assert [entry.path for entry in api.get_bucket_paths_info("acme/raw", ["a.bin", "empty"])] == ["empty"]
    assert requests.get(f"{hub.url}/buckets/acme/raw", timeout=20).status_code == 200
    api.delete_bucket("acme/raw")
    with pytest.raises(BucketNotFoundError):
        api.bucket_info("acme/raw")


def test_knowing_a_xet_hash_gives_no_bucket_the_file(hub: LocalHub, api: HfApi, repo: str) -> None:
    hub.create_repo("acme/sealed", "dataset", private=True)
    upload(api, "acme/sealed", "a.bin", binary("sealed"))
    (entry,) = api.get_paths_info("acme/sealed", ["a.bin"], repo_type="dataset")
    hub.create_repo("thief/loot", "bucket")
    thief = hub.add_user("thief", role="write")
    add = {"type": "addFile", "path": "a.bin", "xetHash": entry.xet_hash, "mtime": 0}
    copy = {**add, "type": "copyFile", "sourceRepoType": "dataset", "sourceRepoId": "acme/sealed"}
    for line in (add, copy, {**add, "xetHash": "1" * 64}, {**add, "xetHash": "x"}, {**add, "mtime": 10**17}):
        answer = batch_lines(hub, "thief/loot", thief, line)
        assert (answer.status_code, answer.json()["succeeded"]) == (422, 0)
    assert batch_lines(hub, "thief/loot", hub.token(), copy).json()["success"] is True
    assert [found.path for found in api.list_bucket_tree("thief/loot")] == ["a.bin"]


def test_buckets_are_listed_moved_hidden_and_forgotten(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    mine = api.create_bucket("mine-alone")
    assert mine.bucket_id == "local/mine-alone"
    api.create_bucket("acme/first")
    assert [bucket.id for bucket in api.list_buckets()] == ["local/mine-alone"]
    assert "acme/first" in [bucket.id for bucket in api.list_buckets("acme", search="FIR")]
    api.batch_bucket_files("acme/first", add=[(binary("moving"), "a.bin")])
    api.move_bucket("acme/first", "acme/second")
    assert not list(api.list_buckets("acme", search="first"))
    api.download_bucket_files("acme/second", files=[("a.bin", tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == binary("moving")
    api.update_bucket_settings("acme/second", private=True)
    stranger = HfApi(endpoint=hub.url, token=hub.add_user("mallory", role="write"))
    with pytest.raises(BucketNotFoundError):
        stranger.bucket_info("acme/second")
    with pytest.raises(BucketNotFoundError):
        api.delete_bucket("acme/none")
    api.delete_bucket("acme/none", missing_ok=True)


def test_files_are_copied_between_buckets_and_from_repositories(hub: LocalHub, api: HfApi, repo: str) -> None:
    api.create_bucket("acme/from")
    api.create_bucket("acme/to")
    api.batch_bucket_files("acme/from", add=[(binary("copied"), "d/a.bin"), (b"", "d/empty")])
    upload(api, repo, "w/x.bin", binary("from repo"))
    upload(api, repo, "w/y.txt", b"regular")
    hub.log.clear()
    api.copy_files("hf://buckets/acme/from/d/", "hf://buckets/acme/to/copied/")
    assert hub.log.requests("(POST|PUT) /cas/.*") == []
    api.copy_files(f"hf://datasets/{repo}/w/", "hf://buckets/acme/to/")
    listed = {entry.path for entry in api.list_bucket_tree("acme/to", recursive=True) if entry.type == "file"}
    assert listed == {"copied/a.bin", "copied/empty", "x.bin", "y.txt"}
    other = hub.create_repo(f"{repo}-other", "dataset").repo_id
    api.copy_files(f"hf://datasets/{repo}/w/", f"hf://datasets/{other}/")
    assert names(api, other) == {"x.bin", "y.txt"}


def test_what_fails_in_a_batch_is_listed_and_the_rest_happens(api: HfApi) -> None:
    api.create_bucket("acme/partly")
    with pytest.raises(BucketBatchError) as caught:
        api.batch_bucket_files("acme/partly", add=[(b"1", "good"), (b"1", "../bad")], delete=["none"])
    assert [failure["path"] for failure in caught.value.failures] == ["../bad", "none"]
    assert [entry.path for entry in api.list_bucket_tree("acme/partly")] == ["good"]


def test_a_broken_line_leaves_a_bucket_as_it_was(hub: LocalHub, api: HfApi) -> None:
    api.create_bucket("acme/whole")
    api.batch_bucket_files("acme/whole", add=[(b"1", "a")])
    broken: dict[str, object] = {"type": "deleteFile"}
    answer = batch_lines(hub, "acme/whole", hub.token(), {"type": "deleteFile", "path": "a"}, broken)
    assert (answer.status_code, "'path'" in answer.json()["error"]) == (400, True)
    assert [entry.path for entry in api.list_bucket_tree("acme/whole")] == ["a"]


def test_a_folder_and_a_bucket_are_made_the_same(api: HfApi, tmp_path: Path) -> None:
    api.create_bucket("acme/synced")
    content = {"a.txt": b"1", "d/b.bin": binary("sync")}
    for path, data in content.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(data)
    api.batch_bucket_files("acme/synced", add=[(b"old", "old.txt")])
    api.sync_bucket(str(tmp_path / "up"), "hf://buckets/acme/synced", delete=True, quiet=True)
    plan = api.sync_bucket(str(tmp_path / "up"), "hf://buckets/acme/synced", quiet=True)
    assert {operation.action for operation in plan.operations} <= {"skip"}
    api.sync_bucket("hf://buckets/acme/synced", str(tmp_path / "down"), quiet=True)
    down = tmp_path / "down"
    assert {str(file.relative_to(down)): file.read_bytes() for file in down.rglob("*") if file.is_file()} == content


def test_a_tree_is_what_starts_with_a_text_and_has_folders_only_if_it_is_not_recursive(
    hub: LocalHub, api: HfApi
) -> None:
    hub.create_repo("acme/tree", "bucket")
    inside, beside = ["logs/a.txt", "logs/sub/b.txt"], ["logs.json", "logs_old/c.txt"]
    paths = [*inside, *beside, "top.txt", "\U0010ffff/x", "%_/x"]
    lines = [{"type": "addFile", "xetHash": "0" * 64, "mtime": 0, "path": path} for path in paths]
    assert batch_lines(hub, "acme/tree", hub.token(), *lines).status_code == 200

    def tree(prefix: str | None = None, recursive: bool | None = None) -> list[str]:
        entries = api.list_bucket_tree("acme/tree", prefix, recursive=recursive)
        return [entry.path + ("/" if entry.type == "directory" else "") for entry in entries]

    assert tree() == tree(recursive=True) == sorted(paths)
    assert tree(recursive=False) == ["%_/", "logs.json", "logs/", "logs_old/", "top.txt", "\U0010ffff/"]
    assert tree("logs") == tree("logs", True) == sorted([*inside, *beside])
    assert tree("logs", False) == ["logs.json", "logs/a.txt", "logs/sub/", "logs_old/"]
    assert tree("logs/") == inside
    assert tree("logs/", False) == ["logs/a.txt", "logs/sub/"]
    assert tree("lo", False) == ["logs.json", "logs/", "logs_old/"]
    # The path of a file makes no folder above it.
    for recursive in (None, False, True):
        assert tree("logs/sub/b.txt", recursive) == ["logs/sub/b.txt"]
        assert tree("\U0010ffff/", recursive) == ["\U0010ffff/x"]
        assert tree("%", recursive) == (["%_/"] if recursive is False else ["%_/x"])
        assert tree("_", recursive) == tree("logs/sub/b.txt/", recursive) == []
    # A file may have the name of a folder.
    assert batch_lines(hub, "acme/tree", hub.token(), {**lines[0], "path": "logs"}).status_code == 200
    assert tree("logs", False) == ["logs", "logs.json", "logs/a.txt", "logs/sub/", "logs_old/"]
    assert [entry.path for entry in hub.bucket_files.beneath("buckets/acme/tree", "logs")] == ["logs", *inside]


def test_a_large_bucket_is_listed_in_pages(hub: LocalHub, api: HfApi) -> None:
    hub.create_repo("acme/wide", "bucket")
    empty = {"type": "addFile", "xetHash": "0" * 64, "mtime": 0}
    lines = [{**empty, "path": f"d/{number:04}"} for number in range(1100)]
    assert batch_lines(hub, "acme/wide", hub.token(), *lines, {**empty, "path": "d.x"}).status_code == 200
    assert len([one for one in api.list_bucket_tree("acme/wide", recursive=True) if one.type == "file"]) == 1101
    assert len(list(api.list_bucket_tree("acme/wide", prefix="d/"))) == 1100
    assert [one.path for one in api.list_bucket_tree("acme/wide", recursive=False)] == ["d.x", "d"]
    assert api.bucket_info("acme/wide").total_files == 1101


def test_an_empty_file_is_copied_from_a_bucket_that_has_one_only(hub: LocalHub) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    hub.create_repo("acme/hollow", "bucket")
    copied = {"type": "copyFile", "sourceRepoType": "bucket", "sourceRepoId": "acme/hollow", "xetHash": "0" * 64}

    def send(change: dict[str, object]) -> int:
        url = f"{hub.url}/api/buckets/acme/hollow/batch"
        return requests.post(url, data=json.dumps(change), headers=headers, timeout=10).status_code

    assert send({**copied, "path": "copy"}) == 422
    assert send({"type": "addFile", "path": "empty", "xetHash": "0" * 64}) == 200
    assert send({**copied, "path": "copy"}) == 200
