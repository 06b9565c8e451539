"""Addresses of pages: those that the Hub's own client makes."""

from __future__ import annotations

import posixpath

import pytest
from huggingface_hub import parse_hf_uri
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit, page_of_files
from airflow_provider_xethub.xet.repo import Repo

OID = "0123456789abcdef0123456789abcdef01234567"
REPOS = [
    Repo("acme/m"),
    Repo("acme/corpus", "dataset"),
    Repo("acme/app", "space", "v1"),
    Repo("acme/corpus", "dataset", "feature/new"),
    Repo("acme/b", "bucket"),
]
AWKWARD = ["a.bin", "photos/a b.bin", "100%.csv", "a#b/c?d.txt", "day=1/ünï.bin"]


def record(repo: Repo, path: str) -> dict:
    return {"path": path, "size": 1, "sha256": None, "xet_hash": None, "repo": repo.uri}


@pytest.mark.parametrize("repo", REPOS, ids=str)
@pytest.mark.parametrize("path", AWKWARD)
def test_a_file_has_the_address_that_the_client_of_the_hub_gives_it(repo, path):
    ours = f"https://hub.example{HubPage(repo, 'file', path).path}"
    uri = f"{repo.uri}/{path}"
    assert ours == parse_hf_uri(uri).to_url("https://hub.example")


@pytest.mark.parametrize("repo", [Repo("acme/m"), Repo("acme/corpus", "dataset", "feature/new")], ids=str)
def test_a_repository_has_the_address_that_the_client_of_the_hub_gives_it(repo):
    assert f"https://hub.example{HubPage(repo).path}" == parse_hf_uri(repo.uri).to_url("https://hub.example")


@pytest.mark.parametrize(
    ("page", "path"),
    [
        (HubPage(Repo("acme/m")), "/acme/m/tree/main"),
        (HubPage(Repo("acme/m"), "folder", "a b/c"), "/acme/m/tree/main/a%20b/c"),
        (HubPage(Repo("acme/c", "dataset", "refs/pr/3")), "/datasets/acme/c/tree/refs%2Fpr%2F3"),
        (HubPage(Repo("acme/c", "dataset"), "commit", OID), f"/datasets/acme/c/commit/{OID}"),
        (HubPage(Repo("acme/c", "dataset"), "discussion", "3"), "/datasets/acme/c/discussions/3"),
        (HubPage(Repo("acme/b", "bucket")), "/buckets/acme/b"),
        (HubPage(Repo("acme/b", "bucket"), "folder", "x/y"), "/buckets/acme/b/tree/x/y"),
    ],
)
def test_each_kind_of_page_has_its_address(page, path):
    assert page.path == path


@pytest.mark.parametrize(
    ("paths", "kind", "name"),
    [
        ([], "folder", ""),
        (["a/b.bin"], "file", "a/b.bin"),
        (["a/b.bin", "a/c.bin"], "folder", "a"),
        (["a/x/b.bin", "a/y/c.bin"], "folder", "a"),
        (["a/b.bin", "a-b/c.bin", "ab.bin"], "folder", ""),
        (["a/b", "a/b/c"], "folder", "a"),
    ],
)
def test_files_have_the_page_of_their_folder_and_a_single_one_its_own(paths, kind, name):
    repo = REPOS[1]
    assert page_of_files(repo, [record(repo, path) for path in paths]) == HubPage(repo, kind, name)


@given(st.lists(st.lists(st.sampled_from("ab-"), min_size=1, max_size=4).map("/".join), min_size=2, max_size=6))
def test_the_folder_of_files_is_the_deepest_that_has_all(paths):
    repo = REPOS[0]
    folders = [posixpath.dirname(path) for path in paths]
    expected = posixpath.commonpath(folders) if all(folders) else ""
    assert page_of_files(repo, [record(repo, path) for path in paths]).name == expected


def test_a_commit_that_opened_a_pull_request_has_the_page_of_that():
    commit = {"oid": OID, "url": "", "repo": Repo("a/b", revision="refs/pr/7").uri, "title": "", "description": ""}
    assert page_of_commit(commit).path == f"/a/b/commit/{OID}"
    # The number comes from the revision: the address could be anything.
    assert page_of_commit(commit, pull_request="javascript:alert(1)").path == "/a/b/discussions/7"
    other = {**commit, "repo": Repo("a/b").uri}
    assert page_of_commit(other, pull_request="https://evil.example/1").path == f"/a/b/commit/{OID}"
