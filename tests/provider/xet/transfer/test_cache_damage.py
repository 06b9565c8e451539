"""What is in the Hugging Face cache already is not trusted: damage is mended, and no link leads out of it."""

from __future__ import annotations

import os
import shutil

import pytest

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.exceptions import XetDestinationError, XetHubError, XetInputError
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import binary, names, publish
from support.cache_trees import MODEL, client_download, offline, tree
from xethub_local.control.faults import Fault

LARGE = binary(3_000_000, 1)
FILES = MODEL | {"model.safetensors": binary(5000), "large.bin": LARGE}


@pytest.fixture
def filled(hook, model, cache):
    fill(hook, model, cache)
    return tree(cache)


def fill(hook, repo, cache):
    commit = hook.get_commit_id(repo)
    return hook.download(HubCache(cache), hook.list_files(repo.at(commit)), ref=repo.revision)


def found(cache, name):
    """The path of a file in the only snapshot."""
    [path] = cache.glob(f"models--*/snapshots/*/{name}")
    return path


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("same size", "code/model.py"),
        ("same size", "large.bin"),
        ("shorter", "model.safetensors"),
        ("empty", "config.json"),
        ("missing", "large.bin"),
        ("unreadable", "code/model.py"),
    ],
)
def test_a_damaged_blob_is_replaced_whatever_its_name(hub, hook, model, cache, filled, name, damage):
    content = found(cache, name).resolve()
    content.chmod(0o644)
    good = content.read_bytes()
    if damage == "missing":
        content.unlink()
    elif damage == "unreadable":
        content.unlink()
        content.symlink_to(content.name)  # in a circle: root may read everything else
    else:
        content.write_bytes({"same size": b"\0" * len(good), "shorter": good[:-1], "empty": b""}[damage])
    hub.log.clear()
    result = fill(hook, model, cache)
    assert result["transfer"]["files"] == 1
    assert result["transfer"]["bytes"] == len(good)
    assert found(cache, name).read_bytes() == good
    assert tree(cache) == filled
    assert len(hub.log.requests("GET (.*/resolve/.*|/cas/.*/reconstructions/.*)")) == 1


def test_what_is_there_is_not_downloaded_again(hub, hook, model, cache, filled):
    hub.log.clear()
    result = fill(hook, model, cache)
    assert result["transfer"] == {
        "files": 0,
        "bytes": 0,
        "bytes_received": 0,
        "skipped": len(FILES) + 1,
        "seconds": result["transfer"]["seconds"],
    }
    assert hub.log.requests("GET (/cas/.*|.*/resolve/.*)") == []
    assert tree(cache) == filled


@pytest.mark.parametrize("wrong", ["missing", "another blob", "dangling", "out of the cache", "absolute", "a file"])
def test_a_link_is_restored(hook, model, cache, filled, tmp_path, wrong):
    link = found(cache, "code/model.py")
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    blob = link.resolve()
    link.unlink()
    if wrong == "a file":
        link.write_bytes(b"edited")
    elif wrong != "missing":
        targets = {"dangling": "nowhere", "out of the cache": outside, "absolute": blob}
        link.symlink_to(targets.get(wrong, found(cache, "README.md").resolve()))
    assert fill(hook, model, cache)["transfer"]["files"] == 0
    assert tree(cache) == filled
    assert outside.read_bytes() == b"precious"


def test_shared_content_is_used_but_verified(hub, hook, model, make_repo, cache, filled, tmp_path):
    other = make_repo("model")
    publish(other, tmp_path / "other", {"again.bin": LARGE})
    hub.log.clear()
    assert fill(hook, other, cache)["transfer"]["files"] == 1  # .gitattributes
    assert hub.log.requests("GET /cas/.*") == []
    third = make_repo("model")
    publish(third, tmp_path / "third", {"again.bin": LARGE})
    shared = found(cache, "large.bin").resolve()
    shared.chmod(0o644)
    shared.write_bytes(bytes(len(LARGE)))
    assert fill(hook, third, cache)["transfer"]["bytes"] > len(LARGE)
    assert found(cache, "large.bin").read_bytes() == LARGE
    assert fill(hook, model, cache)["transfer"]["files"] == 0


def test_a_blob_that_leads_out_of_the_cache_is_replaced(hook, model, cache, filled, tmp_path):
    outside = tmp_path / "outside.bin"
    outside.write_bytes(LARGE)
    [blob] = (path for path in cache.glob("models--*/blobs/*") if path.stat().st_size == len(LARGE))
    blob.unlink()
    blob.symlink_to(outside)
    fill(hook, model, cache)
    assert tree(cache) == filled
    assert outside.read_bytes() == LARGE


PLANTED = [
    "{repo}",
    "{repo}/blobs",
    "{repo}/snapshots",
    "{repo}/snapshots/{commit}",
    "{repo}/snapshots/{commit}/code",
    "{repo}/refs",
    "{repo}/trees",
    ".locks",
    ".locks/{repo}",
]


@pytest.mark.parametrize("place", PLANTED)
def test_a_planted_link_to_a_folder_is_not_followed(hook, model, cache, tmp_path, place):
    commit = hook.get_commit_id(model)
    outside = tmp_path / "outside"
    outside.mkdir()
    link = cache / place.format(repo=f"models--{model.repo_id.replace('/', '--')}", commit=commit)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(XetDestinationError, match=r"is a symbolic link, which is not followed inside a cache"):
        fill(hook, model, cache)
    assert names(outside) == []
    assert [path.name for path in outside.iterdir()] == []


@pytest.mark.parametrize("place", ["refs/main", "trees/{commit}.json", "../CACHEDIR.TAG", "lock", "../blobs"])
def test_a_planted_link_to_a_file_is_replaced_or_refused(hook, model, cache, tmp_path, place):
    commit = hook.get_commit_id(model)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    name = f"models--{model.repo_id.replace('/', '--')}"
    [config] = hook.get_files(model, ["config.json"])
    link = cache / name / place.format(commit=commit)
    if place == "lock":
        link = cache / ".locks" / name / f"{config['blob_id']}.lock"
    link.parent.mkdir(parents=True, exist_ok=True)
    (cache / name).mkdir(parents=True, exist_ok=True)
    link.symlink_to(precious)
    if place == "lock":
        with pytest.raises(XetDestinationError, match=r"is a symbolic link instead of a lock file"):
            fill(hook, model, cache)
    else:
        fill(hook, model, cache)
        assert offline(cache, model).is_dir()
    assert precious.read_bytes() == b"precious"


def test_a_folder_in_the_way_of_a_file_is_named(hook, model, cache, filled):
    link = found(cache, "config.json")
    link.unlink()
    link.mkdir()
    with pytest.raises(XetDestinationError, match=r"config.json of .* cannot be written .*: is a directory"):
        fill(hook, model, cache)


def test_a_ref_in_the_way_of_another_is_named(hub, hook, model, cache):
    from huggingface_hub import HfApi

    HfApi(endpoint=hub.url, token=hub.token("write")).create_branch(model.repo_id, branch="main2/x")
    (cache / f"models--{model.repo_id.replace('/', '--')}/refs").mkdir(parents=True)
    (cache / f"models--{model.repo_id.replace('/', '--')}/refs/main2").write_text("0" * 40)
    with pytest.raises(XetDestinationError, match=r"refs/main2 of .* cannot be written to the cache .*: file exists"):
        fill(hook, model.at("main2/x"), cache)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a\\b", "", ".git/config"])
def test_no_path_leaves_the_snapshot(hook, model, cache, path):
    [record] = hook.get_files(model, ["config.json"])
    with pytest.raises(XetInputError, match="path"):
        hook.download(HubCache(cache), [{**record, "path": path}])
    assert not cache.exists()


FULL = """
import resource, sys
from airflow_provider_xethub import HubCache, Repo
from airflow_provider_xethub.hooks.xethub import XetHubConnection
hook = XetHubConnection()
files = hook.list_files(Repo(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
hook.download(HubCache(sys.argv[2]), files)
"""


def test_on_a_full_disk_there_is_no_ref_and_the_retry_takes_the_rest(hub, hook, model, cache, fork_server):
    _, printed = fork_server.run(FULL, model.repo_id, str(cache))
    assert "XetDestinationError" in printed
    assert "File too large" in printed
    assert list(cache.glob("models--*/refs/*")) == []
    assert [name for name in names(cache) if name.endswith((".xetpart", ".tmp", ".incomplete"))] == []
    hub.log.clear()
    result = fill(hook, model, cache)
    assert len(hub.log.requests("GET .*/resolve/.*")) == 0  # the inline files were complete
    assert result["transfer"]["bytes"] in (len(LARGE), len(LARGE) + 5000)
    assert tree(cache) == client_tree(hub, model, cache)


def client_tree(hub, repo, cache):
    theirs = cache.parent / "theirs"
    client_download(hub, repo, theirs)
    return tree(theirs)


def test_what_an_earlier_attempt_left_is_removed(hook, model, cache, filled, monkeypatch):
    [blobs] = cache.glob("models--*/blobs")
    blob = found(cache, "large.bin").readlink().name
    earlier = temporary_names.Attempt.of(1, "dag", "run", "task")
    left = [temporary_names.new(blobs / name, earlier) for name in (blob, "ref")]
    for path in left:
        path.write_bytes(b"half")
    other = temporary_names.new(blobs / blob, temporary_names.Attempt.of(1, "another", "run", "task"))
    other.write_bytes(b"in use")
    link = blobs / f".{blob}.0123abcd.shared"
    link.symlink_to("nowhere")
    later = temporary_names.Attempt.of(2, "dag", "run", "task")
    monkeypatch.setattr("airflow_provider_xethub.hooks.attempt.current_attempt", lambda: later)
    (blobs / blob).unlink()
    fill(hook, model, cache)
    assert other.read_bytes() == b"in use"
    other.unlink()
    assert tree(cache) == filled


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_blob_that_a_killed_process_did_not_move_to_the_shared_ones_is_moved(hook, model, cache, filled, has_begun):
    pointer = found(cache, "large.bin")
    blob = pointer.parent / pointer.readlink()
    shared = blob.resolve()
    blob.unlink()
    shared.rename(blob)
    pointer.unlink()
    if has_begun:
        (blob.parent / f".{blob.name}.0123abcd.shared").symlink_to(shared)
    fill(hook, model, cache)
    assert tree(cache) == filled


def test_a_blob_that_somebody_may_read_is_not_moved(hook, model, cache, filled):
    pointer = found(cache, "large.bin")
    blob = pointer.parent / pointer.readlink()
    shared = blob.resolve()
    blob.unlink()
    shared.rename(blob)
    other = cache / pointer.relative_to(cache).parents[1] / ("0" * 40) / "large.bin"
    other.parent.mkdir()
    pointer.rename(other)
    before = blob.stat().st_ino
    fill(hook, model, cache)
    assert not blob.is_symlink()
    assert blob.stat().st_ino == before
    assert found(cache, "model.safetensors").resolve().parent.parent == cache / "blobs"


def test_a_damaged_download_leaves_no_name(hub, hook, model, cache):
    hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    with pytest.raises(XetHubError):
        fill(hook, model, cache)
    assert list(cache.glob("models--*/refs/*")) == []
    assert {path.name for path in cache.glob("models--*/snapshots/*/*.*")} & {"large.bin", "model.safetensors"} == set()
    hub.faults.clear()
    fill(hook, model, cache)
    assert tree(cache) == client_tree(hub, model, cache)


def test_an_older_ref_is_replaced_even_if_it_is_a_link(hook, model, cache, filled, tmp_path):
    ref = next(iter(cache.glob("models--*/refs/main")))
    old = tmp_path / "old"
    shutil.copy(ref, old)
    ref.unlink()
    ref.symlink_to(old)
    hook.publish_contents({"a.json": b"{}"}, CommitRequest(model, (), message="Change"))
    fill(hook, model, cache)
    assert not os.path.islink(ref)  # noqa: PTH114
    assert ref.read_text() == hook.get_commit_id(model) != old.read_text()
