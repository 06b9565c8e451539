"""Repositories and who may see them, as ``huggingface_hub`` does it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from airflow_provider_xethub.xet.repo import Repo, Scope
from support.hub_calls import HEADER, binary, commit_lines, names, read, refused, upload
from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub


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


def test_whoami_says_what_a_fine_grained_token_allows(hub: LocalHub) -> None:
    """In the shape of the OpenAPI document of the Hub, whose generated clients require each of these fields."""
    grants: dict[str, Scope] = {"datasets/acme/corpus": "write", "buckets/acme/b": "read", "acme": "read", "*": "read"}
    token = HfApi(endpoint=hub.url, token=hub.add_user("dora", role="fineGrained", grants=grants)).whoami()
    fine = token["auth"]["accessToken"]["fineGrained"]
    assert (fine["canReadGatedRepos"], fine["global"]) == (False, [])
    entities = {(each["entity"]["type"], each["entity"]["name"]): each["permissions"] for each in fine["scoped"]}
    assert entities == {
        ("dataset", "acme/corpus"): ["repo.content.read", "repo.write"],
        ("bucket", "acme/b"): ["repo.content.read"],
        ("org", "acme"): ["repo.content.read"],
        ("user", "dora"): ["repo.content.read"],
    }
    assert all(each["entity"]["_id"] for each in fine["scoped"])


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


def test_a_moved_repository_keeps_its_files(api: HfApi, repo: str, tmp_path: Path) -> None:
    upload(api, repo, "a.bin", binary("moved"))
    api.move_repo(repo, "acme/moved", repo_type="dataset")
    assert read(api, "acme/moved", "a.bin", tmp_path) == binary("moved")
    assert api.repo_info(repo, repo_type="dataset").id == "acme/moved"


def test_a_new_repository_of_an_old_name_cannot_read_the_old_files(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.bin", binary("gone"))
    (entry,) = api.get_paths_info(repo, ["a.bin"], repo_type="dataset")
    assert hub.content.is_readable(f"datasets/{repo}", entry.xet_hash)
    api.delete_repo(repo, repo_type="dataset")
    api.create_repo(repo, repo_type="dataset")
    assert not hub.content.is_readable(f"datasets/{repo}", entry.xet_hash)


def test_a_gated_repository_is_seen_by_all_and_read_by_whom_its_owner_lets_in(
    hub: LocalHub, api: HfApi, repo: str, tmp_path: Path
) -> None:
    upload(api, repo, "a.bin", binary("gated"))
    api.update_repo_settings(repo, repo_type="dataset", gated="manual")
    dora = HfApi(endpoint=hub.url, token=hub.add_user("dora", role="write"))
    nobody = HfApi(endpoint=hub.url, token=False)
    for stranger in (dora, nobody):
        assert stranger.dataset_info(repo).gated == "manual"
        assert names(stranger, repo) == {"a.bin"}
        with pytest.raises(GatedRepoError):
            read(stranger, repo, "a.bin", tmp_path / "strangers")
        with pytest.raises(GatedRepoError):
            stranger.auth_check(repo, repo_type="dataset")
    dora.create_repo("dora/loot", repo_type="dataset")
    line = json.dumps({"key": "lfsFile", "value": {"path": "a", "oid": hashlib.sha256(binary("gated")).hexdigest()}})
    commit_lines(hub, "dora/loot", HEADER, line, status=400, token=str(dora.token))
    assert requests.post(
        f"{hub.url}/api/datasets/{repo}/ask-access", headers={"Authorization": f"Bearer {dora.token}"}, timeout=20
    ).json() == {"status": "pending"}
    assert [one.username for one in api.list_pending_access_requests(repo, repo_type="dataset")] == ["dora"]
    api.accept_access_request(repo, "dora", repo_type="dataset")
    assert read(dora, repo, "a.bin", tmp_path) == binary("gated")
    api.reject_access_request(repo, "dora", repo_type="dataset", rejection_reason="no")
    with pytest.raises(GatedRepoError):
        read(dora, repo, "a.bin", tmp_path / "later")
    api.grant_access(repo, "dora", repo_type="dataset")
    assert [one.username for one in api.list_accepted_access_requests(repo, repo_type="dataset")] == ["dora"]
    refused(lambda: list(dora.list_accepted_access_requests(repo, repo_type="dataset")), 403)
    api.update_repo_settings(repo, repo_type="dataset", gated=False)
    assert read(nobody, repo, "a.bin", tmp_path / "all") == binary("gated")


def test_a_disabled_repository_has_an_error_of_its_own(hub: LocalHub, api: HfApi, repo: str) -> None:
    message = "Access to this resource is disabled."
    fault = Fault("GET /api/datasets/.*", status=403, headers={"X-Error-Message": message}, body=message.encode())
    hub.faults.add(fault)
    with pytest.raises(DisabledRepoError):
        api.dataset_info(repo)


def test_who_may_write_is_told_before_anything_is_written(hub: LocalHub, api: HfApi, repo: str) -> None:
    reader = HfApi(endpoint=hub.url, token=hub.token("read"))
    reader.auth_check(repo, repo_type="dataset")
    refused(lambda: reader.auth_check(repo, repo_type="dataset", write=True), 403)
    api.auth_check(repo, repo_type="dataset", write=True)


def test_a_duplicate_has_history_and_files_and_a_life_of_its_own(
    hub: LocalHub, api: HfApi, repo: str, tmp_path: Path
) -> None:
    upload(api, repo, "a.bin", binary("original"))
    api.create_tag(repo, tag="v1", repo_type="dataset")
    copy = api.duplicate_repo(repo, "acme/the-copy", repo_type="dataset", private=True)
    assert (copy.repo_id, api.dataset_info("acme/the-copy").private) == ("acme/the-copy", True)
    assert read(api, "acme/the-copy", "a.bin", tmp_path, revision="v1") == binary("original")
    upload(api, "acme/the-copy", "b.txt", b"1")
    assert names(api, repo) == {"a.bin"}
    assert len(api.list_repo_commits("acme/the-copy", repo_type="dataset")) == 3
    refused(lambda: api.duplicate_repo(repo, "acme/the-copy", repo_type="dataset"), 409)
    assert api.duplicate_repo(repo, "acme/the-copy", repo_type="dataset", exist_ok=True).repo_id == "acme/the-copy"
    api.delete_repo(repo, repo_type="dataset")
    assert read(api, "acme/the-copy", "a.bin", tmp_path / "again") == binary("original")


def test_repositories_are_found_by_author_and_by_a_part_of_their_name(api: HfApi) -> None:
    for name in ("search/needle-one", "search/needle-two", "search/hay", "else/needle"):
        api.create_repo(name)
    found = {model.id for model in api.list_models(author="search", search="Needle")}
    assert found == {"search/needle-one", "search/needle-two"}
    assert len(list(api.list_models(search="needle", limit=2))) == 2
    with pytest.raises(HfHubHTTPError):
        api.move_repo("search/hay", "search/needle-one")
