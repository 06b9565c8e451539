"""File objects, which ``huggingface_hub`` uploads by git LFS."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError

from support.hub_calls import binary, read, upload
from xethub_local.hub.lfs import PART_BYTES
from xethub_local.server import LocalHub


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


def test_a_large_file_object_goes_up_in_parts(hub: LocalHub, api: HfApi, repo: str, tmp_path: Path) -> None:
    content = binary("parts", PART_BYTES + 1_000_000)
    upload(api, repo, "a.bin", io.BytesIO(content))
    assert len(hub.log.requests("PUT .*/parts/.*", status=200)) == 2
    assert len(hub.log.requests("POST .*/complete", status=200)) == 1
    assert read(api, repo, "a.bin", tmp_path) == content
    (listed,) = api.list_lfs_files(repo, repo_type="dataset")
    assert (listed.filename, listed.oid, listed.size) == ("a.bin", hashlib.sha256(content).hexdigest(), len(content))


def test_files_of_every_revision_are_listed_and_deleted_for_good(
    hub: LocalHub, api: HfApi, repo: str, tmp_path: Path
) -> None:
    upload(api, repo, "old.bin", binary("first"))
    upload(api, repo, "old.bin", binary("second"))
    api.create_branch(repo, branch="draft", repo_type="dataset")
    upload(api, repo, "draft.bin", binary("draft"), revision="draft")
    upload(api, repo, "proposed.bin", binary("proposed"), create_pr=True)
    found = [*api.list_lfs_files(repo, repo_type="dataset")]
    assert [(file.filename, file.ref) for file in found] == [
        ("old.bin", "main"),
        ("old.bin", "main"),
        ("draft.bin", "draft"),
        ("proposed.bin", "refs/pr/1"),
    ]
    api.permanently_delete_lfs_files(repo, found[:2], repo_type="dataset")
    assert [file.filename for file in api.list_lfs_files(repo, repo_type="dataset")] == ["draft.bin", "proposed.bin"]
    commits = [commit.commit_id for commit in api.list_repo_commits(repo, repo_type="dataset")]
    for revision in ("main", "draft", *commits):
        assert "old.bin" not in api.list_repo_files(repo, revision=revision, repo_type="dataset")
    assert read(api, repo, "draft.bin", tmp_path, revision="draft") == binary("draft")
    sha256 = found[0].oid
    assert hub.content.file_by_sha256(sha256, repository=f"datasets/{repo}") is None


def test_a_pointer_without_its_content_is_no_file(api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("lost"))
    found = [*api.list_lfs_files(repo, repo_type="dataset")]
    api.permanently_delete_lfs_files(repo, found, rewrite_history=False, repo_type="dataset")
    assert "a.bin" in api.list_repo_files(repo, repo_type="dataset")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(repo, "a.bin", repo_type="dataset")
    assert [*api.list_lfs_files(repo, repo_type="dataset")] == []


def test_files_that_no_revision_can_reach_are_listed_until_they_are_deleted(
    hub: LocalHub, api: HfApi, repo: str
) -> None:
    upload(api, repo, "a.bin", binary("old"))
    upload(api, repo, "a.bin", binary("new"))
    api.create_branch(repo, branch="draft", repo_type="dataset")
    upload(api, repo, "draft.bin", binary("draft"), revision="draft")
    api.delete_branch(repo, branch="draft", repo_type="dataset")
    api.super_squash_history(repo, repo_type="dataset")
    found = [*api.list_lfs_files(repo, repo_type="dataset")]
    assert [(file.filename, file.ref) for file in found] == [("a.bin", "main"), ("a.bin", None), ("draft.bin", None)]
    api.permanently_delete_lfs_files(repo, found[1:], rewrite_history=False, repo_type="dataset")
    assert [file.filename for file in api.list_lfs_files(repo, repo_type="dataset")] == ["a.bin"]
    assert hub.content.file_by_sha256(found[1].oid, repository=f"datasets/{repo}") is None
