"""The local Hub as ``huggingface_hub`` sees it: the real client against a real server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
)
from huggingface_hub.errors import (
    BadRequestError,
    BucketNotFoundError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from airflow_provider_xethub.local.app import LocalStore, build_app
from airflow_provider_xethub.local.faults import Fault
from airflow_provider_xethub.local.server import LocalHub
from airflow_provider_xethub.repo import Repo

disable_progress_bars()

HEADER = '{"key":"header","value":{"summary":"s"}}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> Iterator[LocalHub]:
    server.log.clear()
    yield server
    server.faults.clear()


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token())


@pytest.fixture
def repo(hub: LocalHub, request: pytest.FixtureRequest) -> str:
    """A new empty dataset repository."""
    repo_id = f"acme/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    return hub.create_repo(repo_id, "dataset").repo_id


def binary(seed: str, size: int = 20_000) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


def upload(api: HfApi, repo: str, path: str, content: object, **options: object) -> str:
    done = api.upload_file(
        path_or_fileobj=content,  # type: ignore[arg-type]
        path_in_repo=path,
        repo_id=repo,
        repo_type="dataset",
        **options,  # type: ignore[arg-type]
    )
    return str(done.oid)


def read(api: HfApi, repo: str, path: str, cache: Path, **options: object) -> bytes:
    local = api.hf_hub_download(repo, path, repo_type="dataset", cache_dir=cache, **options)  # type: ignore[arg-type]
    return Path(local).read_bytes()


def names(api: HfApi, repo: str, **options: object) -> set[str]:
    return set(api.list_repo_files(repo, repo_type="dataset", **options)) - {".gitattributes"}  # type: ignore[arg-type]


def refused(call: Callable[[], object], status: int) -> str:
    with pytest.raises(HfHubHTTPError) as caught:
        call()
    assert caught.value.response.status_code == status
    return str(caught.value)


# -- repositories and who may see them


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_repository_is_created_once_and_deleted(api: HfApi, hub: LocalHub, repo_type: str) -> None:
    options = {"space_sdk": "static"} if repo_type == "space" else {}
    url = api.create_repo("acme/created", repo_type=repo_type, **options)  # type: ignore[arg-type]
    assert str(url) == hub.url + Repo("acme/created", repo_type).web_path  # type: ignore[arg-type]
    assert (url.repo_id, url.repo_type) == ("acme/created", repo_type)
    assert api.create_repo("acme/created", repo_type=repo_type, exist_ok=True, **options) == url  # type: ignore[arg-type]
    refused(lambda: api.create_repo("acme/created", repo_type=repo_type, **options), 409)  # type: ignore[arg-type]
    api.delete_repo("acme/created", repo_type=repo_type)
    assert not api.repo_exists("acme/created", repo_type=repo_type)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("acme/created", repo_type=repo_type)


def test_without_a_namespace_the_repository_is_the_users_own(api: HfApi) -> None:
    assert api.create_repo("mine").repo_id == "local/mine"


def test_a_private_repository_is_invisible_to_others(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo("acme/private", repo_type="dataset", private=True)
    upload(api, "acme/private", "a.txt", b"secret")
    assert api.repo_info("acme/private", repo_type="dataset").private is True
    bob = HfApi(endpoint=hub.url, token=hub.add_user("bob", role="write"))
    nobody = HfApi(endpoint=hub.url, token=False)
    for stranger in (bob, nobody):
        assert not stranger.repo_exists("acme/private", repo_type="dataset")
        for call in (
            lambda stranger=stranger: stranger.list_repo_files("acme/private", repo_type="dataset"),
            lambda stranger=stranger: stranger.hf_hub_download(
                "acme/private", "a.txt", repo_type="dataset", cache_dir=tmp_path
            ),
            lambda stranger=stranger: upload(stranger, "acme/private", "b.txt", b"x"),
        ):
            with pytest.raises(RepositoryNotFoundError):
                call()
    assert "acme/private" not in [found.id for found in bob.list_datasets()]
    assert "acme/private" in [found.id for found in api.list_datasets(author="acme")]
    api.update_repo_settings("acme/private", repo_type="dataset", visibility="public")
    assert bob.repo_exists("acme/private", repo_type="dataset")


def test_a_read_only_token_reads_and_does_not_write(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "a.bin", binary("a"))
    reader = HfApi(endpoint=hub.url, token=hub.token("read"))
    assert read(reader, repo, "a.bin", tmp_path) == binary("a")
    for call in (
        lambda: upload(reader, repo, "b.txt", b"x"),
        lambda: reader.create_repo("acme/other"),
        lambda: reader.delete_repo(repo, repo_type="dataset"),
        lambda: reader.create_tag(repo, tag="v1", repo_type="dataset"),
    ):
        assert "read-only" in refused(call, 403)
    answer = requests.get(
        f"{hub.url}/api/datasets/{repo}/xet-write-token/main",
        headers={"Authorization": f"Bearer {hub.token('read')}"},
        timeout=20,
    )
    assert (answer.status_code, answer.headers.get("x-xet-access-token")) == (403, None)


def test_a_fine_grained_token_reaches_what_it_was_granted(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    other = hub.create_repo("acme/not-granted", "dataset", private=True).repo_id
    token = hub.add_user("carol", role="fineGrained", grants={f"datasets/{repo}": "write"})
    carol = HfApi(endpoint=hub.url, token=token)
    upload(carol, repo, "a.bin", binary("fine"))
    assert read(carol, repo, "a.bin", tmp_path) == binary("fine")
    assert not carol.repo_exists(other, repo_type="dataset")
    refused(lambda: carol.create_repo("acme/new"), 403)
    assert carol.whoami()["auth"]["accessToken"]["role"] == "fineGrained"
    assert api.list_repo_commits(repo, repo_type="dataset")[0].authors == ["carol"]


def test_whoami_says_who_and_with_which_token(hub: LocalHub, api: HfApi) -> None:
    answer = api.whoami()
    assert (answer["name"], answer["auth"]["accessToken"]["role"]) == ("local", "write")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_wrong").whoami()


def test_a_wrong_token_is_not_taken_for_a_missing_repository(hub: LocalHub, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=hub.url, token="hf_wrong").repo_info(repo, repo_type="dataset")
    assert not isinstance(caught.value, RepositoryNotFoundError)
    assert caught.value.response.status_code == 401


def test_what_does_not_exist_is_named_by_its_own_error(api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "d/a.txt", b"x")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("acme/none", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(repo, repo_type="dataset", revision="none")
    with pytest.raises(RevisionNotFoundError):
        read(api, repo, "d/a.txt", tmp_path, revision="none")
    for path in ("none.txt", "d", "d/a.txt/x"):
        with pytest.raises(RemoteEntryNotFoundError):
            read(api, repo, path, tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "none", repo_type="dataset"))
    assert api.repo_exists(repo, repo_type="dataset")
    assert api.revision_exists(repo, "main", repo_type="dataset")
    assert not api.revision_exists(repo, "none", repo_type="dataset")
    assert api.file_exists(repo, "d/a.txt", repo_type="dataset")
    assert not api.file_exists(repo, "d/b.txt", repo_type="dataset")
    assert not api.file_exists("acme/none", "d/a.txt", repo_type="dataset")


# -- uploading and downloading


def test_text_travels_in_the_commit_and_binary_through_cas(
    hub: LocalHub, api: HfApi, repo: str, tmp_path: Path
) -> None:
    upload(api, repo, "a.txt", b"hello")
    assert hub.log.requests(".*/xet-write-token/.*") == []
    upload(api, repo, "a.bin", binary("through cas"))
    assert len(hub.log.requests("POST /cas/.*/v1/xorbs/.*", status=200)) == 1
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


def test_a_file_object_is_uploaded_by_lfs_and_downloaded_through_cas(
    hub: LocalHub, api: HfApi, repo: str, tmp_path: Path
) -> None:
    content = binary("lfs", 300_000)
    upload(api, repo, "a.bin", io.BytesIO(content))
    assert len(hub.log.requests("PUT .*", status=200)) == 1
    assert hub.log.requests("POST /cas/.*") == []
    assert read(api, repo, "a.bin", tmp_path) == content
    hub.log.clear()
    upload(api, repo, "b.bin", io.BytesIO(content))
    assert hub.log.requests("PUT .*") == []
    assert read(api, repo, "b.bin", tmp_path) == content


def test_an_lfs_upload_needs_its_signed_url_and_the_announced_bytes(hub: LocalHub, repo: str) -> None:
    content = binary("announced")
    oid = hashlib.sha256(content).hexdigest()
    batch = requests.post(
        f"{hub.url}/datasets/{repo}.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}]},
        headers={"Authorization": f"Bearer {hub.token()}"},
        timeout=20,
    ).json()
    url = batch["objects"][0]["actions"]["upload"]["href"]
    for wrong in (url.partition("&")[0], url.replace(oid, "1" * 64)):
        assert requests.put(wrong, data=content, timeout=20).status_code == 403
    for body in (content[:-1], binary("other")):
        assert requests.put(url, data=body, timeout=20).status_code == 400
    assert hub.content.file_by_sha256(oid) is None
    assert requests.put(url, data=content, timeout=20).status_code == 200
    assert hub.content.file_by_sha256(oid, repository=f"datasets/{repo}") is not None


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


def test_javascript_gets_xet_file_info_and_a_xet_upload(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("js"))
    answer = requests.get(
        f"{hub.url}/datasets/{repo}/resolve/main/a.bin",
        headers={"Range": "bytes=0-0", "Accept": "application/vnd.xet-fileinfo+json, */*"},
        timeout=20,
    )
    assert answer.headers["content-type"] == "application/vnd.xet-fileinfo+json"
    assert (answer.status_code, answer.headers["x-linked-size"]) == (200, "20000")
    assert set(answer.links) == {"xet-auth", "xet-reconstruction-info"}
    token = requests.get(answer.links["xet-auth"]["url"], timeout=20).json()["accessToken"]
    reconstruction = requests.get(
        answer.links["xet-reconstruction-info"]["url"], headers={"Authorization": f"Bearer {token}"}, timeout=20
    )
    assert reconstruction.status_code == 200
    batch = requests.post(
        f"{hub.url}/datasets/{repo}.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic", "xet"], "objects": [{"oid": "1" * 64, "size": 3}]},
        headers={"Authorization": f"Bearer {hub.token()}"},
        timeout=20,
    ).json()
    upload_action = batch["objects"][0]["actions"]["upload"]
    assert batch["transfer"] == "xet"
    assert hub.access.verify_xet_token(upload_action["header"]["X-Xet-Access-Token"]).scope == "write"
    headers = {"Authorization": f"Bearer {hub.token()}"}
    assert requests.get(upload_action["href"], headers=headers, timeout=20).json()["exp"] > time.time()


# -- commits


def test_a_commit_adds_copies_and_deletes_at_once(api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "old.bin", binary("old"))
    upload(api, repo, "d/x.txt", b"x")
    done = api.create_commit(
        repo,
        [
            CommitOperationAdd("new.bin", binary("new")),
            CommitOperationCopy("old.bin", "copy.bin"),
            CommitOperationDelete("old.bin"),
            CommitOperationDelete("d/"),
        ],
        commit_message="title",
        commit_description="and why",
        repo_type="dataset",
    )
    assert names(api, repo) == {"new.bin", "copy.bin"}
    assert read(api, repo, "copy.bin", tmp_path) == binary("old")
    newest = api.list_repo_commits(repo, repo_type="dataset")[0]
    assert (newest.commit_id, newest.title, newest.message) == (done.oid, "title", "and why")
    assert requests.get(done.commit_url, timeout=20).status_code == 200
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("old.bin", repo, repo_type="dataset")


def test_a_commit_upon_an_old_parent_is_412(api: HfApi, repo: str) -> None:
    parent = api.repo_info(repo, repo_type="dataset").sha
    upload(api, repo, "a.txt", b"1", parent_commit=parent)
    refused(lambda: upload(api, repo, "a.txt", b"2", parent_commit=parent), 412)


def test_a_commit_of_what_was_never_uploaded_is_400(hub: LocalHub, api: HfApi, repo: str) -> None:
    line = json.dumps({"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": "1" * 64, "size": 3}})
    assert "does not exist" in commit_lines(hub, repo, HEADER, line, status=400)


def test_knowing_a_sha256_gives_nobody_the_file(hub: LocalHub, api: HfApi, repo: str) -> None:
    hub.create_repo("acme/hidden", "dataset", private=True)
    upload(api, "acme/hidden", "a.bin", binary("hidden"))
    sha256 = hashlib.sha256(binary("hidden")).hexdigest()
    thief = hub.add_user("thief", role="fineGrained", grants={f"datasets/{repo}": "write"})
    lines = (HEADER, json.dumps({"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": sha256}}))
    commit_lines(hub, repo, *lines, status=400, token=thief)
    commit_lines(hub, repo, *lines, status=200, token=hub.token())


@pytest.mark.parametrize(
    "lines",
    [
        ["nonsense"],
        ["[1]"],
        ['{"key":"file","value":{"path":"a","content":"eA==","encoding":"base64"}}'],
        ['{"key":"header","value":{"summary":" "}}'],
        ['{"key":"header","value":{}}'],
        [HEADER, '{"key":"file","value":{"path":"../a","content":""}}'],
        [
            HEADER,
            '{"key":"file","value":{"path":"a","content":"?","encoding":"base64"}}',
        ],
        [HEADER, '{"key":"file","value":{"path":"a","content":3}}'],
        [HEADER, '{"key":"lfsFile","value":{"path":"a","oid":"x"}}'],
        [HEADER, '{"key":"other","value":{"path":"a"}}'],
        [HEADER, "[" * 100_000],
    ],
)
def test_a_broken_commit_is_400_and_changes_nothing(hub: LocalHub, api: HfApi, repo: str, lines: list[str]) -> None:
    before = api.repo_info(repo, repo_type="dataset").sha
    assert commit_lines(hub, repo, *lines, status=400)
    assert api.repo_info(repo, repo_type="dataset").sha == before


def commit_lines(hub: LocalHub, repo: str, *lines: str, status: int, token: str | None = None) -> str:
    answer = requests.post(
        f"{hub.url}/api/datasets/{repo}/commit/main",
        data="\n".join(lines),
        headers={"Authorization": f"Bearer {token or hub.token()}", "Content-Type": "application/x-ndjson"},
        timeout=20,
    )
    assert answer.status_code == status, answer.text
    return str(answer.json().get("error", ""))


def test_a_pull_request_is_opened_pushed_to_and_merged(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    done = api.create_commit(
        repo,
        [CommitOperationAdd("a.bin", binary("pr")), CommitOperationAdd("a.txt", b"1")],
        commit_message="please",
        repo_type="dataset",
        create_pr=True,
    )
    assert (done.pr_revision, done.pr_num) == ("refs/pr/1", 1)
    assert names(api, repo) == set()
    upload(api, repo, "b.bin", binary("pr2"), revision="refs/pr/1")
    assert names(api, repo, revision="refs/pr/1") == {"a.bin", "a.txt", "b.bin"}
    assert read(api, repo, "a.bin", tmp_path, revision="refs/pr/1") == binary("pr")
    assert requests.get(done.pr_url, timeout=20).status_code == 200
    refs = api.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True)
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    assert [found.title for found in api.get_repo_discussions(repo, repo_type="dataset")] == ["please"]
    api.merge_pull_request(repo, 1, repo_type="dataset")
    assert names(api, repo) == {"a.bin", "a.txt", "b.bin"}
    assert api.get_discussion_details(repo, 1, repo_type="dataset").status == "merged"


def test_a_folder_opens_a_pull_request_of_its_own(api: HfApi, repo: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1")
    api.upload_folder(folder_path=tmp_path, repo_id=repo, repo_type="dataset", create_pr=True)
    assert names(api, repo) == set()
    assert names(api, repo, revision="refs/pr/1") == {"a.txt"}


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


# -- branches, tags, history


def test_branches_and_tags(api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "a.txt", b"1")
    api.create_branch(repo, branch="dev/x", repo_type="dataset")
    api.create_branch(repo, branch="dev/x", repo_type="dataset", exist_ok=True)
    refused(lambda: api.create_branch(repo, branch="dev/x", repo_type="dataset"), 409)
    api.create_tag(repo, tag="v1", tag_message="first", repo_type="dataset")
    upload(api, repo, "a.bin", binary("branch"), revision="dev/x")
    assert names(api, repo) == {"a.txt"}
    assert read(api, repo, "a.bin", tmp_path, revision="dev/x") == binary("branch")
    refs = api.list_repo_refs(repo, repo_type="dataset")
    assert [ref.name for ref in refs.branches] == ["dev/x", "main"]
    assert [(ref.name, ref.ref) for ref in refs.tags] == [("v1", "refs/tags/v1")]
    with pytest.raises(BadRequestError):
        upload(api, repo, "b.txt", b"1", revision="v1")
    api.delete_branch(repo, branch="dev/x", repo_type="dataset")
    api.delete_tag(repo, tag="v1", repo_type="dataset")
    assert not api.revision_exists(repo, "dev/x", repo_type="dataset")
    assert not api.revision_exists(repo, "v1", repo_type="dataset")


def test_history_is_listed_and_squashed(api: HfApi, repo: str) -> None:
    for number in range(3):
        upload(api, repo, "a.txt", str(number).encode(), commit_message=f"number {number}")
    titles = [commit.title for commit in api.list_repo_commits(repo, repo_type="dataset")]
    assert titles == ["number 2", "number 1", "number 0", "initial commit"]
    api.super_squash_history(repo, repo_type="dataset", commit_message="all")
    assert [commit.title for commit in api.list_repo_commits(repo, repo_type="dataset")] == ["all"]
    assert names(api, repo) == {"a.txt"}


def test_a_large_repository_is_listed_in_pages(hub: LocalHub, api: HfApi, repo: str) -> None:
    operations = [CommitOperationAdd(f"d{number % 3}/{number:04}.txt", b"x") for number in range(1100)]
    api.create_commit(repo, operations, commit_message="many", repo_type="dataset")
    hub.log.clear()
    assert len(names(api, repo)) == 1100
    found = list(api.list_repo_tree(repo, repo_type="dataset", recursive=True, expand=True))
    assert len(found) == 1104
    assert {entry.last_commit.title for entry in found} == {"many", "initial commit"}
    assert len(hub.log.requests("GET .*/tree/main")) == 4


def test_a_moved_repository_keeps_its_files(api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "a.bin", binary("moved"))
    api.move_repo(repo, "acme/moved", repo_type="dataset")
    assert read(api, "acme/moved", "a.bin", tmp_path) == binary("moved")
    assert not api.repo_exists(repo, repo_type="dataset")


def test_a_new_repository_of_an_old_name_cannot_read_the_old_files(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("gone"))
    (entry,) = api.get_paths_info(repo, ["a.bin"], repo_type="dataset")
    assert hub.content.is_readable(f"datasets/{repo}", entry.xet_hash)
    api.delete_repo(repo, repo_type="dataset")
    api.create_repo(repo, repo_type="dataset")
    assert not hub.content.is_readable(f"datasets/{repo}", entry.xet_hash)


# -- buckets


def test_a_bucket_takes_and_gives_files(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    api.create_bucket("acme/raw")
    api.create_bucket("acme/raw", exist_ok=True)
    content = {"a.bin": binary("bucket"), "d/\u00e9 x.bin": binary("bucket2", 300_000), "empty": b""}
    api.batch_bucket_files("acme/raw", add=[(data, path) for path, data in content.items()])
    listed = [entry for entry in api.list_bucket_tree("acme/raw", recursive=True) if entry.type == "file"]
    assert {entry.path: entry.size for entry in listed} == {path: len(data) for path, data in content.items()}
    assert [entry.path for entry in api.list_bucket_tree("acme/raw")] == ["a.bin", "d", "empty"]
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
    for line in (add, copy, {**add, "xetHash": "1" * 64}, {**add, "xetHash": "x"}, {**add, "mtime": 10**20}):
        answer = batch_lines(hub, "thief/loot", thief, line)
        assert (answer.status_code, answer.json()["succeeded"]) == (422, 0)
    assert batch_lines(hub, "thief/loot", hub.token(), copy).json()["success"] is True
    assert [found.path for found in api.list_bucket_tree("thief/loot")] == ["a.bin"]


def batch_lines(hub: LocalHub, bucket: str, token: str, *lines: dict[str, object]) -> requests.Response:
    return requests.post(
        f"{hub.url}/api/buckets/{bucket}/batch",
        data="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
    )


# -- pages, and what goes wrong


def test_pages_show_repositories_files_and_commits_and_escape_names(hub: LocalHub, api: HfApi, repo: str) -> None:
    oid = upload(api, repo, "<b>x.bin", binary("page"), commit_message="<script>alert(1)</script>")
    base = f"{hub.url}/datasets/{repo}"
    pages = {path: requests.get(hub.url + path, timeout=20).text for path in ("/",)}
    pages |= {path: requests.get(base + path, timeout=20).text for path in ("", "/tree/main", f"/commit/{oid}")}
    assert repo in pages["/"]
    (entry,) = api.get_paths_info(repo, ["<b>x.bin"], repo_type="dataset")
    for path in ("", "/tree/main", f"/commit/{oid}"):
        assert "&lt;b&gt;x.bin" in pages[path]
        assert entry.xet_hash in pages[path]
    assert all("<script>" not in text and "<b>x" not in text for text in pages.values())
    for missing in (f"/commit/{'0' * 40}", "/discussions/1", "/discussions/99999999999999999999"):
        assert requests.get(base + missing, timeout=20).status_code == 404


@pytest.mark.parametrize(("client", "status"), [("127.0.0.1", 200), ("192.0.2.1", 404)])
def test_a_private_page_is_shown_on_this_machine_only(tmp_path: Path, client: str, status: int) -> None:
    store = LocalStore(tmp_path)
    store.repositories.create("models/acme/secret", private=True)
    path = "/acme/secret"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [(b"host", b"x")], "client": (client, 1), "server": ("x", 80), "scheme": "http"}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(build_app(store)(scope, receive, send))  # type: ignore[arg-type]
    store.close()
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/agent-harnesses", 404),
        ("GET", "/api/nothing/at/all/here", 404),
        ("PATCH", "/api/repos/create", 405),
        ("GET", "/api/models/acme%2F/x", 404),
        ("GET", "/api/models/%FF/x", 400),
        ("GET", "/api/datasets/{repo}/tree/main?cursor=x", 400),
        ("GET", "/datasets/{repo}/resolve/main/..%2F..%2Fsigning.key", 400),
        ("GET", "/datasets/{repo}/resolve/main/%00", 400),
        ("GET", "/api/datasets/{repo}/discussions/x", 404),
        ("GET", "/api/datasets/{repo}/discussions/99999999999999999999", 404),
        ("GET", "/api/datasets/{repo}/commits/main?cursor=99999999999999999999", 400),
        ("GET", "/api/files", 404),
    ],
)
def test_nonsense_has_a_json_error(hub: LocalHub, repo: str, method: str, path: str, status: int) -> None:
    url = hub.url + path.format(repo=repo)
    headers = {"Authorization": f"Bearer {hub.token()}"}
    answer = requests.request(method, url, headers=headers, timeout=20)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert answer.headers["x-error-message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("route", ["preupload/main", "paths-info/main", "tag/main", "discussions"])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"files": 3, "paths": 3, "tag": 3, "title": 3, "pullRequest": true}',
        b'{"files": [], "paths": [], "tag": "\\ud800", "title": "\\ud800", "pullRequest": true}',
    ],
)
def test_a_broken_json_body_is_400(hub: LocalHub, repo: str, route: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}", "Content-Type": "application/json"}
    answer = requests.post(f"{hub.url}/api/datasets/{repo}/{route}", data=body, headers=headers, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_client_retries_what_it_retries_anywhere(hub: LocalHub, api: HfApi, repo: str) -> None:
    fault = hub.faults.add(Fault("POST .*/preupload/main", times=1, status=503))
    upload(api, repo, "a.txt", b"1")
    assert hub.faults.acted(fault) == 1
    assert names(api, repo) == {"a.txt"}
