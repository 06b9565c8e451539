"""The layout of the Hugging Face cache on a disk that fails. With a Hub: tests/provider/xet/transfer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.xet.files.cache import client_cache, layout
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
from airflow_provider_xethub.xet.files.cache.layout import Snapshot
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_names import Attempt
from airflow_provider_xethub.xet.publish.commit import git_blob_id
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import BINARY, record
from support.failing_disk import fail_at

MODEL = Repo("acme/m", revision="a" * 40)
FILE = record(MODEL, "model.bin", BINARY)


@pytest.fixture
def snapshot(tmp_path):
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL)
    made.prepare([FILE])
    return made


@pytest.fixture
def blob(snapshot):
    """A blob that is complete, and has no name in a snapshot yet."""
    [made] = layout.blobs_of([FILE])
    snapshot.blob_path(made).write_bytes(BINARY)
    return made


def test_a_blob_that_cannot_be_read_counts_as_missing(snapshot, blob, monkeypatch):
    assert snapshot.find(blob) == snapshot.blob_path(blob)
    fail_at(monkeypatch, Path, "is_symlink", blob.name)
    assert snapshot.find(blob) is None


def test_what_cannot_be_listed_may_be_in_use(snapshot, blob, monkeypatch):
    failed = fail_at(monkeypatch, os, "scandir", "/snapshots")
    assert refused(snapshot, snapshot.is_complete, blob) == blob.name
    assert failed


def test_what_goes_away_meanwhile_is_not_in_use(snapshot, blob, monkeypatch):
    failed = fail_at(monkeypatch, os, "scandir", "/snapshots", errno.ENOENT)
    snapshot.is_complete(blob, is_locked=True)
    assert failed


@pytest.mark.parametrize(
    ("repo", "uris", "files", "text"),
    [
        (
            Repo("acme/b", "bucket"),
            ["hf://buckets/acme/b"],
            [FILE],
            "hf://buckets/acme/b is a bucket: it has no commits, so the Hugging Face cache has no place for it. Give "
            "destination a folder instead of HubCache.",
        ),
        (
            MODEL,
            [f"hf://acme/m@v{number}" for number in (1, 2, 3, 4, 1)],
            [FILE],
            "The files are of several revisions (v1, v2, v3 and 1 more), but a snapshot is of one commit. Set revision "
            "to a branch or commit that has all of them, or use one task for each revision.",
        ),
        (
            MODEL,
            ["hf://acme/m@v1", "hf://acme/m@v2"],
            [FILE],
            "The files are of several revisions (v1, v2), but a snapshot is of one commit. Set revision to a branch or "
            "commit that has all of them, or use one task for each revision.",
        ),
        (MODEL, [MODEL.uri], [FILE, FILE], f"model.bin of {MODEL} is given twice. Give each file once."),
    ],
)
def test_files_that_are_not_of_one_snapshot_are_refused(repo, uris, files, text):
    with pytest.raises(XetInputError) as caught:
        layout.check(repo, uris, files)
    assert str(caught.value) == text


def test_paths_that_no_repository_can_have_are_refused():
    with pytest.raises(XetInputError, match=r"path '\.\./x' in a repository is not valid"):
        layout.check(MODEL, [MODEL.uri], [{**FILE, "path": "../x"}])


def test_of_files_that_may_be_too_many_for_memory_others_find_which_occur_twice():
    layout.check(MODEL, [MODEL.uri], [FILE, FILE], are_many=True)


def test_an_error_inside_of_another_write_keeps_its_words(snapshot, blob):
    (snapshot.storage / "refs").touch()
    with pytest.raises(XetDestinationError, match=r"refs of hf://"), snapshot._writing("the ref"):
        snapshot.set_ref("main")


STORED = f"blobs/ab/{'ab' * 32}"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, FILE["sha256"]),
        ({"blob_id": "12" * 20}, FILE["sha256"]),
        ({"xet_hash": None, "blob_id": "12" * 20}, "12" * 20),
        ({"xet_hash": None}, FILE["sha256"]),
        ({"sha256": None, "blob_id": "12" * 20}, "12" * 20),
        ({"xet_hash": None, "sha256": None, "size": 0}, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        ({"xet_hash": None, "size": 0}, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
    ],
)
def test_a_blob_is_named_by_its_digest_at_the_hub(changes, name):
    assert layout.etag({**FILE, **changes}) == name


def test_a_record_without_a_digest_has_no_name_in_the_cache():
    with pytest.raises(XetInputError) as caught:
        layout.etag({**FILE, "sha256": None, "xet_hash": None})
    assert str(caught.value) == (
        f"The record of model.bin of {MODEL} has no sha256 and no blob_id, so it has no name in the Hugging Face "
        "cache. Pass records as XetListOperator returns them."
    )


def test_equal_files_are_one_blob_which_is_verified_by_its_name():
    inline = {**FILE, "path": "b.txt", "xet_hash": None, "blob_id": "12" * 20}
    files = [FILE, inline, {**FILE, "path": "copy"}, {**inline, "path": "a.txt", "sealed_content": "sealed"}]
    [weights, text] = layout.blobs_of(files)
    assert text == layout.Blob("12" * 20, {**files[3], "sha256": None}, ["b.txt", "a.txt"])
    assert weights == layout.Blob(FILE["sha256"], FILE, ["model.bin", "copy"])
    assert files[3]["sha256"] == FILE["sha256"], "the record itself stays"


# --- folders


def test_a_snapshot_has_the_folders_of_the_client(snapshot, tmp_path):
    root = tmp_path / "cache"
    assert (snapshot.root, snapshot.storage) == (root, root / "models--acme--m")
    assert snapshot.folder == root / "models--acme--m" / "snapshots" / ("a" * 40)
    assert snapshot.path_of("d/a.bin") == snapshot.folder / "d/a.bin"
    assert sorted(path.name for path in snapshot.storage.iterdir()) == ["blobs", "snapshots"]
    assert snapshot.folder.is_dir()
    assert (root / "CACHEDIR.TAG").exists()
    assert snapshot.locks_folder() == root / ".locks" / "models--acme--m"
    assert snapshot.locks_folder().is_dir()
    snapshot.write_tree([{"type": "file", "path": "a", "size": 1, "oid": "12" * 20}])
    assert (snapshot.storage / "trees" / f"{'a' * 40}.json").exists()


def test_the_default_is_the_cache_of_the_client(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "default"))
    assert Snapshot(HubCache(), MODEL).root == tmp_path / "default"


def test_the_path_of_a_cache_may_be_a_link_and_need_not_exist(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    made = Snapshot(HubCache(str(tmp_path / "link" / "a" / "b")), MODEL)
    for _ in range(2):
        made.prepare([FILE])
    assert made.root == tmp_path / "real" / "a" / "b"
    assert made.folder.is_dir()


def test_a_cache_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(XetDestinationError) as caught:
        Snapshot(HubCache(str(tmp_path / "file" / "cache")), MODEL).prepare([FILE])
    assert str(caught.value) == f"{tmp_path}/file/cache cannot be created on this worker: not a directory."


def test_a_name_that_is_too_long_is_refused_before_anything_is_created(tmp_path):
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL)
    with pytest.raises(XetInputError, match="is longer than the 255 bytes"):
        made.prepare([FILE, {**FILE, "path": f"d/{'x' * 256}"}])
    assert not made.root.exists()


def test_of_many_files_one_that_is_given_twice_is_found(tmp_path):
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL)
    with pytest.raises(XetInputError) as caught:
        made.prepare([FILE, FILE], are_many=True)
    assert f"two of the files would be written to {made.folder}/model.bin" in str(caught.value)
    made.prepare([FILE, FILE])


def test_the_spellings_of_all_names_are_compared_in_the_folder_of_the_commit(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(layout.spellings, "check", lambda where, *given, **options: asked.append((*given, options)))
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL)
    made.prepare([FILE])
    [(folder, paths, repo, options)] = asked
    assert (folder, list(paths), repo, options) == (str(made.folder), ["model.bin"], MODEL.uri, {"on_disk": False})


def test_whether_there_are_links_is_tried_in_the_cache(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(client_cache, "links_supported", lambda root: asked.append(root) or True)
    Snapshot(HubCache(str(tmp_path / "cache")), MODEL).prepare([FILE])
    assert asked == [tmp_path / "cache"]


def test_no_link_is_followed_inside_of_a_cache(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    storage = tmp_path / "cache/models--acme--m"
    storage.mkdir(parents=True)
    (storage / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(XetDestinationError) as caught:
        Snapshot(HubCache(str(tmp_path / "cache")), MODEL).prepare([FILE])
    assert str(caught.value) == (
        f"{storage}/blobs is a symbolic link, which is not followed inside a cache. Replace it with a folder."
    )


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    storage = tmp_path / "cache/models--acme--m"
    storage.mkdir(parents=True)
    (storage / "blobs").touch()
    with pytest.raises(XetDestinationError) as caught:
        Snapshot(HubCache(str(tmp_path / "cache")), MODEL).prepare([FILE])
    assert str(caught.value) == (
        f"{storage}/blobs of {MODEL} cannot be written to the cache {tmp_path}/cache: file exists."
    )


# --- blobs


def test_a_blob_that_is_missing_or_damaged_is_not_complete_and_not_shared(snapshot, blob):
    snapshot.blob_path(blob).write_bytes(BINARY[::-1])
    assert snapshot.find(blob) is None
    assert not snapshot.is_complete(blob, is_locked=True)
    assert not (snapshot.root / "blobs").exists()
    snapshot.blob_path(blob).unlink()
    assert not snapshot.is_complete(blob, is_locked=True)
    assert not snapshot.path_of("model.bin").is_symlink()


def test_what_a_killed_process_began_is_finished_by_whoever_has_the_lock(snapshot, blob):
    assert not snapshot.is_complete(blob)
    assert not snapshot.path_of("model.bin").is_symlink()
    assert not snapshot.blob_path(blob).is_symlink()
    assert snapshot.is_complete(blob, is_locked=True)
    assert snapshot.blob_path(blob).is_symlink()
    assert (snapshot.root / STORED).read_bytes() == BINARY
    assert snapshot.path_of("model.bin").read_bytes() == BINARY
    assert snapshot.is_complete(blob), "by now, no lock is needed"


def test_a_blob_that_a_snapshot_uses_is_not_moved(snapshot, blob):
    snapshot.place(blob)
    assert snapshot.is_complete(blob)
    assert not snapshot.blob_path(blob).is_symlink()


@pytest.mark.parametrize("changes", [{"xet_hash": None}, {"size": 0}])
def test_only_what_is_in_cas_is_shared(snapshot, changes):
    [blob] = layout.blobs_of([{**FILE, **changes}])
    snapshot.blob_path(blob).write_bytes(BINARY)
    snapshot.share(blob)
    assert not snapshot.blob_path(blob).is_symlink()
    assert not snapshot.find_shared(blob)


def test_what_another_repository_has_is_linked_after_it_was_verified(snapshot, blob, tmp_path):
    assert not snapshot.find_shared(blob)
    snapshot.share(blob)
    other = Snapshot(HubCache(str(tmp_path / "cache")), Repo("acme/other", revision="b" * 40))
    other.prepare([FILE])
    assert other.find_shared(blob)
    assert other.find(blob) == other.blob_path(blob)
    other.blob_path(blob).unlink()
    (snapshot.root / STORED).write_bytes(BINARY[::-1])
    assert not other.find_shared(blob)
    assert not other.blob_path(blob).is_symlink()


def test_a_blob_that_leads_out_of_the_store_counts_as_missing(snapshot, blob, tmp_path):
    (tmp_path / "elsewhere").write_bytes(BINARY)
    snapshot.blob_path(blob).unlink()
    snapshot.blob_path(blob).symlink_to(tmp_path / "elsewhere")
    assert snapshot.find(blob) is None


def test_a_download_is_beside_the_blobs_under_a_name_of_its_attempt(tmp_path):
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL, Attempt("ab" * 6, 3))
    [blob] = layout.blobs_of([FILE])
    target = made.target(blob)
    assert (target.file, target.path) == (blob.file, made.blob_path(blob))
    assert target.part.parent == target.path.parent
    assert f"-{'ab' * 6}-3-" in target.part.name


def test_a_retry_removes_what_its_killed_attempt_left(tmp_path):
    first, second = (Snapshot(HubCache(str(tmp_path / "cache")), MODEL, Attempt("ab" * 6, number)) for number in (1, 2))
    second.prepare([FILE])
    blobs = layout.blobs_of([FILE, {**FILE, "path": "b", "sha256": "12" * 32}])
    left = [first.target(blob).part for blob in blobs]
    left.append(temporary_names.new(left[0].with_name("ref"), first.attempt))
    kept = [temporary_names.new(left[0].with_name("other"), first.attempt), second.target(blobs[0]).part]
    for path in (*left, *kept):
        path.touch()
    second.remove_abandoned(blobs)
    assert sorted(left[0].parent.iterdir()) == sorted(kept)


def test_links_that_a_killed_process_left_are_removed(snapshot, blob):
    link = snapshot.blob_path(blob).with_name(f".{blob.name}.abcdefgh.shared")
    link.symlink_to("missing")
    snapshot.remove_abandoned_links(blob)
    assert not link.is_symlink()
    assert snapshot.blob_path(blob).exists()


# --- names


def test_a_snapshot_links_to_the_blob_whatever_is_in_its_place(snapshot, blob):
    [same] = layout.blobs_of([{**FILE, "path": path} for path in ("a", "d/e/b", "link", "file")])
    snapshot.path_of("link").symlink_to("/elsewhere")
    snapshot.path_of("file").write_bytes(b"other")
    snapshot.place(same)
    found = {path: str(snapshot.path_of(path).readlink()) for path in same.paths}
    blobs = f"../../blobs/{blob.name}"
    assert found == {"a": blobs, "d/e/b": f"../../{blobs}", "link": blobs, "file": blobs}
    before = {path: snapshot.path_of(path).lstat().st_ino for path in same.paths}
    snapshot.place(same)
    assert {path: snapshot.path_of(path).lstat().st_ino for path in same.paths} == before
    assert [path.name for path in snapshot.blob_path(blob).parent.iterdir()] == [blob.name]


@pytest.fixture
def without_links(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    made = Snapshot(HubCache(str(tmp_path / "cache")), MODEL)
    made.prepare([FILE])
    return made


def test_without_links_a_snapshot_has_the_files_themselves(without_links):
    made = without_links
    [blob] = layout.blobs_of([{**FILE, "path": path} for path in ("a", "d/b", "link", "c")])
    made.path_of("link").symlink_to("/elsewhere")
    made.blob_path(blob).write_bytes(BINARY)
    made.share(blob)
    made.place(blob)
    assert [made.path_of(path).read_bytes() for path in blob.paths] == [BINARY] * 4
    assert not any(made.path_of(path).is_symlink() for path in blob.paths)
    assert not list(made.blob_path(blob).parent.iterdir())
    assert not (made.root / "blobs").exists()


def test_without_links_another_file_of_the_snapshot_is_copied(without_links, monkeypatch):
    made = without_links
    [blob] = layout.blobs_of([{**FILE, "path": path} for path in ("a", "b", "c")])
    made.path_of("b").write_bytes(BINARY)
    made.path_of("c").write_bytes(BINARY[::-1])
    before = made.path_of("b").stat().st_ino
    made.blob_path(blob).write_bytes(BINARY)
    assert made.find(blob) == made.blob_path(blob)
    with monkeypatch.context() as failing:
        fail_at(failing, Path, "is_symlink", blob.name)
        assert made.find(blob) == made.path_of("b")
    made.blob_path(blob).unlink()
    assert made.is_complete(blob)
    assert [made.path_of(path).read_bytes() for path in blob.paths] == [BINARY] * 3
    assert made.path_of("b").stat().st_ino == before


def test_a_ref_names_the_commit(snapshot, tmp_path):
    for revision in ("main", "refs/pr/1"):
        snapshot.set_ref(revision)
        assert (snapshot.storage / "refs" / revision).read_text() == "a" * 40
    ref = snapshot.storage / "refs/main"
    before = ref.stat().st_ino
    snapshot.set_ref("main")
    assert ref.stat().st_ino == before
    ref.write_text("b" * 40)
    snapshot.set_ref("main")
    assert ref.read_text() == "a" * 40


def test_temporary_files_have_names_by_which_a_retry_finds_them(snapshot, blob, monkeypatch):
    made, real = [], temporary_names.new
    monkeypatch.setattr(temporary_names, "new", lambda path, attempt: made.append(path) or real(path, attempt))
    snapshot.path_of("model.bin").touch()
    snapshot.place(blob)
    snapshot.set_ref("main")
    assert made == [snapshot.blob_path(blob), snapshot.storage / "blobs" / "ref"]


def test_a_ref_that_is_a_link_is_replaced(snapshot, tmp_path):
    (tmp_path / "elsewhere").write_text("a" * 40)
    snapshot.set_ref("other")
    ref = snapshot.storage / "refs/main"
    ref.symlink_to(tmp_path / "elsewhere")
    snapshot.set_ref("main")
    assert not ref.is_symlink()
    assert ref.read_text() == "a" * 40
    assert not list((snapshot.storage / "blobs").iterdir())


@pytest.mark.parametrize(
    ("changes", "is_it"),
    [
        ({}, True),
        ({"size": 5}, False),
        ({"sha256": "12" * 32}, False),
        ({"sha256": None}, False),
        ({"sha256": None, "blob_id": git_blob_id(BINARY)}, True),
    ],
)
def test_content_has_the_size_and_the_digest_of_the_record(tmp_path, changes, is_it):
    (tmp_path / "a").write_bytes(BINARY)
    assert layout.has_content(tmp_path / "a", {**FILE, **changes}) is is_it
    assert not layout.has_content(tmp_path, FILE)


# --- a disk that fails ------------------------------------------------------------------------------------------------


def refused(snapshot, work, *args):
    """Return what an error says cannot be written to the cache."""
    with pytest.raises(XetDestinationError) as caught:
        work(*args)
    what, _, why = str(caught.value).partition(f" of {MODEL} cannot be written to the cache {snapshot.root}: ")
    assert why == "input/output error."
    return what


def test_an_error_names_what_cannot_be_written(snapshot, blob, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name, work, what in (
        ("share", lambda: snapshot.share(blob), blob.name),
        ("tag", lambda: snapshot.prepare([FILE]), str(snapshot.root)),
    ):
        with monkeypatch.context() as failing:
            failing.setattr(client_cache, name, fail)
            assert refused(snapshot, work) == what
    with monkeypatch.context() as failing:
        fail_at(failing, Path, "symlink_to", "model.bin")
        assert refused(snapshot, snapshot.place, blob) == "model.bin"
    snapshot.share(blob)
    with monkeypatch.context() as failing:
        fail_at(failing, Path, "is_file", "ab" * 32)
        assert refused(snapshot, snapshot.find_shared, blob) == blob.name
    with monkeypatch.context() as failing:
        fail_at(failing, os, "scandir", "/blobs")
        assert refused(snapshot, snapshot.remove_abandoned, [blob]) == str(snapshot.storage / "blobs")
    with monkeypatch.context() as failing:
        fail_at(failing, Path, "glob", "/blobs")
        assert refused(snapshot, snapshot.remove_abandoned_links, blob) == blob.name
    with monkeypatch.context() as failing:
        fail_at(failing, Path, "chmod", ".json")
        assert refused(snapshot, snapshot.write_tree, []) == "the listing of the commit"
    with monkeypatch.context() as failing:
        fail_at(failing, Path, "write_text", ".xetpart")
        assert refused(snapshot, snapshot.set_ref, "main") == str(snapshot.storage / "refs/main")


def test_the_folder_of_the_listings_is_no_link(snapshot, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (snapshot.storage / "trees").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(XetDestinationError, match=r"/trees is a symbolic link"):
        snapshot.write_tree([])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_that_another_process_removes_is_no_error(snapshot, blob, monkeypatch):
    monkeypatch.setattr(client_cache, "abandoned_links", lambda path: [path.with_name("gone")])
    snapshot.remove_abandoned_links(blob)
