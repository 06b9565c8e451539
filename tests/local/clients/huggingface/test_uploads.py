"""Uploading, listing and downloading files with ``huggingface_hub``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import requests
from huggingface_hub import CommitOperationAdd, CommitScheduler, HfApi, HfFileSystem

from support.hub_calls import binary, names, read, upload
from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub


def test_text_travels_in_the_commit_and_binary_through_cas(
    hub: LocalHub, api: HfApi, repo: str, tmp_path: Path
) -> None:
    upload(api, repo, "a.txt", b"hello")
    assert hub.log.requests(".*/xet-write-token/.*") == []
    upload(api, repo, "a.bin", binary("through cas"))
    assert len(hub.log.requests("POST /cas/.*/shards", status=200)) == 1
    text, xet = api.get_paths_info(repo, ["a.txt", "a.bin", "none"], repo_type="dataset")
    assert (text.size, text.lfs, text.xet_hash) == (5, None, None)
    assert (xet.size, xet.lfs.sha256) == (20_000, hashlib.sha256(binary("through cas")).hexdigest())
    assert hub.content.file(xet.xet_hash).size == 20_000
    assert read(api, repo, "a.txt", tmp_path) == b"hello"
    assert read(api, repo, "a.bin", tmp_path) == binary("through cas")
    assert len(hub.log.requests("GET /cas/.*/v2/reconstructions/.*", status=200)) == 1
    assert hub.log.requests("GET .*/resolve/.*/a.bin") == []
    head = requests.head(f"{hub.url}/datasets/{repo}/resolve/main/a.bin", timeout=20).headers
    assert head["etag"] == head["x-linked-etag"] == f'"{xet.lfs.sha256}"'
    assert (head["x-xet-hash"], head["x-linked-size"]) == (xet.xet_hash, "20000")


def test_an_unchanged_upload_makes_no_commit(hub: LocalHub, api: HfApi, repo: str) -> None:
    first = upload(api, repo, "a.bin", binary("same"))
    upload(api, repo, "a.txt", b"same")
    hub.log.clear()
    upload(api, repo, "a.bin", binary("same"))
    upload(api, repo, "a.txt", b"same")
    assert hub.log.requests("POST .*/commit/.*") == []
    assert [commit.commit_id for commit in api.list_repo_commits(repo, repo_type="dataset")][1] == first


def test_an_empty_file_is_a_file(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "empty.bin", b"")
    assert read(api, repo, "empty.bin", tmp_path) == b""
    url = f"{hub.url}/datasets/{repo}/resolve/main/empty.bin"
    answer = requests.get(url, headers={"Range": "bytes=0-0"}, timeout=20)  # as JavaScript asks for the size
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (200, b"", "bytes */0")


def test_a_folder_goes_up_and_comes_back(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    content = {"a.txt": b"text", "d/b.bin": binary("b"), "d/e/c.parquet": binary("c", 300_000), "README.md": b"# hi\n"}
    for path, data in content.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(data)
    api.upload_folder(folder_path=tmp_path / "up", repo_id=repo, repo_type="dataset", path_in_repo="in")
    found = api.snapshot_download(repo, repo_type="dataset", cache_dir=tmp_path / "cache", allow_patterns="in/*")
    assert {path: (Path(found) / "in" / path).read_bytes() for path in content} == content
    api.upload_folder(
        folder_path=tmp_path / "up" / "d", repo_id=repo, repo_type="dataset", path_in_repo="in", delete_patterns="a*"
    )
    assert names(api, repo) == {"in/README.md", "in/b.bin", "in/e/c.parquet", "in/d/b.bin", "in/d/e/c.parquet"}


@pytest.mark.parametrize(
    "path", ["sub dir/\u00e9#.bin", "100%.txt", "a?b&c=d.bin", "+plus+.bin", "\u65e5\u672c/\U0001f600.bin", "a%2Fb.bin"]
)
def test_a_strange_name_stays_what_it_is(api: HfApi, repo: str, tmp_path: Path, path: str) -> None:
    upload(api, repo, path, binary(path))
    assert names(api, repo) == {path}
    assert [entry.path for entry in api.get_paths_info(repo, [path], repo_type="dataset")] == [path]
    assert read(api, repo, path, tmp_path) == binary(path)


def test_ranges_are_read_from_both_kinds_of_file(hub: LocalHub, api: HfApi, repo: str) -> None:
    content = {"a.txt": b"0123456789" * 10, "a.bin": binary("range", 200_000)}
    for path, data in content.items():
        upload(api, repo, path, data)
    session = requests.Session()
    for path, data in content.items():
        url = f"{hub.url}/datasets/{repo}/resolve/main/{path}"
        whole = session.get(url, timeout=20)
        assert (whole.status_code, whole.content) == (200, data)
        part = session.get(url, headers={"Range": "bytes=10-19"}, timeout=20)
        assert (part.status_code, part.content) == (206, data[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
        assert session.get(url, headers={"Range": "bytes=-7"}, timeout=20).content == data[-7:]
        behind = session.get(url, headers={"Range": f"bytes={len(data)}-"}, timeout=20)
        assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(data)}")
        head = session.head(url, timeout=20)
        assert (head.headers["content-length"], head.content) == (str(len(data)), b"")
    with HfFileSystem(endpoint=hub.url, token=hub.token()).open(f"datasets/{repo}/a.bin") as file:
        file.seek(150_000)
        assert file.read(1000) == content["a.bin"][150_000:151_000]


def test_raw_gives_the_pointer_of_a_xet_file(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("raw"))
    text = requests.get(f"{hub.url}/datasets/{repo}/raw/main/a.bin", timeout=20).text
    assert f"oid sha256:{hashlib.sha256(binary('raw')).hexdigest()}\nsize 20000\n" in text


def test_a_large_repository_is_listed_in_pages_of_1000_and_with_details_of_50(
    hub: LocalHub, api: HfApi, repo: str
) -> None:
    paths = {f"d{number % 3}/{number:04}.txt" for number in range(1100)} | {f"d1/sub{number}/x" for number in range(50)}
    operations = [CommitOperationAdd(path, b"x") for path in paths]
    api.create_commit(repo, operations, commit_message="many", repo_type="dataset")
    hub.log.clear()
    assert names(api, repo) == paths
    assert len(hub.log.requests("GET .*/tree/main")) == 2
    hub.log.clear()
    found = list(api.list_repo_tree(repo, repo_type="dataset", recursive=True, expand=True))
    assert len(found) == len({entry.path for entry in found}) == 1 + 3 + 1100 + 100
    assert {entry.last_commit.title for entry in found} == {"many", "initial commit"}
    assert len(hub.log.requests("GET .*/tree/main")) == 25
    in_one = list(api.list_repo_tree(repo, "d1", repo_type="dataset", expand=True))
    assert sorted(entry.path for entry in in_one) == [entry.path for entry in in_one]
    assert len(in_one) == 367 + 50


def test_a_token_for_a_revision_that_does_not_exist_is_404(hub: LocalHub, repo: str) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    base = f"{hub.url}/api/datasets/{repo}"
    for route in ("xet-write-token/none", "xet-read-token/none", "xet-write-token/None", "xet-write-token/dev%2Fx"):
        answer = requests.get(f"{base}/{route}", headers=headers, timeout=20)
        assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RevisionNotFound"), route
    answer = requests.get(f"{base}/xet-write-token/None?create_pr=1", headers=headers, timeout=20)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["x-xet-access-token"] == body["accessToken"]
    assert answer.headers["x-xet-token-expiration"] == str(body["exp"])
    assert answer.headers["x-xet-cas-url"] == body["casUrl"]
    assert body["casUrl"].startswith(f"{hub.url}/cas/")
    assert "date" in answer.headers
    assert hub.access.issued_xet_tokens()[-1] == body["accessToken"]


def test_the_client_retries_what_it_retries_anywhere(hub: LocalHub, api: HfApi, repo: str) -> None:
    fault = hub.faults.add(Fault("POST .*/preupload/main", times=1, status=503))
    upload(api, repo, "a.txt", b"1")
    assert hub.faults.acted(fault) == 1
    assert names(api, repo) == {"a.txt"}


def test_what_gitignore_names_is_left_out(api: HfApi, repo: str, tmp_path: Path) -> None:
    for path in ("keep.txt", "drop.log", "keep.log", "build/x.bin", "src/build/y.txt", "src/z.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"1")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\nbuild/\n")
    api.upload_folder(folder_path=tmp_path, repo_id=repo, repo_type="dataset")
    assert names(api, repo) == {".gitignore", "keep.txt", "keep.log", "src/z.txt"}
    upload(api, repo, "later.log", b"1")  # by the .gitignore that is there now
    assert "later.log" not in names(api, repo)


def test_gitattributes_decide_what_goes_to_cas(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, ".gitattributes", b"*.txt filter=lfs\nsmall/*.txt -filter\n")
    for path in ("a.txt", "small/b.txt", "small/deeper/c.txt", "d.md"):
        upload(api, repo, path, b"plain text")
    found = api.get_paths_info(repo, ["a.txt", "small/b.txt", "small/deeper/c.txt", "d.md"], repo_type="dataset")
    assert [entry.xet_hash is not None for entry in found] == [True, False, True, False]


def test_a_download_is_remembered_and_asked_for_once(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    commit = upload(api, repo, "a.bin", binary("cached"))
    upload(api, repo, "b.txt", b"cached")
    for path in ("a.bin", "b.txt"):
        read(api, repo, path, tmp_path)
        hub.log.clear()
        read(api, repo, path, tmp_path)
        assert [entry.method for entry in hub.log.requests()] == ["HEAD"]
    hub.log.clear()
    assert read(api, repo, "a.bin", tmp_path, revision=commit) == binary("cached")
    assert hub.log.requests("GET .*") == []
    read(api, repo, "a.bin", tmp_path, local_files_only=True)


def test_only_what_changed_is_sent(hub: LocalHub, repo: str, api: HfApi) -> None:
    upload(api, repo, "a.bin", binary("etag"))
    url = f"{hub.url}/datasets/{repo}/resolve/main/a.bin"
    etag = requests.get(url, timeout=20).headers["etag"]
    same = requests.get(url, headers={"If-None-Match": etag}, timeout=20)
    assert (same.status_code, same.content) == (304, b"")
    assert requests.get(url, headers={"If-None-Match": '"x"'}, timeout=20).status_code == 200
    part = {"Range": "bytes=5-9"}
    assert requests.get(url, headers={**part, "If-Range": etag}, timeout=20).status_code == 206
    assert requests.get(url, headers={**part, "If-Range": '"x"'}, timeout=20).content == binary("etag")


def test_a_snapshot_goes_into_a_folder_and_is_verified(api: HfApi, repo: str, tmp_path: Path) -> None:
    content = {"a.txt": b"text", "d/b.bin": binary("verified")}
    api.create_commit(
        repo,
        [CommitOperationAdd(path, data) for path, data in content.items()],
        commit_message="two",
        repo_type="dataset",
    )
    api.snapshot_download(repo, repo_type="dataset", local_dir=tmp_path, ignore_patterns=".gitattributes")
    assert {path: (tmp_path / path).read_bytes() for path in content} == content
    api.hf_hub_download(repo, ".gitattributes", repo_type="dataset", local_dir=tmp_path)
    verified = api.verify_repo_checksums(repo, repo_type="dataset", local_dir=tmp_path)
    assert (verified.checked_count, verified.mismatches) == (3, [])
    (tmp_path / "d/b.bin").write_bytes(binary("other"))
    assert len(api.verify_repo_checksums(repo, repo_type="dataset", local_dir=tmp_path).mismatches) == 1


def test_a_large_folder_is_uploaded_in_the_background_of_many_calls(api: HfApi, repo: str, tmp_path: Path) -> None:
    content = {f"d{number % 7}/{number}.bin": binary(str(number), 500) for number in range(20)}
    content |= {f"t/{number}.txt": str(number).encode() for number in range(300)}
    for path, data in content.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(data)
    future = api.upload_folder(
        folder_path=tmp_path / "up", repo_id=repo, repo_type="dataset", run_as_future=True, delete_patterns="*"
    )
    assert future.result(timeout=60).oid
    assert names(api, repo) == set(content)
    found = Path(api.snapshot_download(repo, repo_type="dataset", cache_dir=tmp_path / "cache", max_workers=4))
    assert {path: (found / path).read_bytes() for path in content} == content


def test_files_are_uploaded_before_the_commit_that_names_them(hub: LocalHub, api: HfApi, repo: str) -> None:
    operation = CommitOperationAdd("a.bin", binary("early"))
    api.preupload_lfs_files(repo, [operation], repo_type="dataset")
    assert names(api, repo) == set()
    hub.log.clear()
    api.create_commit(repo, [operation], commit_message="late", repo_type="dataset")
    assert hub.log.requests("(POST|PUT) /cas/.*") == []
    assert names(api, repo) == {"a.bin"}


def test_a_scheduler_commits_a_folder_again_and_again(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("one\n")
    scheduler = CommitScheduler(
        repo_id=repo, repo_type="dataset", folder_path=tmp_path, every=60, hf_api=api, path_in_repo="logs"
    )
    try:
        scheduler.trigger().result(timeout=30)
        with (tmp_path / "log.txt").open("a") as file:
            file.write("two\n")
        scheduler.trigger().result(timeout=30)
    finally:
        scheduler.stop()
    text = requests.get(f"{hub.url}/datasets/{repo}/raw/main/logs/log.txt", timeout=20).text
    assert text == "one\ntwo\n"
