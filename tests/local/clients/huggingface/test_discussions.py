"""Pull requests and discussions with ``huggingface_hub``."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from huggingface_hub import CommitOperationAdd, HfApi

from support.hub_calls import binary, names, read, refused, upload
from xethub_local.server import LocalHub


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


def test_a_discussion_is_held(hub: LocalHub, api: HfApi, repo: str) -> None:
    opened = api.create_discussion(repo, title="Why?", description="I wonder.", repo_type="dataset")
    assert (opened.num, opened.is_pull_request, opened.status) == (1, False, "open")
    assert [event.content for event in opened.events] == ["I wonder."]  # type: ignore[attr-defined]
    said = api.comment_discussion(repo, 1, "Because.", repo_type="dataset")
    edited = api.edit_discussion_comment(repo, 1, said.id, "Because of **that**.", repo_type="dataset")
    assert (edited.content, edited.edited) == ("Because of **that**.", True)
    assert api.rename_discussion(repo, 1, "Why so?", repo_type="dataset").old_title == "Why?"
    assert api.change_discussion_status(repo, 1, "closed", repo_type="dataset", comment="Done.").new_status == "closed"
    with pytest.warns(UserWarning, match="irreversible"):
        assert api.hide_discussion_comment(repo, 1, said.id, repo_type="dataset").hidden
    refused(lambda: api.edit_discussion_comment(repo, 1, said.id, "again", repo_type="dataset"), 400)
    refused(lambda: api.edit_discussion_comment(repo, 1, "0" * 24, "again", repo_type="dataset"), 404)
    found = api.get_discussion_details(repo, 1, repo_type="dataset")
    assert (found.title, found.status, found.author) == ("Why so?", "closed", "local")
    assert [event.type for event in found.events] == ["comment", "comment", "title-change", "status-change", "comment"]
    refused(lambda: api.merge_pull_request(repo, 1, repo_type="dataset"), 404)


def test_an_empty_pull_request_is_opened_committed_to_and_closed(api: HfApi, repo: str) -> None:
    opened = api.create_pull_request(repo, title="later", repo_type="dataset")
    assert (opened.is_pull_request, opened.git_reference, opened.target_branch) == (
        True,
        "refs/pr/1",
        "refs/heads/main",
    )
    assert opened.status == "draft"
    oid = upload(api, repo, "a.txt", b"1", revision="refs/pr/1", commit_message="pushed")
    refused(lambda: api.merge_pull_request(repo, 1, repo_type="dataset"), 400)
    events = api.get_discussion_details(repo, 1, repo_type="dataset").events
    assert [(event.type, getattr(event, "oid", None)) for event in events] == [("comment", None), ("commit", oid)]
    api.change_discussion_status(repo, 1, "closed", repo_type="dataset")
    refused(lambda: api.merge_pull_request(repo, 1, repo_type="dataset"), 400)
    api.change_discussion_status(repo, 1, "open", repo_type="dataset")
    api.merge_pull_request(repo, 1, repo_type="dataset", comment="thanks")
    refused(lambda: api.merge_pull_request(repo, 1, repo_type="dataset"), 400)
    refused(lambda: api.change_discussion_status(repo, 1, "open", repo_type="dataset"), 400)


def test_discussions_are_listed_by_kind_state_and_author_in_pages(hub: LocalHub, api: HfApi, repo: str) -> None:
    eve = HfApi(endpoint=hub.url, token=hub.add_user("eve", role="write"))
    for number in range(55):
        api.create_discussion(repo, title=f"number {number}", repo_type="dataset")
    eve.create_discussion(repo, title="by eve", repo_type="dataset")
    api.create_pull_request(repo, title="changes", repo_type="dataset")
    api.change_discussion_status(repo, 1, "closed", repo_type="dataset")

    def numbers(**options: object) -> list[int]:
        return [one.num for one in api.get_repo_discussions(repo, repo_type="dataset", **options)]  # type: ignore[arg-type]

    assert numbers() == [*range(57, 0, -1)]
    assert numbers(discussion_type="pull_request") == [57]
    assert numbers(discussion_status="closed") == [1]
    assert numbers(author="eve") == [56]
    assert eve.create_pull_request(repo, title="not mine", repo_type="dataset").num == 58
    reader = HfApi(endpoint=hub.url, token=hub.add_user("carl", role="read"))
    refused(lambda: reader.create_pull_request(repo, title="read only", repo_type="dataset"), 403)
    nobody = HfApi(endpoint=hub.url, token=False)
    refused(lambda: nobody.comment_discussion(repo, 1, "psst", repo_type="dataset"), 401)


def test_a_merge_leaves_its_commit_and_its_difference(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"one\ntwo\n", path_in_repo="a.txt", repo_id=repo, repo_type="dataset")
    operations = [CommitOperationAdd("a.txt", b"one\n2\n"), CommitOperationAdd("b.bin", b"\0binary" * 30)]
    api.create_commit(repo, operations, commit_message="proposed", create_pr=True, repo_type="dataset")
    proposed = api.get_discussion_details(repo, 1, repo_type="dataset")
    assert proposed.merge_commit_oid is None
    assert proposed.diff is not None
    assert {"diff --git a/a.txt b/a.txt", "-two", "+2", "--- /dev/null", "+++ b/b.bin", "+size 210"} <= {
        *proposed.diff.splitlines()
    }
    api.merge_pull_request(repo, 1, repo_type="dataset")
    merged = api.get_discussion_details(repo, 1, repo_type="dataset")
    assert merged.merge_commit_oid == api.dataset_info(repo).sha
    assert merged.diff == proposed.diff


def test_a_difference_of_what_is_no_text_is_short(api: HfApi, repo: str) -> None:
    operations = [CommitOperationAdd("latin.txt", "größe\n".encode("latin-1")), CommitOperationAdd("empty", b"")]
    api.create_commit(repo, operations, commit_message="odd", create_pr=True, repo_type="dataset")
    diff = api.get_discussion_details(repo, 1, repo_type="dataset").diff or ""
    assert "diff --git a/empty b/empty" in diff
    assert "latin.txt" in diff


def test_the_files_that_conflict_are_named(api: HfApi, repo: str) -> None:
    upload(api, repo, "a.txt", b"proposed", create_pr=True)
    assert api.get_discussion_details(repo, 1, repo_type="dataset").conflicting_files == []
    upload(api, repo, "a.txt", b"overtaken")
    assert api.get_discussion_details(repo, 1, repo_type="dataset").conflicting_files == ["a.txt"]
    refused(lambda: api.merge_pull_request(repo, 1, repo_type="dataset"), 409)
