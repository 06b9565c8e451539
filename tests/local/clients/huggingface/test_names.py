"""Names of repositories as the real Hub takes them: without a namespace, in any letter case, and before a move."""

from __future__ import annotations

import pytest
import requests
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from xethub_local.server import LocalHub


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models/gpt2"),
        ("GET", "/api/datasets/squad/revision/main"),
        ("GET", "/api/models/gpt2/commits/main"),
        ("POST", "/api/models/gpt2/like"),
        ("POST", "/api/datasets/squad/commit/main"),
        ("POST", "/api/models/acme/none/anything"),
        ("DELETE", "/api/buckets/raw"),
        ("GET", "/api/buckets/raw"),
        ("HEAD", "/gpt2/resolve/main/config.json"),
        ("GET", "/datasets/squad/resolve/main/a/b.csv"),
    ],
)
def test_a_name_without_a_namespace_is_a_repository_that_does_not_exist(hub: LocalHub, method: str, path: str) -> None:
    answer = requests.request(method, hub.url + path, headers=_authorization(hub), timeout=10)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RepoNotFound")
    assert answer.headers["X-Error-Message"] == "Repository not found"
    assert requests.request(method, hub.url + path, timeout=10).status_code == 401


def test_what_the_local_hub_lacks_is_no_missing_repository(hub: LocalHub, repo: str) -> None:
    answer = requests.post(f"{hub.url}/api/datasets/{repo}/like", headers=_authorization(hub), timeout=10)
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (404, None)
    answer = requests.delete(f"{hub.url}/api/datasets/{repo}", headers=_authorization(hub), timeout=10)
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (405, None)


def test_a_private_repository_is_missing_at_routes_that_do_not_exist(hub: LocalHub, api: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, private=True, repo_type="dataset")
    eve = {"Authorization": f"Bearer {hub.add_user('eve', role='write')}"}
    for path in (f"/api/datasets/{repo}/like", f"/api/datasets/{repo}"):
        answer = requests.patch(hub.url + path, headers=eve, timeout=10)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RepoNotFound")


def test_names_are_the_same_in_any_letter_case(api: HfApi, repo: str) -> None:
    shouted = repo.upper().replace("ACME", "Acme")
    operations = [CommitOperationAdd("a.txt", b"text"), CommitOperationAdd("b.bin", b"\0binary" * 100)]
    api.create_commit(shouted, operations, commit_message="both kinds", repo_type="dataset")
    assert {"a.txt", "b.bin"} <= set(api.list_repo_files(repo, repo_type="dataset"))
    assert api.repo_info(shouted, repo_type="dataset").id == repo
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(shouted, repo_type="dataset")
    assert caught.value.response.status_code == 409
    assert api.create_repo(shouted, repo_type="dataset", exist_ok=True).repo_id == repo
    api.delete_repo(shouted, repo_type="dataset")
    assert not api.repo_exists(repo, repo_type="dataset")


def test_the_old_name_of_a_repository_leads_to_it_until_another_takes_it(hub: LocalHub, api: HfApi, repo: str) -> None:
    api.move_repo(repo, f"{repo}-2", repo_type="dataset")
    api.move_repo(f"{repo}-2", f"{repo}-3", repo_type="dataset")
    for old in (repo, f"{repo}-2", f"{repo}-2".upper()):
        assert api.repo_info(old, repo_type="dataset").id == f"{repo}-3"
    url = f"{hub.url}/datasets/{repo}/resolve/main/.gitattributes?download=true"
    answer = requests.head(url, allow_redirects=False, timeout=10)
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"/datasets/{repo}-3/resolve/main/.gitattributes?download=true"
    api.create_repo(repo, repo_type="dataset")
    assert api.repo_info(repo, repo_type="dataset").id == repo
    api.delete_repo(f"{repo}-3", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(f"{repo}-2", repo_type="dataset")


def test_the_new_name_of_a_private_repository_is_no_news_for_strangers(hub: LocalHub, api: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, private=True, repo_type="dataset")
    api.move_repo(repo, f"{repo}-secret", repo_type="dataset")
    eve = hub.add_user("eve", role="write")
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {eve}"}, 404)):
        answer = requests.get(f"{hub.url}/api/datasets/{repo}", headers=headers, timeout=10)
        assert answer.status_code == status
        assert "secret" not in answer.text + str(answer.headers)


def _authorization(hub: LocalHub) -> dict[str, str]:
    return {"Authorization": f"Bearer {hub.token()}"}
