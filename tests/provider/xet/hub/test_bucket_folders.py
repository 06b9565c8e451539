"""Folders of buckets: the Hub matches a path as text, so that ``logs`` finds ``logs.json`` and ``logs_old`` as well."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetProtocolError
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
)
from airflow_provider_xethub.xet.hub import tree
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.builders import names, publish
from support.filesystem_places import at, name
from support.small_server import Answer, SmallServer

INSIDE = ["logs/a.txt", "logs/sub/b.txt"]
BESIDE = ["logs.json", "logs_old/keep.txt", "log", "top.txt"]
BUCKET = Repo("acme/raw", "bucket")


@pytest.fixture
def bucket(make_repo, hook, tmp_path) -> Repo:
    bucket = make_repo("bucket")
    publish(bucket, tmp_path / "source", {path: path.encode() for path in (*INSIDE, *BESIDE)})
    return bucket


@pytest.fixture
def doubled(bucket, tmp_path) -> Repo:
    """A bucket in which ``logs`` is a file, too."""
    publish(bucket, tmp_path / "doubled", {"logs": b"a file"})
    return bucket


def held(hub, bucket: Repo) -> list[str]:
    return [file.path for file in hub.bucket_files.beneath(f"buckets/{bucket.repo_id}")]


def arguments(bucket: Repo) -> dict:
    return {"repo_id": bucket.repo_id, "repo_type": "bucket"}


def paths(files) -> list[str]:
    return [file["path"] for file in files]


@pytest.mark.parametrize("path", ["logs", "logs/", "/logs/"])
def test_a_folder_is_listed_and_downloaded_without_its_neighbours(path, bucket, hook, run_task, tmp_path):
    assert paths(hook.list_files(bucket, path)) == INSIDE
    assert paths(run_task(XetListOperator, path=path, **arguments(bucket)).value) == INSIDE
    run_task(XetDownloadOperator, path=path, destination=f"{tmp_path}/out/", **arguments(bucket)).value  # noqa: B018
    assert sorted(names(tmp_path / "out")) == INSIDE


@pytest.mark.parametrize("path", ["lo", "logs/s", "logs/a.txt/", "logs_", "nowhere", "nowhere/", "logs/sub/b.txt/x"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(path, bucket, hook, run_task, tmp_path):
    with pytest.raises(XetNotFoundError, match=r"does not exist"):
        hook.list_files(bucket, path)
    run = run_task(XetDownloadOperator, path=path, destination=str(tmp_path / "out"), **arguments(bucket))
    assert isinstance(run.error, XetNotFoundError)
    assert not (tmp_path / "out").exists()


def test_a_missing_bucket_is_not_a_missing_folder(hook):
    with pytest.raises(XetNotFoundError, match="Check repo_id"):
        hook.list_files(Repo("local/no-such-bucket", "bucket"), "logs")


def test_an_empty_bucket_has_no_files_and_no_folders(make_repo, hook, fs):
    empty = make_repo("bucket")
    assert hook.list_files(empty) == []
    assert fs.ls(name(empty)) == []
    assert fs.find(name(empty)) == []
    assert not fs.exists(name(empty, "logs"))


def test_deleting_a_folder_leaves_its_neighbours(bucket, hub, run_task):
    run_task(XetCommitOperator, delete=["logs/"], **arguments(bucket)).value  # noqa: B018
    assert held(hub, bucket) == sorted(BESIDE)


@pytest.mark.parametrize("missing", ["lo/", "logs_/", "logs/a.txt/", "logs/s/"])
def test_a_prefix_that_is_no_folder_deletes_nothing(missing, bucket, hub, run_task):
    run = run_task(XetCommitOperator, delete=[missing, "top.txt"], **arguments(bucket))
    assert isinstance(run.error, XetNotFoundError)
    assert f"Cannot delete {missing} from" in run.text
    assert held(hub, bucket) == sorted([*INSIDE, *BESIDE])


def test_a_copied_folder_has_no_neighbours(bucket, hub, make_repo, run_task):
    target = make_repo("bucket")
    source = {"source_repo_id": bucket.repo_id, "source_repo_type": "bucket"}
    run_task(XetCopyOperator, path="logs", path_in_repo="copied", **source, **arguments(target)).value  # noqa: B018
    assert held(hub, target) == [f"copied/{path}" for path in INSIDE]


def test_a_path_with_a_slash_is_the_folder_and_without_one_the_file(doubled, hub, hook, run_task, tmp_path):
    assert paths(hook.list_files(doubled, "logs")) == ["logs"]
    assert paths(hook.list_files(doubled, "logs/")) == INSIDE
    target = tmp_path / "one.txt"
    run_task(XetDownloadOperator, path="logs", destination=str(target), **arguments(doubled)).value  # noqa: B018
    assert target.read_bytes() == b"a file"
    run_task(XetCommitOperator, delete=["logs"], **arguments(doubled)).value  # noqa: B018
    assert held(hub, doubled) == sorted([*INSIDE, *BESIDE])
    with pytest.raises(XetNotFoundError):
        hook.commit(CommitRequest(doubled, (), delete=["logs"]))


def test_a_path_with_a_slash_is_no_file_of_a_repository(repo, hook, tmp_path):
    publish(repo, tmp_path, {"a.txt": b"a"})
    assert paths(hook.list_files(repo, "a.txt")) == ["a.txt"]
    with pytest.raises(XetNotFoundError):
        hook.list_files(repo, "a.txt/")


# --- the filesystem


def test_a_path_lists_its_own_folder_only(bucket, fs):
    root = at(bucket)
    shown = {path: sorted(str(each).partition("/raw/")[2] or each.name for each in (root / path).iterdir())
             for path in ("", "logs")}  # fmt: skip
    assert shown == {"": ["log", "logs", "logs.json", "logs_old", "top.txt"], "logs": ["a.txt", "sub"]}
    for path, kind in {"logs": "directory", "log": "file", "logs/sub": "directory", "lo": None, "logs/s": None}.items():
        assert fs.exists(name(bucket, path)) == (kind is not None)
        assert fs.isdir(name(bucket, path)) == (kind == "directory")
    assert fs.ls(name(bucket, "logs/a.txt"), detail=False) == [name(bucket, "logs/a.txt")]
    for missing in ("lo", "logs/s", "logs_", "logs/a.txt/x"):
        with pytest.raises(FileNotFoundError):
            fs.ls(name(bucket, missing))
        assert fs.find(name(bucket, missing)) == []
        assert fs.glob(name(bucket, f"{missing}/*")) == []


def test_a_file_and_a_folder_of_the_same_name_are_both_listed(doubled, fs):
    root = name(doubled)
    everything = sorted(f"{root}/{path}" for path in ("logs", *INSIDE, *BESIDE))
    assert [info["type"] for info in fs.ls(root) if info["name"] == f"{root}/logs"] == ["file", "directory"]
    for _ in range(2):  # the second time from what is remembered
        assert fs.find(root) == everything
        assert fs.isfile(f"{root}/logs")
        assert fs.cat_file(f"{root}/logs") == b"a file"
    assert fs.find(root, withdirs=True) == sorted([root, *everything, f"{root}/logs/sub", f"{root}/logs_old"])
    fs.invalidate_cache()
    assert fs.ls(f"{root}/logs", detail=False) == [f"{root}/logs/a.txt", f"{root}/logs/sub"]
    assert fs.isfile(f"{root}/logs")


def test_a_folder_is_removed_and_moved_without_its_neighbours(bucket, fs, hub):
    fs.mv(name(bucket, "logs"), name(bucket, "moved"), recursive=True)
    assert held(hub, bucket) == sorted([*BESIDE, "moved/a.txt", "moved/sub/b.txt"])
    fs.rm(name(bucket, "moved"), recursive=True)
    assert held(hub, bucket) == sorted(BESIDE)


def test_a_page_is_enough_to_see_that_a_folder_is_there(bucket, hub, hook, monkeypatch):
    monkeypatch.setattr("xethub_local.hub.buckets._ENTRIES_PER_PAGE", 1)
    hub.log.clear()
    assert tree.get_node(hook.hub, bucket, "logs").is_folder
    assert len(hub.log.requests("GET /api/buckets/.*/tree.*")) == 1
    assert paths(hook.list_files(bucket, "logs")) == INSIDE  # of several pages


# --- whatever the Hub answers


def entry(path: str, **fields) -> dict:
    return {"type": "file", "path": path, "size": 1, "xetHash": "0" * 64, **fields}


@pytest.mark.parametrize("recursive", [True, False])
def test_what_is_deeper_is_a_folder_whether_the_hub_folds_it_or_not(recursive):
    flat = [entry("d/a"), entry("d/e/f/g"), entry("d/e/h"), entry("d.txt"), entry("other/x")]
    folded = [entry("d/a"), {"type": "directory", "path": "d/e/"}, {"type": "directory", "path": "d"}, entry("d.txt")]
    for answer in (flat,) if recursive else (flat, folded):
        with SmallServer(Answer(answer)) as server:
            nodes = tree.list_folder(Hub(server.url), BUCKET, "d", recursive=recursive)
            assert server.asked[0].path == "/api/buckets/acme/raw/tree/d%2F"
            assert server.asked[0].query == {"recursive": [str(recursive).lower()]}
        shown = [(node.path, node.is_folder) for node in nodes]
        deeper = [("d/e/f", True), ("d/e/f/g", False), ("d/e/h", False)] if recursive else []
        assert shown == [("d/a", False), ("d/e", True), *deeper]


@pytest.mark.parametrize("wrong", [None, 5, "x", [], {}, {"type": "file"}, {"type": "file", "path": 5, "size": 1}])
def test_wrong_entries_are_a_protocol_error_and_not_left_out(wrong):
    with SmallServer(Answer([wrong])) as server:
        for ask in (
            lambda hub: hub.list_files(BUCKET, "d"),
            lambda hub: tree.list_folder(hub, BUCKET, "d", recursive=False),
        ):
            with pytest.raises(XetProtocolError):
                ask(Hub(server.url))


@pytest.mark.parametrize("path", ["a b", "ü", "100%", "a#b?c", "a+b", "%2F"])
def test_any_name_can_be_that_of_a_folder(path, make_repo, hook, hub, tmp_path):
    bucket = make_repo("bucket")
    publish(bucket, tmp_path, {f"{path}/x": b"1", f"{path}x": b"2"})
    assert paths(hook.list_files(bucket, path)) == [f"{path}/x"]


def test_a_path_that_means_another_place_is_refused_before_anything_is_asked(bucket, hub, hook):
    hub.log.clear()
    for path in ("a/../logs", "logs//a", "a\\b"):
        with pytest.raises(XetInputError):
            hook.commit(CommitRequest(bucket, (), delete=[f"{path}/"]))
    assert not hub.log.requests(".* /api/buckets/.*")
