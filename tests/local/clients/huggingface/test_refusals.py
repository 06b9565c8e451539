"""Refusals whose status or words clients know, and what the real Hub does not refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from xethub_local.server import LocalHub


def _add(path: str) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, b"text")]


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        (lambda api, repo: api.create_branch(repo, branch="main"), 409, "Reference refs/heads/main already exists"),
        (lambda api, repo: api.delete_branch(repo, branch="main"), 403, "Cannot delete refs/heads/main"),
        (lambda api, repo: api.delete_branch(repo, branch="none"), 404, "Invalid rev id"),
        (lambda api, repo: api.create_tag(repo, tag="not valid", revision="none"), 404, "Invalid rev id"),
        (lambda api, repo: api.move_repo(repo, f"{repo}-2"), 409, "A model repository called acme/"),
        (
            lambda api, repo: api.create_commit(repo, _add("a"), commit_message="a", parent_commit="0" * 40),
            412,
            "The branch was updated since you opened this page. Please refresh and try again.",
        ),
        (
            lambda api, repo: api.create_commit(repo, [CommitOperationDelete("none")], commit_message="a"),
            404,
            "Make sure to differentiate file and folder paths in delete operations",
        ),
        (
            lambda api, repo: api.create_commit(
                repo, _add("a"), commit_message="a", revision=api.model_info(repo).sha, create_pr=True
            ),
            404,
            "Invalid rev id",
        ),
    ],
)
def test_clients_find_the_status_and_the_words_they_know(
    hub: LocalHub, api: HfApi, repo: str, call: Callable[[HfApi, str], object], status: int, words: str
) -> None:
    for name in (repo, f"{repo}-2"):
        api.create_repo(name, exist_ok=True)
    with pytest.raises(HfHubHTTPError, match=words.replace(".", r"\.")) as caught:
        call(api, repo)
    assert caught.value.response.status_code == status
    for name in (repo, f"{repo}-2"):
        api.delete_repo(name)


def test_a_missing_repository_is_explained_by_the_client_alone(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError) as caught:
        api.model_info("acme/none")
    assert str(caught.value).lower().count("repository not found") == 1


def test_a_gated_repository_says_who_is_missing(hub: LocalHub, api: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, gated="manual", repo_type="dataset")
    eve = hub.add_user("eve", role="write")
    words = f"Access to dataset {repo} is restricted and you are not in the authorized list"
    with pytest.raises(GatedRepoError, match=words):
        hf_hub_download(repo, ".gitattributes", repo_type="dataset", endpoint=hub.url, token=eve)
    api.grant_access(repo, "eve", repo_type="dataset")
    for call in (api.grant_access, api.accept_access_request):
        with pytest.raises(HfHubHTTPError, match=r"already"):
            call(repo, "eve", repo_type="dataset")


def test_the_plain_path_of_a_folder_deletes_it(api: HfApi, repo: str) -> None:
    names = ["logs/a.txt", "logs/deep/b.txt", "logs.txt", "logs_old/c.txt"]
    api.create_commit(repo, [_add(name)[0] for name in names], commit_message="files", repo_type="dataset")
    api.create_commit(repo, [CommitOperationDelete("logs")], commit_message="gone", repo_type="dataset")
    left = {".gitattributes", "logs.txt", "logs_old/c.txt"}
    assert set(api.list_repo_files(repo, repo_type="dataset")) == left
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit(repo, [CommitOperationDelete("logs")], commit_message="gone", repo_type="dataset")


def test_others_propose_to_a_public_repository_and_cannot_commit_to_it(hub: LocalHub, api: HfApi, repo: str) -> None:
    eve = HfApi(endpoint=hub.url, token=hub.add_user("eve", role="write"))
    operations = [CommitOperationAdd("a.txt", b"text"), CommitOperationAdd("b.bin", b"\0binary" * 50)]
    made = eve.create_commit(repo, operations, commit_message="proposed", create_pr=True, repo_type="dataset")
    more = [CommitOperationAdd("c.bin", b"\0more" * 50)]
    eve.create_commit(repo, more, commit_message="more", revision="refs/pr/1", repo_type="dataset")
    eve.rename_discussion(repo, made.pr_num or 0, new_title="Better name", repo_type="dataset")
    files = {".gitattributes", "a.txt", "b.bin", "c.bin"}
    assert set(eve.list_repo_files(repo, revision="refs/pr/1", repo_type="dataset")) == files
    assert eve.list_repo_files(repo, repo_type="dataset") == [".gitattributes"]
    carl = HfApi(endpoint=hub.url, token=hub.add_user("carl", role="write"))
    for call in (
        lambda: eve.create_commit(repo, _add("d"), commit_message="not mine", repo_type="dataset"),
        lambda: eve.merge_pull_request(repo, 1, repo_type="dataset"),
        lambda: carl.create_commit(repo, _add("d"), commit_message="x", revision="refs/pr/1", repo_type="dataset"),
        lambda: carl.rename_discussion(repo, 1, new_title="Mine", repo_type="dataset"),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 403
    api.merge_pull_request(repo, 1, repo_type="dataset")
    assert set(api.list_repo_files(repo, repo_type="dataset")) == files


def test_read_only_tokens_and_strangers_propose_nothing(hub: LocalHub, api: HfApi, repo: str) -> None:
    reader = HfApi(endpoint=hub.url, token=hub.add_user("carla", role="read"))
    with pytest.raises(HfHubHTTPError) as caught:
        reader.create_commit(repo, _add("a"), commit_message="x", create_pr=True, repo_type="dataset")
    assert caught.value.response.status_code == 403
    api.update_repo_settings(repo, private=True, repo_type="dataset")
    eve = HfApi(endpoint=hub.url, token=hub.add_user("eve", role="write"))
    with pytest.raises(RepositoryNotFoundError):
        eve.create_commit(repo, _add("a"), commit_message="x", create_pr=True, repo_type="dataset")
