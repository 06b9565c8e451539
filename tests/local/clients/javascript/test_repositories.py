"""Repositories, branches, commits and credentials as ``@huggingface/hub`` handles them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.javascript_client import JavaScript, JavaScriptError, blob
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


def binary(seed: str, size: int = 20_000) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


@pytest.mark.parametrize("prefix", KINDS.values(), ids=KINDS)
def test_a_repository_is_created_found_and_deleted(
    javascript: JavaScript, javascript_hub: LocalHub, prefix: str
) -> None:
    repo = f"{prefix}acme/life"
    assert javascript.call("repoExists", repo=repo) is False
    made = javascript.call("createRepo", repo=repo, sdk="gradio")
    assert made["repoUrl"] == f"{javascript_hub.url}/{repo}"
    assert made["id"]
    assert javascript.call("repoExists", repo=repo) is True
    assert javascript.call("checkRepoAccess", repo=repo) is None
    with pytest.raises(JavaScriptError, match="exists") as caught:
        javascript.call("createRepo", repo=repo)
    assert (caught.value.status, caught.value.data["url"]) == (409, made["repoUrl"])
    javascript.upload(repo, {"a.bin": binary(prefix)})
    assert javascript.download(repo, "a.bin") == binary(prefix)
    javascript.call("deleteRepo", repo=repo)
    assert javascript.call("repoExists", repo=repo) is False
    for name in ("deleteRepo", "checkRepoAccess"):
        with pytest.raises(JavaScriptError, match="Repository not found") as caught:
            javascript.call(name, repo=repo)
        assert caught.value.status == 404


def test_a_repository_is_created_with_its_first_files(javascript: JavaScript) -> None:
    files = [{"path": "README.md", "content": blob(b"# hi\n")}, {"path": "d/config.json", "content": blob(b"{}")}]
    javascript.call("createRepo", repo="acme/with-files", files=files)
    assert javascript.download("acme/with-files", "README.md") == b"# hi\n"
    assert javascript.download("acme/with-files", "d/config.json") == b"{}"


@pytest.mark.parametrize(
    ("repo", "describe", "list_all"),
    [
        ("acme/listed", "modelInfo", "listModels"),
        ("datasets/acme/listed", "datasetInfo", "listDatasets"),
        ("spaces/acme/listed", "spaceInfo", "listSpaces"),
    ],
)
def test_a_repository_is_described_and_listed(javascript: JavaScript, repo: str, describe: str, list_all: str) -> None:
    made = javascript.call("createRepo", repo=repo)
    commit = javascript.upload(repo, {"a.bin": binary(repo)})["commit"]["oid"]
    fields = ["author", "sha", "createdAt", "tags"]
    found = javascript.call(describe, name="acme/listed", additionalFields=fields)
    assert (found["id"], found["name"], found["private"]) == (made["id"], "acme/listed", False)
    assert (found["author"], found["sha"], found["tags"]) == ("acme", commit, ["region:us"])
    assert found["updatedAt"] >= found["createdAt"]
    assert javascript.call(describe, name="acme/listed", revision=commit, additionalFields=["sha"])["sha"] == commit
    listed = javascript.call(list_all, search={"owner": "acme", "query": "LISTED"}, additionalFields=fields)
    assert [(entry["id"], entry["name"], entry["sha"]) for entry in listed] == [(made["id"], "acme/listed", commit)]
    assert javascript.call(list_all, search={"owner": "nobody"}) == []


def test_the_files_of_a_model_are_listed_with_it(javascript: JavaScript) -> None:
    javascript.call("createRepo", repo="acme/files")
    javascript.upload("acme/files", {"a.bin": binary("f"), "d/b.txt": b"b"})
    expected = {".gitattributes", "a.bin", "d/b.txt"}
    assert set(javascript.call("modelInfo", name="acme/files", additionalFields=["filePaths"])["filePaths"]) == expected
    (listed,) = javascript.call("listModels", search={"query": "acme/files"}, additionalFields=["filePaths"])
    assert set(listed["filePaths"]) == expected


def test_lists_are_cut_to_the_limit(javascript: JavaScript) -> None:
    for number in range(3):
        javascript.call("createRepo", repo=f"datasets/limits/d{number}")
    listed = javascript.call("listDatasets", search={"owner": "limits"}, limit=2)
    assert len(listed) == 2
    assert {e["name"] for e in javascript.call("listDatasets", search={"owner": "limits"})} == {
        f"limits/d{number}" for number in range(3)
    }


def test_history_is_listed_in_pages_and_counted(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    made = [javascript.upload(javascript_repo, {"a.txt": str(n).encode()}, commitTitle=f"n{n}") for n in range(5)]
    javascript_hub.log.clear()
    commits = javascript.call("listCommits", repo=javascript_repo, batchSize=2)
    assert [commit["oid"] for commit in commits[:5]] == [m["commit"]["oid"] for m in reversed(made)]
    assert [commit["title"] for commit in commits] == ["n4", "n3", "n2", "n1", "n0", "initial commit"]
    assert commits[0]["authors"][0]["username"] == "local"
    assert len(javascript_hub.log.requests("GET .*/commits/main")) == 3
    assert javascript.call("countCommits", repo=javascript_repo) == 6
    first = made[0]["commit"]["oid"]
    assert javascript.download(javascript_repo, "a.txt", revision=first) == b"0"
    assert javascript.call("countCommits", repo=javascript_repo, revision=first) == 2


def test_branches_are_made_written_to_and_deleted(javascript: JavaScript, javascript_repo: str) -> None:
    before = javascript.upload(javascript_repo, {"a.txt": b"main"})["commit"]["oid"]
    javascript.call("createBranch", repo=javascript_repo, branch="dev")
    javascript.upload(javascript_repo, {"a.txt": b"dev", "b.bin": binary("dev")}, branch="dev")
    assert javascript.download(javascript_repo, "a.txt") == b"main"
    assert javascript.download(javascript_repo, "a.txt", revision="dev") == b"dev"
    assert javascript.download(javascript_repo, "b.bin", revision="dev") == binary("dev")
    with pytest.raises(JavaScriptError) as caught:
        javascript.call("createBranch", repo=javascript_repo, branch="dev")
    assert caught.value.status == 409
    javascript.call("createBranch", repo=javascript_repo, branch="dev", revision=before, overwrite=True)
    assert javascript.download(javascript_repo, "a.txt", revision="dev") == b"main"
    javascript.call("deleteBranch", repo=javascript_repo, branch="dev")
    with pytest.raises(JavaScriptError, match="Invalid rev id: dev"):
        javascript.download(javascript_repo, "a.txt", revision="dev")


def test_a_branch_with_a_slash_is_written_and_read(javascript: JavaScript, javascript_repo: str) -> None:
    javascript.call("createBranch", repo=javascript_repo, branch="topic/new")
    javascript.upload(javascript_repo, {"b.bin": binary("slash")}, branch="topic/new")
    assert javascript.download(javascript_repo, "b.bin", revision="topic/new") == binary("slash")


def test_an_empty_branch_has_no_files(javascript: JavaScript, javascript_repo: str) -> None:
    javascript.upload(javascript_repo, {"a.txt": b"a"})
    javascript.call("createBranch", repo=javascript_repo, branch="empty", empty=True)
    assert javascript.call("listFiles", repo=javascript_repo, revision="empty") == []
    javascript.upload(javascript_repo, {"b.txt": b"b"}, branch="empty")
    assert [entry["path"] for entry in javascript.call("listFiles", repo=javascript_repo, revision="empty")] == [
        "b.txt"
    ]


def test_a_commit_upon_an_outdated_parent_is_refused(javascript: JavaScript, javascript_repo: str) -> None:
    parent = javascript.upload(javascript_repo, {"a.txt": b"1"})["commit"]["oid"]
    javascript.upload(javascript_repo, {"a.txt": b"2"}, parentCommit=parent)
    with pytest.raises(JavaScriptError) as caught:
        javascript.upload(javascript_repo, {"a.txt": b"3"}, parentCommit=parent)
    assert caught.value.status == 412
    assert javascript.download(javascript_repo, "a.txt") == b"2"


def test_a_pull_request_is_opened_and_read(javascript: JavaScript, javascript_repo: str) -> None:
    made = javascript.upload(javascript_repo, {"a.txt": b"pr", "b.bin": binary("pr")}, isPullRequest=True)
    assert made["pullRequestUrl"].endswith(f"/{javascript_repo}/discussions/1")
    assert javascript.download(javascript_repo, "a.txt") is None
    for path, content in (("a.txt", b"pr"), ("b.bin", binary("pr"))):
        assert javascript.download(javascript_repo, path, revision="refs/pr/1") == content
    # This client escapes the slashes of a revision in some calls, and not in these two.
    listed = javascript.call("listFiles", repo=javascript_repo, revision="refs/pr/1")
    assert {entry["path"] for entry in listed} == {".gitattributes", "a.txt", "b.bin"}
    assert javascript.call("listCommits", repo=javascript_repo, revision="refs/pr/1")[0]["oid"] == made["commit"]["oid"]


def test_who_asks_is_told(javascript: JavaScript) -> None:
    me = javascript.call("whoAmI")
    assert (me["type"], me["name"], me["auth"]["accessToken"]["role"]) == ("user", "local", "write")
    with pytest.raises(JavaScriptError, match="Invalid credentials") as caught:
        javascript.call("whoAmI", accessToken="hf_wrong")
    assert caught.value.status == 401
    with pytest.raises(JavaScriptError, match="must start with 'hf_'"):
        javascript.call("whoAmI", accessToken="wrong")


def test_a_private_repository_is_invisible_to_others(javascript: JavaScript, javascript_hub: LocalHub) -> None:
    stranger = javascript_hub.access.add_user("stranger", role="write")
    repo = "datasets/acme/secret"
    javascript.call("createRepo", repo=repo, visibility="private")
    javascript.upload(repo, {"a.bin": binary("secret")})
    info = javascript.call("fileDownloadInfo", repo=repo, path="a.bin")
    assert javascript.download(repo, "a.bin") == binary("secret")
    for token, status in ((stranger, 404), ("", 401)):
        assert javascript.call("repoExists", repo=repo, accessToken=token) is False
        for name, params in (
            ("checkRepoAccess", {}),
            ("listFiles", {}),
            ("downloadFile", {"path": "a.bin"}),
            ("uploadFile", {"file": {"path": "b.txt", "content": blob(b"b")}}),
        ):
            with pytest.raises(JavaScriptError, match="Repository not found") as caught:
                javascript.call(name, repo=repo, accessToken=token, **params)
            assert (caught.value.kind, caught.value.status) == ("HubApiError", status)
        assert [e["name"] for e in javascript.call("listDatasets", accessToken=token)].count("acme/secret") == 0
    # Who has the addresses of the file still needs a Xet token.
    info["xet"] |= {name: {"$url": info["xet"][name]} for name in ("refreshUrl", "reconstructionUrl")}
    with pytest.raises(JavaScriptError, match="Failed to get JWT token: 404"):
        javascript.download(repo, "a.bin", accessToken=stranger, downloadInfo=info)


def test_a_read_token_reads_and_does_not_write(javascript: JavaScript, javascript_hub: LocalHub) -> None:
    repo = "datasets/acme/readable"
    javascript.call("createRepo", repo=repo, visibility="private")
    javascript.upload(repo, {"a.bin": binary("readable")})
    reader = javascript_hub.token("read")
    assert javascript.download(repo, "a.bin", accessToken=reader) == binary("readable")
    for name, params in (
        ("uploadFile", {"file": {"path": "b.txt", "content": blob(b"b")}}),
        ("deleteFile", {"path": "a.bin"}),
        ("createBranch", {"branch": "dev"}),
        ("deleteRepo", {}),
    ):
        with pytest.raises(JavaScriptError, match="read-only") as caught:
            javascript.call(name, repo=repo, accessToken=reader, **params)
        assert caught.value.status == 403


def test_a_file_and_a_snapshot_go_to_the_cache_folder(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, tmp_path: Path
) -> None:
    content = {"a.txt": b"text", "d/a.bin": binary("cache"), "empty.bin": b""}
    commit = javascript.upload(javascript_repo, content)["commit"]["oid"]
    found = Path(
        javascript.call("downloadFileToCacheDir", repo=javascript_repo, path="d/a.bin", cacheDir=str(tmp_path))
    )
    assert found.read_bytes() == content["d/a.bin"]
    assert found.is_relative_to(tmp_path / f"{javascript_repo.replace('/', '--')}" / "snapshots" / commit)
    folder = Path(javascript.call("snapshotDownload", repo=javascript_repo, cacheDir=str(tmp_path)))
    assert folder.name == commit
    assert {path: (folder / path).read_bytes() for path in content} == content
    javascript_hub.log.clear()
    assert javascript.call("snapshotDownload", repo=javascript_repo, cacheDir=str(tmp_path)) == str(folder)
    assert not javascript_hub.log.requests("GET .*/resolve/.*")
