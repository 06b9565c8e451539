"""The Hugging Face cache looks as ``huggingface_hub`` itself would have filled it, file by file."""

from __future__ import annotations

import os
import sys

import pytest
from huggingface_hub import HfApi, constants, scan_cache_dir, try_to_load_from_cache
from huggingface_hub.errors import IncompleteSnapshotError

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.exceptions import XetHubError, XetInputError
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import binary, names, publish
from support.cache_trees import MODEL, client_download, offline, tree
from xethub_local.control.faults import Fault

WEIGHTS = {"model.safetensors": binary(5000), "copy/weights.bin": binary(5000), "large.bin": binary(3_000_000, 1)}
FILES = MODEL | WEIGHTS


def fill(hook, repo, cache, files=None, **options):
    commit = hook.get_commit_id(repo)
    files = hook.list_files(repo.at(commit)) if files is None else files
    return hook.download(HubCache(cache), files, **{"ref": repo.revision, **options})


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_it_is_what_snapshot_download_makes(hub, hook, make_repo, tmp_path, cache, repo_type):
    repo = make_repo(repo_type)
    publish(repo, tmp_path, FILES)
    result = fill(hook, repo, cache)
    theirs = client_download(hub, repo, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert result["snapshot"] == theirs.replace("theirs", "cache")
    assert offline(cache, repo).samefile(result["snapshot"])
    for file in result["files"]:
        assert file["repo"] == repo.at(hook.get_commit_id(repo)).uri
        with open(file["local_path"], "rb") as stream:  # noqa: PTH123 - as a library opens it
            assert stream.read() == FILES.get(file["path"], hub_content(hub, repo, file["path"]))
    info = scan_cache_dir(cache)
    assert not info.warnings
    assert [each.repo_id for each in info.repos] == [repo.repo_id]


def hub_content(hub, repo, path):
    api = HfApi(endpoint=hub.url, token=hub.token("read"))
    with open(api.hf_hub_download(repo.repo_id, path, repo_type=repo.repo_type), "rb") as stream:  # noqa: PTH123
        return stream.read()


@pytest.mark.parametrize(("name", "value"), [("HF_HUB_DISABLE_SHARED_BLOBS", True), ("HF_HUB_DISABLE_SYMLINKS", True)])
def test_it_follows_the_settings_of_the_client(hub, hook, model, tmp_path, cache, monkeypatch, name, value):
    monkeypatch.setattr(constants, name, value)
    for _ in range(2):
        result = fill(hook, model, cache)
        client_download(hub, model, tmp_path / "theirs")
        assert tree(cache) == tree(tmp_path / "theirs")
    assert result["transfer"]["files"] == 0
    assert offline(cache, model).samefile(result["snapshot"])


def test_files_are_copied_where_links_are_no_longer_possible(hook, model, cache, monkeypatch):
    fill(hook, model, cache)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    result = fill(hook, model, cache)
    assert result["transfer"]["files"] == 0
    assert not [file for file in result["files"] if os.path.islink(file["local_path"])]  # noqa: PTH114
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", False)
    assert fill(hook, model, cache)["transfer"]["files"] == 0
    assert [name for name in names(cache) if name.endswith(".xetpart")] == []


def test_the_default_is_the_cache_of_the_client(hook, model):
    result = fill(hook, model, None)
    assert result["snapshot"].startswith(os.path.realpath(constants.HF_HUB_CACHE) + "/models--")
    config = try_to_load_from_cache(model.repo_id, "config.json")
    with open(config, "rb") as stream:  # noqa: PTH123 - the client returns a string
        assert stream.read() == FILES["config.json"]


@pytest.mark.parametrize("kind", ["pull request", "tag", "branch/with/slashes"])
def test_the_ref_is_named_as_the_revision(hub, hook, model, tmp_path, cache, kind):
    api = HfApi(endpoint=hub.url, token=hub.token("write"))
    if kind == "pull request":
        request = CommitRequest(model, (), message="Proposed", create_pr=True)
        hook.publish_contents({"config.json": b'{"other": 1}'}, request)
        repo = model.at("refs/pr/1")
    elif kind == "tag":
        api.create_tag(model.repo_id, tag="v1")
        repo = model.at("v1")
    else:
        api.create_branch(model.repo_id, branch="a/b")
        repo = model.at("a/b")
    fill(hook, repo, cache)
    client_download(hub, repo, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert offline(cache, repo).is_dir()


def test_a_commit_has_no_ref(hub, hook, model, tmp_path, cache):
    repo = model.at(hook.get_commit_id(model))
    fill(hook, repo, cache)
    client_download(hub, repo, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert not (cache / "refs").exists()


def test_the_client_knows_that_a_selection_is_not_all(hub, hook, model, tmp_path, cache):
    chosen = hook.list_files(model.at(hook.get_commit_id(model)), patterns="*.json")
    result = fill(hook, model, cache, chosen)
    client_download(hub, model, tmp_path / "theirs", allow_patterns="*.json")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert offline(cache, model, allow_patterns="*.json").samefile(result["snapshot"])
    with pytest.raises(IncompleteSnapshotError, match="is incomplete"):
        offline(cache, model)


def test_a_second_commit_shares_what_did_not_change(hub, hook, model, tmp_path, cache):
    fill(hook, model, cache)
    client_download(hub, model, tmp_path / "theirs")
    hook.publish_contents({"config.json": b'{"changed": 1}'}, CommitRequest(model, (), message="Change"))
    result = fill(hook, model, cache)
    client_download(hub, model, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert result["transfer"]["files"] == 1
    assert len(list(cache.glob("models--*/snapshots/*"))) == 2


def test_the_client_fills_up_what_we_began_and_the_other_way_round(hub, hook, model, tmp_path, cache):
    chosen = [file for file in hook.list_files(model) if file["path"] in ("large.bin", "config.json")]
    fill(hook, model, cache, chosen)
    theirs = client_download(hub, model, cache)
    whole = tree(cache)
    hub.log.clear()
    result = fill(hook, model, cache)
    assert result["snapshot"] == theirs
    assert result["transfer"]["files"] == 0
    assert hub.log.requests("GET /cas/.*") == []
    assert tree(cache) == whole


def test_the_modes_are_those_of_the_client_with_another_umask(hub, hook, model, tmp_path, cache):
    before = os.umask(0o077)
    try:
        fill(hook, model, cache)
        client_download(hub, model, tmp_path / "theirs")
    finally:
        os.umask(before)
    assert tree(cache) == tree(tmp_path / "theirs")


def test_the_ref_comes_last(hub, hook, model, cache):
    fill(hook, model, cache)
    [ref] = cache.glob("models--*/refs/main")
    before = ref.read_text()
    hook.publish_contents({"config.json": b"{}", "new.json": b"[]"}, CommitRequest(model, (), message="Change"))
    hub.faults.add(Fault("GET /.*/new.json", status=403))
    with pytest.raises(XetHubError):
        fill(hook, model, cache)
    assert ref.read_text() == before
    assert offline(cache, model).name == before
    now = model.at(hook.get_commit_id(model))
    with pytest.raises(IncompleteSnapshotError, match="is incomplete"):
        offline(cache, now)
    hub.faults.clear()
    fill(hook, model, cache)
    assert ref.read_text() == now.revision
    assert offline(cache, now).samefile(offline(cache, model))


def test_without_the_private_parts_of_the_client_the_cache_is_a_plain_one(hook, model, cache, monkeypatch):
    """Another version of the library may keep its listings and shared blobs elsewhere."""
    for name in ("huggingface_hub._tree_cache", "huggingface_hub.utils._shared_blobs"):
        monkeypatch.setitem(sys.modules, name, None)
    result = fill(hook, model, cache)
    monkeypatch.undo()
    names = {path.name for path in cache.iterdir()}
    assert names == {".locks", "CACHEDIR.TAG", f"models--{model.repo_id.replace('/', '--')}"}
    assert not [path for path in cache.glob("models--*/blobs/*") if path.is_symlink()]
    assert offline(cache, model).samefile(result["snapshot"])


def test_a_bucket_is_refused(hook, make_repo, tmp_path, cache):
    bucket = make_repo("bucket")
    publish(bucket, tmp_path, {"a.bin": binary()})
    with pytest.raises(XetInputError, match=r"is a bucket: it has no commits, so the Hugging Face cache has no place"):
        hook.download(HubCache(cache), hook.list_files(bucket))
    assert not cache.exists()
