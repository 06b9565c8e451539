"""Cards, and the lists that are filtered and sorted by what they say."""

from __future__ import annotations

import pytest
import requests
from huggingface_hub import CommitOperationAdd, HfApi

from xethub_local.server import LocalHub


def _card(api: HfApi, name: str, yaml: str, repo_type: str = "model") -> str:
    repo_id = api.create_repo(name, repo_type=repo_type).repo_id
    card = [CommitOperationAdd("README.md", f"---\n{yaml}\n---\n# Title\n".encode())]
    api.create_commit(repo_id, card, commit_message="card", repo_type=repo_type)
    return repo_id


def test_a_model_is_described_by_its_card(api: HfApi) -> None:
    yaml = (
        "license: mit\nlanguage: [en, de]\nlibrary_name: pytorch\npipeline_tag: text-generation\ntags:\n- a\n- b\n"
        "datasets: acme/corpus\ndate: 2024-01-01"
    )
    info = api.model_info(_card(api, "cards/described", yaml))
    tags = ["pytorch", "text-generation", "en", "de", "a", "b", "dataset:acme/corpus", "license:mit", "region:us"]
    assert info.tags == tags
    assert (info.pipeline_tag, info.library_name) == ("text-generation", "pytorch")
    assert info.card_data is not None
    assert (info.card_data.license, info.card_data.to_dict()["date"]) == ("mit", "2024-01-01")


def test_a_repository_without_a_card_says_nothing(api: HfApi, repo: str) -> None:
    info = api.dataset_info(repo)
    assert (info.tags, info.card_data) == (["region:us"], None)


def test_lists_are_filtered_and_sorted_as_they_are_asked_for(api: HfApi) -> None:
    for name, license_name, tag in (("a", "mit", "text-generation"), ("b", "apache-2.0", "image-to-text")):
        _card(api, f"listed/x-{name}", f"license: {license_name}\ntags: [t-{name}]\npipeline_tag: {tag}")

    def found(**options: object) -> list[str]:
        return [each.id[-1] for each in api.list_models(author="listed", search="x-", **options)]  # type: ignore[arg-type]

    assert found() == ["a", "b"]
    assert found(filter="t-a") == ["a"]
    assert found(filter=["license:mit", "t-b"]) == []
    assert found(filter="no-such-tag") == []
    assert found(pipeline_tag="image-to-text") == ["b"]
    assert found(sort="last_modified") == ["b", "a"]
    assert found(sort="last_modified", limit=1) == ["b"]
    assert (found(gated=True), found(gated=False)) == ([], ["a", "b"])
    assert found(inference="warm") == []
    api.update_repo_settings("listed/x-a", gated="auto")
    assert found(gated=True) == ["a"]
    (data,) = [each.card_data for each in api.list_models(filter="t-a", cardData=True)]
    assert data is not None
    assert data.license == "mit"
    assert [each.card_data for each in api.list_models(filter="t-a")] == [None]


def test_datasets_are_found_by_what_their_tags_are_about(api: HfApi) -> None:
    _card(api, "listed/data", "language: fr\ntask_categories: [text-classification]\nsize_categories: n<1K", "dataset")

    def found(**options: object) -> list[str]:
        return [each.id for each in api.list_datasets(**options)]  # type: ignore[arg-type]

    assert found(language="fr", task_categories="text-classification") == ["listed/data"]
    assert found(language="de") == []


@pytest.mark.parametrize(
    "query", ["num_parameters=min:1B", "apps=ollama", "sort=colour", "direction=2", "nonsense=1", "config=true"]
)
def test_a_filter_that_means_nothing_here_is_refused_by_name(hub: LocalHub, query: str) -> None:
    answer = requests.get(f"{hub.url}/api/models?{query}", timeout=10)
    assert answer.status_code == 400
    assert query.split("=")[query.startswith("sort")] in answer.json()["error"]


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("model-index: foo", '"model-index" must be an array'),
        ("tags: one", '"tags" must be an array'),
        ("tags: [1]", '"tags" must only contain strings'),
        ("license: {a: b}", '"license" must be a string'),
        ("a: [", "Invalid YAML"),
        ("- a", "must be an object"),
        ("a: .nan", "Invalid YAML"),
        ("a: &a [*a]", "Invalid YAML"),
        ("a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)), "too large"),
        (f"a: {'x' * 1_100_000}", "characters"),
        ("? [1, 2]\n: 3", "Invalid YAML"),
        ("a: !!python/object:os.system {}", "Invalid YAML"),
    ],
)
def test_an_invalid_card_is_refused_before_the_upload_and_at_the_commit(
    hub: LocalHub, api: HfApi, repo: str, yaml: str, words: str
) -> None:
    content = f"---\n{yaml}\n---\n"
    operations = [CommitOperationAdd("README.md", content.encode())]
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md") as caught:
        api.create_commit(repo, operations, commit_message="card", repo_type="dataset")
    assert words in str(caught.value)
    lines = (
        '{"key": "header", "value": {"summary": "x"}}\n{"key": "file", "value": {"path": "README.md", "content": '
        f"{requests.compat.json.dumps(content)}}}}}\n"  # type: ignore[attr-defined]
    )
    url, headers = f"{hub.url}/api/datasets/{repo}/commit/main", {"Authorization": f"Bearer {hub.token()}"}
    answer = requests.post(url, data=lines, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid metadata in README.md.")
    assert words in answer.json()["errors"][0]["message"]
    assert not api.file_exists(repo, "README.md", repo_type="dataset")


def test_a_card_without_metadata_is_a_warning(api: HfApi, repo: str) -> None:
    operations = [CommitOperationAdd("README.md", b"# Title\n")]
    with pytest.warns(UserWarning, match="empty or missing yaml metadata in repo card"):
        api.create_commit(repo, operations, commit_message="card", repo_type="dataset")


def test_other_files_called_readme_are_no_cards(api: HfApi, repo: str) -> None:
    operations = [CommitOperationAdd("docs/README.md", b"---\ntags: one\n---\n")]
    api.create_commit(repo, operations, commit_message="card", repo_type="dataset")
    assert api.file_exists(repo, "docs/README.md", repo_type="dataset")


@pytest.mark.parametrize("name", ["mit", 'o\'neill: "x"\n---'])
def test_a_repository_may_begin_with_the_card_of_its_license(hub: LocalHub, api: HfApi, name: str) -> None:
    body = {"name": "licensed", "organization": "cards", "license": name}
    headers = {"Authorization": f"Bearer {hub.token()}"}
    requests.post(f"{hub.url}/api/repos/create", json=body, headers=headers, timeout=10).raise_for_status()
    card = api.model_info("cards/licensed").card_data
    assert card is not None
    assert card.to_dict() == {"license": name}
    api.delete_repo("cards/licensed")
