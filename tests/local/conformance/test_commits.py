"""Commits: what is asked before one, what it may contain, what refuses it, and pull requests."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from support.hub_wire import Wire, error_of
from support.stored_content import Upload

EMPTY = hashlib.sha256().hexdigest()


def text(path: str, content: str = "text\n") -> dict[str, Any]:
    encoded = base64.b64encode(content.encode()).decode()
    return {"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}}


def paths(wire: Wire, revision: str = "main") -> set[str]:
    found = wire.get(f"{{one}}/tree/{revision}?recursive=true")
    return {one["path"] for one in found if one["type"] == "file"} - {".gitattributes"}


def preupload(wire: Wire, *files: tuple[str, bytes], query: str = "", **fields: Any) -> dict[str, dict[str, Any]]:
    body = [
        {"path": path, "sample": base64.b64encode(content[:512]).decode(), "size": len(content)}
        for path, content in files
    ]
    answer = wire("POST", f"{{one}}/preupload/main{query}", json={"files": body, **fields})
    assert answer.status_code == 200, answer.text
    return {file["path"]: file for file in answer.json()["files"]}


# --- before -----------------------------------------------------------------------------------------------------------


def test_preupload_says_how_to_send_each_file(wire: Wire) -> None:
    found = preupload(wire, ("a.txt", b"text"), ("a.bin", b"text"), ("noname", b"\0\1\2\3" * 200))
    assert {path: file["uploadMode"] for path, file in found.items()} == {
        "a.txt": "regular",
        "a.bin": "lfs",
        "noname": "lfs",
    }
    assert all(file["shouldIgnore"] is False for file in found.values())


def test_a_large_text_file_is_lfs(wire: Wire) -> None:
    sample = base64.b64encode(b"text").decode()
    body = {"files": [{"path": "a.txt", "sample": sample, "size": 11 * 1024 * 1024}]}
    assert wire("POST", "{one}/preupload/main", json=body).json()["files"][0]["uploadMode"] == "lfs"


def test_preupload_returns_the_oid_of_the_present_content(wire: Wire, stored: Upload) -> None:
    wire.put("a.txt", "abc")
    found = preupload(wire, ("a.txt", b"other"), ("d/a.bin", b"other"), ("new.txt", b"new"))
    assert found["a.txt"]["oid"] == hashlib.sha1(b"blob 3\0abc").hexdigest()  # noqa: S324 - as git does
    assert found["d/a.bin"]["oid"] == stored.file.sha256
    assert found["new.txt"].get("oid") is None


def test_preupload_applies_gitignore(wire: Wire) -> None:
    assert preupload(wire, ("a.log", b"x"), gitIgnore="*.log\n")["a.log"]["shouldIgnore"] is True
    wire.put(".gitignore", "*.txt\n")
    found = preupload(wire, ("a.log", b"x"), ("a.txt", b"x"))
    assert [file["shouldIgnore"] for file in found.values()] == [False, True]


def test_preupload_takes_256_files_at_once(wire: Wire) -> None:
    assert len(preupload(wire, *((f"{number}.txt", b"x") for number in range(256)))) == 256


def test_preupload_for_a_pull_request_takes_a_reader(wire: Wire) -> None:
    reader = wire.hub.add_user("reader", role="write")
    body = {"files": [{"path": "a.txt", "sample": "", "size": 1}]}
    assert wire("POST", "{one}/preupload/main", json=body, token=reader).status_code == 403
    assert wire("POST", "{one}/preupload/main?create_pr=1", json=body, token=reader).status_code == 200


# --- the commit -------------------------------------------------------------------------------------------------------


def test_a_commit_returns_its_id_and_url(wire: Wire) -> None:
    body = wire.commit(text("a.txt")).json()
    assert body["success"] is True
    assert re.fullmatch("[0-9a-f]{40}", body["commitOid"])
    assert body["commitUrl"] == f"{wire.hub.url}{wire.web}/commit/{body['commitOid']}"
    assert "pullRequestUrl" not in body


def test_a_commit_keeps_summary_and_description(wire: Wire) -> None:
    wire.commit(text("a.txt"), summary="First line", description="More\nlines")
    newest = wire.get("{one}/commits/main")[0]
    assert (newest["title"], newest["message"]) == ("First line", "More\nlines")


def test_a_file_comes_in_base64_or_utf_8(wire: Wire) -> None:
    plain = {"key": "file", "value": {"path": "b.txt", "content": "é", "encoding": "utf-8"}}
    assert wire.commit(text("a.txt", "é"), plain).status_code == 200
    for name in ("a.txt", "b.txt"):
        assert wire("GET", f"{wire.web}/raw/main/{name}").content == "é".encode()


def test_a_large_file_is_committed_by_its_sha256(wire: Wire, made: Upload) -> None:
    wire.upload(made)
    assert wire.put_large("a.bin", made).status_code == 200
    assert wire.get("{one}/tree/main")[1]["xetHash"] == made.xet_hash


def test_a_large_file_without_a_size_is_committed(wire: Wire, stored: Upload) -> None:
    value = {"path": "copy.bin", "algo": "sha256", "oid": stored.file.sha256}
    assert wire.commit({"key": "lfsFile", "value": value}).status_code == 200
    assert "copy.bin" in paths(wire)


def test_a_large_file_that_was_not_uploaded_is_refused(wire: Wire, made: Upload) -> None:
    answer = wire.put_large("a.bin", made)
    assert answer.status_code == 400
    assert "LFS pointer pointed to a file that does not exist" in answer.json()["error"]
    assert paths(wire) == set()


def test_files_are_deleted(wire: Wire) -> None:
    wire.commit(text("a.txt"), text("b.txt"))
    assert wire.commit({"key": "deletedFile", "value": {"path": "a.txt"}}).status_code == 200
    assert paths(wire) == {"b.txt"}


@pytest.mark.parametrize("key", ["deletedFolder", "deletedFile"])
def test_a_folder_is_deleted_by_its_path(wire: Wire, key: str) -> None:
    wire.commit(text("1/a.txt"), text("1/2/b.txt"), text("10/c.txt"), text("1.txt"))
    assert wire.commit({"key": key, "value": {"path": "1"}}).status_code == 200
    assert paths(wire) == {"10/c.txt", "1.txt"}


def test_deleting_a_missing_file_is_entry_not_found(wire: Wire) -> None:
    answer = wire.commit(text("a.txt"), {"key": "deletedFile", "value": {"path": "nothing"}})
    assert "A file with this name doesn't exist" in error_of(answer, 404, "EntryNotFound")
    assert paths(wire) == set()


def test_a_commit_is_all_or_nothing(wire: Wire, made: Upload) -> None:
    before = wire.get("{one}")["sha"]
    value = {"path": "b.bin", "algo": "sha256", "oid": made.file.sha256, "size": len(made.raw)}
    assert wire.commit(text("a.txt"), {"key": "lfsFile", "value": value}).status_code == 400
    assert wire.get("{one}")["sha"] == before


def test_a_commit_to_another_parent_is_412(wire: Wire) -> None:
    parent = wire.put("a.txt")
    wire.put("b.txt")
    answer = wire.commit(text("c.txt"), parentCommit=parent)
    assert answer.status_code == 412
    assert answer.json()["error"].startswith(
        "The branch was updated since you opened this page. Please refresh and try again."
    )
    assert paths(wire) == {"a.txt", "b.txt"}


def test_a_commit_to_its_parent_is_made(wire: Wire) -> None:
    parent = wire.put("a.txt")
    assert wire.commit(text("b.txt"), parentCommit=parent).status_code == 200


def test_a_shortened_parent_is_known(wire: Wire) -> None:
    parent = wire.put("a.txt")
    assert wire.commit(text("b.txt"), parentCommit=parent[:7]).status_code == 200


def test_a_commit_without_changes_is_made(wire: Wire) -> None:
    before = wire.get("{one}")["sha"]
    made = wire.commit().json()["commitOid"]
    assert made != before
    assert wire.get("{one}")["sha"] == made


def test_a_commit_to_a_missing_revision_is_refused(wire: Wire) -> None:
    error_of(wire.commit(text("a.txt"), revision="nowhere"), 404, "RevisionNotFound")
    error_of(wire.commit(text("a.txt"), revision="nowhere", query="?create_pr=1"), 404, "RevisionNotFound")


def test_a_commit_to_a_missing_repository_is_refused(wire: Wire) -> None:
    body = '{"key":"header","value":{"summary":"s"}}\n'
    error_of(wire("POST", "/api/datasets/local/nothing/commit/main", data=body), 404, "RepoNotFound")


def test_a_path_that_climbs_out_is_422(wire: Wire) -> None:
    assert wire.commit(text("..\\ddd")).status_code == 422


@pytest.mark.parametrize("path", [".git/config", "d/.git/config", ".cache/huggingface/a.txt", "d/.cache/huggingface/a"])
def test_a_path_in_a_folder_of_git_or_of_the_clients_cache_is_refused(wire: Wire, path: str) -> None:
    assert wire.commit(text(path)).status_code in (400, 422)
    assert paths(wire) == set()
    assert wire.commit(text(".gitignore", ""), text("d/huggingface/a"), text(".cache/b"), text("c.git/d")).ok


def test_an_empty_file_is_regular(wire: Wire) -> None:
    assert preupload(wire, ("empty.bin", b""))
    assert wire.commit(text("empty.bin", "")).status_code == 200
    (found,) = (one for one in wire.get("{one}?blobs=true")["siblings"] if one["rfilename"] == "empty.bin")
    assert (found["size"], "lfs" in found) == (0, False)


def test_a_card_that_is_invalid_is_refused(wire: Wire) -> None:
    answer = wire.commit(text("README.md", "---\ntags: [a, [b\n---\n"))
    assert answer.status_code == 400
    assert paths(wire) == set()


def test_one_line_may_be_followed_by_no_newline(wire: Wire) -> None:
    body = '{"key":"header","value":{"summary":"s"}}\n' + (
        '{"key":"file","value":{"path":"a.txt","content":"YQ==","encoding":"base64"}}'
    )
    assert wire("POST", "{one}/commit/main", data=body).status_code == 200
    assert paths(wire) == {"a.txt"}


# --- pull requests ----------------------------------------------------------------------------------------------------


def test_a_commit_opens_a_pull_request(wire: Wire) -> None:
    body = wire.commit(text("a.txt"), query="?create_pr=1").json()
    assert body["pullRequestUrl"] == f"{wire.hub.url}{wire.web}/discussions/1"
    assert (paths(wire), paths(wire, "refs%2Fpr%2F1")) == (set(), {"a.txt"})


def test_anybody_who_reads_proposes(wire: Wire) -> None:
    stranger = wire.hub.add_user("stranger", role="write")
    assert wire.commit(text("a.txt"), token=stranger).status_code == 403
    assert wire.commit(text("a.txt"), token=stranger, query="?create_pr=1").status_code == 200


def test_a_pull_request_to_a_commit_is_refused(wire: Wire) -> None:
    head = wire.put("a.txt")
    error_of(wire.commit(text("b.txt"), revision=head, query="?create_pr=1"), 404, "RevisionNotFound")


def test_a_pull_request_without_changes_is_a_draft(wire: Wire) -> None:
    body = {"title": "Title", "description": "d", "pullRequest": True}
    assert wire("POST", "{one}/discussions", json=body).json()["num"] == 1
    found = wire.get("{one}/discussions/1")
    assert (found["status"], found["isPullRequest"], found["title"]) == ("draft", True, "Title")
    assert found["changes"]["base"] == "refs/heads/main"
    assert found["filesWithConflicts"] == []
    assert found["events"]


def test_a_commit_to_a_pull_request_moves_its_reference(wire: Wire) -> None:
    wire("POST", "{one}/discussions", json={"title": "t", "description": "d", "pullRequest": True})
    made = wire.put("a.txt", revision="refs%2Fpr%2F1")
    assert wire.get("{one}/revision/refs%2Fpr%2F1")["sha"] == made


def test_merging_returns_the_commit(wire: Wire) -> None:
    wire.put("a.txt", query="?create_pr=1")
    assert wire("POST", "{one}/discussions/1/merge", json={}).status_code == 200
    found = wire.get("{one}/discussions/1")
    assert (found["status"], paths(wire)) == ("merged", {"a.txt"})
    assert found["changes"]["mergeCommitId"] == wire.get("{one}")["sha"]


def test_discussions_and_pull_requests_share_numbers(wire: Wire) -> None:
    for is_pull_request in (True, False):
        wire("POST", "{one}/discussions", json={"title": "t", "description": "d", "pullRequest": is_pull_request})
    found = wire.get("{one}/discussions")
    assert [(one["num"], one["isPullRequest"], one["title"]) for one in found["discussions"]] == [
        (2, False, "t"),
        (1, True, "t"),
    ]
    assert found["count"] == 2
    only = wire.get("{one}/discussions?type=pull_request")["discussions"]
    assert [one["num"] for one in only] == [1]


def test_closing_a_pull_request_says_its_status(wire: Wire) -> None:
    wire.put("a.txt", query="?create_pr=1")
    answer = wire("POST", "{one}/discussions/1/status", json={"status": "closed"})
    assert answer.json()["newStatus"]["data"]["status"] == "closed"
    assert wire.get("{one}/discussions/1")["status"] == "closed"


def test_a_comment_is_an_event(wire: Wire) -> None:
    wire.put("a.txt", query="?create_pr=1")
    new = wire("POST", "{one}/discussions/1/comment", json={"comment": "Hello"}).json()["newMessage"]
    events = wire.get("{one}/discussions/1")["events"]
    assert events[-1]["id"] == new["id"]
    assert events[-1]["data"]["latest"]["raw"] == "Hello"


# --- git LFS ----------------------------------------------------------------------------------------------------------


def batch(wire: Wire, *objects: tuple[str, int], operation: str = "upload", **fields: Any) -> dict[str, Any]:
    items = [{"oid": oid, "size": size} for oid, size in objects]
    body = {"operation": operation, "objects": items, "hash_algo": "sha256", **fields}
    kind = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}
    answer = wire("POST", f"{wire.web}.git/info/lfs/objects/batch", json=body, headers=kind)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_an_lfs_object_is_uploaded_to_a_url_that_needs_no_token(wire: Wire) -> None:
    content = b"\0binary" * 100
    oid = hashlib.sha256(content).hexdigest()
    found = batch(wire, (oid, len(content)), transfers=["basic", "multipart"], ref={"name": "main"})
    assert found["transfer"] == "basic"
    (item,) = found["objects"]
    assert (item["oid"], item["size"]) == (oid, len(content))
    assert wire("PUT", item["actions"]["upload"]["href"], data=content, token=None).status_code == 200
    verify = item["actions"]["verify"]["href"]
    assert wire("POST", verify, json={"oid": oid, "size": len(content)}).status_code == 200
    value = {"path": "a.bin", "algo": "sha256", "oid": oid, "size": len(content)}
    assert wire.commit({"key": "lfsFile", "value": value}).status_code == 200


def test_an_lfs_object_that_is_there_has_no_actions(wire: Wire, stored: Upload) -> None:
    (item,) = batch(wire, (stored.file.sha256 or "", len(stored.raw)), transfers=["basic"])["objects"]
    assert "actions" not in item


def test_an_lfs_client_that_speaks_xet_gets_a_xet_token(wire: Wire) -> None:
    found = batch(wire, ("1" * 64, 100), transfers=["basic", "multipart", "xet"], ref={"name": "main"})
    assert found["transfer"] == "xet"
    upload = found["objects"][0]["actions"]["upload"]
    assert upload["href"] == f"{wire.hub.url}{wire.one}/xet-write-token/main"
    assert upload["header"].keys() >= {"X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration"}
    assert upload["header"]["X-Xet-Token-Expiration"].isdecimal()


def test_a_large_lfs_object_is_uploaded_in_parts(wire: Wire) -> None:
    size = 40 * 1024 * 1024
    header = batch(wire, ("1" * 64, size), transfers=["basic", "multipart"])["objects"][0]["actions"]["upload"][
        "header"
    ]
    part = int(header.pop("chunk_size"))
    assert sorted(map(int, header)) == list(range(1, -(-size // part) + 1))


def test_a_missing_lfs_object_is_an_error_of_its_own(wire: Wire) -> None:
    (item,) = batch(wire, ("1" * 64, 5), operation="download", transfers=["basic"])["objects"]
    assert item["error"]["code"] == 404
    assert item["error"]["message"]


def test_a_copy_to_another_repository_is_announced(wire: Wire, stored: Upload, of: Callable[..., Wire]) -> None:
    target = of()
    file = {"xetHash": stored.xet_hash, "sha256": stored.file.sha256, "filename": "d/a.bin"}
    missing = {"xetHash": "1" * 64, "sha256": "1" * 64, "filename": "b.bin"}
    body = {"target": {"type": "dataset", "name": target.repo.repo_id}, "files": [file, missing]}
    answer = wire("POST", "{one}/lfs-files/duplicate", json=body).json()
    assert [(one["sha256"], bool(one["error"])) for one in answer["failed"]] == [("1" * 64, True)]
    assert target.put_large("a.bin", stored).status_code == 200


def test_large_files_of_all_revisions_are_listed(wire: Wire, stored: Upload) -> None:
    wire.commit({"key": "deletedFile", "value": {"path": "d/a.bin"}})
    (found,) = wire.get("{one}/lfs-files")
    assert (found["oid"], found["size"], found["filename"]) == (stored.file.sha256, len(stored.raw), "d/a.bin")
    assert found.keys() >= {"fileOid", "pushedAt"}


# --- guesses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../a.txt", "/a.txt", "a/./b.txt", "a//b.txt"])
def test_an_ambiguous_path_is_refused(wire: Wire, path: str) -> None:
    assert wire.commit(text(path)).status_code == 400
    assert paths(wire) == set()


def test_merging_a_draft_or_a_closed_pull_request_is_400(wire: Wire) -> None:
    wire("POST", "{one}/discussions", json={"title": "t", "description": "d", "pullRequest": True})
    assert wire("POST", "{one}/discussions/1/merge", json={}).status_code == 400
    wire.put("a.txt", query="?create_pr=1")
    wire("POST", "{one}/discussions/2/status", json={"status": "closed"})
    assert wire("POST", "{one}/discussions/2/merge", json={}).status_code == 400


def test_merging_a_conflict_is_409(wire: Wire) -> None:
    wire.put("a.txt", "1", query="?create_pr=1")
    wire.put("a.txt", "2")
    assert wire("POST", "{one}/discussions/1/merge", json={}).status_code == 409


def test_a_commit_to_a_tag_is_refused(wire: Wire) -> None:
    wire("POST", "{one}/tag/main", json={"tag": "v1"})
    assert wire.commit(text("a.txt"), revision="v1").status_code == 400


def test_a_wrong_size_of_a_large_file_is_refused(wire: Wire, made: Upload) -> None:
    wire.upload(made)
    value = {"path": "a.bin", "algo": "sha256", "oid": made.file.sha256, "size": 5}
    assert wire.commit({"key": "lfsFile", "value": value}).status_code == 400


def test_the_empty_file_is_committed_without_an_upload(wire: Wire) -> None:
    value = {"path": "empty.bin", "algo": "sha256", "oid": EMPTY, "size": 0}
    assert wire.commit({"key": "lfsFile", "value": value}).status_code == 200
