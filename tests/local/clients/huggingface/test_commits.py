"""Commits, branches, tags and history with ``huggingface_hub``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import requests
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    RemoteEntryNotFoundError,
)

from support.hub_calls import HEADER, binary, commit_lines, names, read, refused, upload
from xethub_local.server import LocalHub


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


def test_who_cannot_read_files_cannot_have_them_duplicated(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("wanted"))
    upload(api, repo, "t.txt", b"regular")
    (entry,) = api.get_paths_info(repo, ["a.bin"], repo_type="dataset")
    taker = hub.add_user("taker", role="write")
    own = hub.create_repo("taker/own", "dataset").repo_id
    asked = {
        "target": {"type": "dataset", "name": own},
        "files": [{"xetHash": entry.xet_hash, "sha256": entry.lfs.sha256, "filename": "a.bin"}],
    }

    def status() -> int:
        url, headers = f"{hub.url}/api/datasets/{repo}/lfs-files/duplicate", {"Authorization": f"Bearer {taker}"}
        return requests.post(url, json=asked, headers=headers, timeout=20).status_code

    api.update_repo_settings(repo, repo_type="dataset", gated="manual")
    assert status() == 403
    api.update_repo_settings(repo, repo_type="dataset", visibility="private")
    assert status() == 404
    assert not hub.content.is_readable(f"datasets/{own}", entry.xet_hash)
    api.update_repo_settings(repo, repo_type="dataset", visibility="public", gated=False)
    copies = [CommitOperationCopy(path, path, src_repo_id=repo, src_repo_type="dataset") for path in ("a.bin", "t.txt")]
    HfApi(endpoint=hub.url, token=taker).create_commit(own, copies, commit_message="taken", repo_type="dataset")
    assert names(api, own) == {"a.bin", "t.txt"}
    assert hub.content.is_readable(f"datasets/{own}", entry.xet_hash)


def test_titles_and_messages_are_formatted_as_html_that_holds_none_of_theirs(api: HfApi, repo: str) -> None:
    operation = [CommitOperationAdd("a.txt", b"x")]
    api.create_commit(repo, operation, commit_message="<b>", commit_description="a & b", repo_type="dataset")
    newest = api.list_repo_commits(repo, formatted=True, repo_type="dataset")[0]
    assert (newest.formatted_title, newest.formatted_message) == ("&lt;b&gt;", "<p>a &amp; b</p>")
    assert api.list_repo_commits(repo, repo_type="dataset")[0].formatted_title is None
