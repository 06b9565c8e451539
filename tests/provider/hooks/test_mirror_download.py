"""Mirrors: a destination becomes equal to a folder of a repository, as far as its files are from mirrors."""

from __future__ import annotations

import json
import shutil

import pytest

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetHubError, XetInputError
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import TEXT, binary, write
from support.repository_trees import set_tree
from xethub_local.control.fault import Fault

RECORD = ".xethub-mirror.json"
FIRST = {"a.bin": binary(), "b.csv": TEXT, "d/c.bin": binary(seed="c"), "d/e/f.csv": b"f\n", "empty": b""}


@pytest.fixture(params=["dataset to folder", "bucket to storage"])
def ends(request):
    """Each kind of repository and each kind of destination."""
    return request.param.split(" to ")


@pytest.fixture
def remote(ends, make_repo, hook, tmp_path):
    """Sets the content of a repository or bucket."""
    repo = make_repo(ends[0])

    def be(files: dict[str, bytes]) -> None:
        folder = tmp_path / "remote"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        hook.mirror(
            write(folder, files),
            CommitRequest(repo, ()),
            max_delete_share=1,
            allow_empty=True,
            exclude=".gitattributes",
        )

    be.repo = repo
    be(FIRST)
    return be


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "destination"


@pytest.fixture
def destination(ends, folder):
    return f"file://{folder}" if ends[1] == "storage" else folder


@pytest.fixture
def mirror(hook, remote, destination):
    def run(where=destination, **options):
        options.setdefault("exclude", ".gitattributes")
        return hook.mirror_download(where, remote.repo, **options)

    return run


def content(folder) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != RECORD}


def test_additions_changes_and_deletions(mirror, remote, folder):
    mirror()
    assert content(folder) == FIRST
    second = {"a.bin": binary(seed="new"), "d/c.bin": FIRST["d/c.bin"], "empty": b"", "g/new.csv": TEXT}
    remote(second)
    plan = mirror(dry_run=True, max_delete_share=1)
    assert content(folder) == FIRST
    result = mirror(max_delete_share=1)
    assert content(folder) == second
    assert not (folder / "d/e").exists(), "a folder that became empty"
    assert result["plan"] == plan
    assert (plan["added"], plan["changed"], plan["removed"]) == (["g/new.csv"], ["a.bin"], ["b.csv", "d/e/f.csv"])
    assert plan["unchanged"] == 2
    assert result["transfer"]["files"] == 2


def test_a_second_run_writes_nothing(hub, mirror, folder):
    mirror()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    hub.log.clear()
    result = mirror()
    assert result["plan"]["unchanged"] == len(FIRST)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not hub.log.requests("GET .*(cas|resolve).*")


def test_a_dry_run_creates_no_destination(mirror, folder):
    assert mirror(dry_run=True)["added"] == sorted(FIRST)
    assert not folder.exists()


def test_what_no_mirror_put_there_stays(mirror, remote, folder):
    write(folder, {"mine.csv": TEXT, "d/mine.csv": TEXT})
    mirror()
    remote({"a.bin": FIRST["a.bin"]})
    assert mirror(max_delete_share=1)["plan"]["kept"] == []
    assert content(folder) == {"a.bin": FIRST["a.bin"], "mine.csv": TEXT, "d/mine.csv": TEXT}


def test_a_file_that_was_edited_since_stays_and_is_named(mirror, remote, folder, caplog):
    mirror()
    write(folder, {"b.csv": b"x,y\n1,2\n", "d/c.bin": b"shorter"})
    remote({"a.bin": FIRST["a.bin"], "empty": b""})
    plan = mirror(max_delete_share=1)["plan"]
    assert (plan["removed"], plan["kept"]) == (["d/e/f.csv"], ["b.csv", "d/c.bin"])
    assert "changed since a mirror put them there: b.csv, d/c.bin" in caplog.text
    assert set(content(folder)) == {"a.bin", "b.csv", "d/c.bin", "empty"}


def test_what_is_not_selected_or_protected_is_not_deleted(mirror, remote, folder):
    mirror()
    remote({"a.bin": FIRST["a.bin"]})
    plan = mirror(patterns=["*.csv", "*.bin"], exclude=["b.csv", ".gitattributes"], protect="d/e/")["plan"]
    assert (plan["removed"], plan["kept"]) == (["d/c.bin"], ["d/e/f.csv"])
    assert set(content(folder)) == {"a.bin", "b.csv", "d/e/f.csv", "empty"}
    # The record still knows what is not selected now.
    assert mirror(max_delete_share=1)["plan"]["removed"] == ["b.csv", "d/e/f.csv", "empty"]


def test_a_folder_of_the_repository_keeps_no_prefix(mirror, remote, folder):
    mirror(path_in_repo="d")
    assert content(folder) == {"c.bin": FIRST["d/c.bin"], "e/f.csv": b"f\n"}
    remote({**FIRST, "d/e/f.csv": b"g\n"})
    assert mirror(path_in_repo="d/")["plan"]["changed"] == ["d/e/f.csv"]
    assert content(folder)["e/f.csv"] == b"g\n"


def test_too_many_deletions_and_an_empty_repository_are_refused(mirror, remote, folder):
    mirror()
    remote({"a.bin": FIRST["a.bin"]})
    with pytest.raises(XetInputError, match=r"would remove 4 of 5 files .*set max_delete_share=0.81"):
        mirror()
    remote({})
    with pytest.raises(XetEmptySourceError, match="set allow_empty=True"):
        mirror(max_delete_share=1)
    assert content(folder) == FIRST
    mirror(max_delete_share=1, allow_empty=True)
    assert content(folder) == {}


def test_nothing_is_deleted_before_everything_else_is_verified(hub, mirror, remote, folder):
    mirror()
    remote({"a.bin": binary(seed="new"), "n.bin": binary(seed="n")})
    hub.faults.add(Fault("GET /cas/.*data.*|GET /cas/.*xorb.*", corrupt=True))
    with pytest.raises(XetHubError):
        mirror(max_delete_share=1)
    assert {path: each for path, each in content(folder).items() if path in ("b.csv", "d/c.bin", "d/e/f.csv")} == {
        path: FIRST[path] for path in ("b.csv", "d/c.bin", "d/e/f.csv")
    }
    hub.faults.clear()
    mirror(max_delete_share=1)
    assert content(folder) == {"a.bin": binary(seed="new"), "n.bin": binary(seed="n")}


def test_files_of_a_failed_mirror_are_known_to_the_next(hub, mirror, remote, folder, monkeypatch):
    from airflow_provider_xethub.xet.files.mirror.places import LocalPlace, StoredPlace

    mirror()
    remote({"a.bin": binary(seed="new"), "n.bin": binary(seed="n")})
    for place in (LocalPlace, StoredPlace):
        monkeypatch.setattr(place, "remove", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mirror(max_delete_share=1)
    monkeypatch.undo()
    assert "n.bin" in content(folder)
    remote({"z.bin": binary(seed="z")})
    mirror(max_delete_share=1)
    assert content(folder) == {"z.bin": binary(seed="z")}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": TEXT, "x": TEXT}, {"a/b/c": TEXT, "x": TEXT}),
        ({"a/b/c": TEXT, "a/d": TEXT, "x": TEXT}, {"a": binary(), "x": TEXT}),
    ],
    ids=["a file becomes a folder", "a folder becomes a file"],
)
def test_files_and_folders_change_places(mirror, remote, folder, before, after):
    remote(before)
    mirror(max_delete_share=1)
    remote(after)
    mirror(max_delete_share=1)
    assert content(folder) == after
    assert mirror()["plan"]["unchanged"] == 2


@pytest.mark.parametrize(("mine", "theirs"), [("a", "a/b"), ("a/mine", "a")], ids=["file", "folder"])
def test_a_file_of_others_is_never_replaced_by_way_of_a_folder(mirror, remote, folder, mine, theirs):
    write(folder, {mine: b"mine"})
    remote({theirs: TEXT, "more": TEXT})
    with pytest.raises(XetInputError, match="the mirror does not remove it"):
        mirror()
    assert content(folder) == {mine: b"mine"}


def test_another_repository_is_refused(mirror, make_repo, hook, destination, folder, tmp_path):
    mirror()
    other = make_repo("dataset")
    hook.publish(write(tmp_path / "other", {"x": TEXT}), CommitRequest(other, ()))
    with pytest.raises(XetInputError, match="is the mirror of all files of hf://"):
        hook.mirror_download(destination, other)
    with pytest.raises(XetInputError, match=r"is the mirror of all files of hf://.* not of d of"):
        mirror(path_in_repo="d")
    assert content(folder) == FIRST


def test_a_damaged_record_is_refused_until_it_is_removed(mirror, folder):
    mirror()
    (folder / RECORD).write_text('{"xethub_mirror": 1}')
    with pytest.raises(XetInputError, match="Remove it to start again"):
        mirror()
    assert content(folder) == FIRST
    (folder / RECORD).unlink()
    assert mirror()["plan"]["unchanged"] == len(FIRST)


def test_a_changed_record_deletes_nothing_else(mirror, folder, tmp_path):
    mirror()
    outside = write(tmp_path / "outside", {"file": b""}) / "file"
    write(folder, {"mine": b"mine"})
    (folder / "link").symlink_to(outside.parent)
    (folder / "file").symlink_to(outside)
    record = json.loads((folder / RECORD).read_text())
    empty = [[0, "size", "0"]]
    record["files"] |= {"link/file": empty, "file": empty, "mine": [[4, "sha256", "0" * 64]]}
    (folder / RECORD).write_text(json.dumps(record))
    plan = mirror(max_delete_share=1)["plan"]
    assert plan["removed"] == []
    assert {"file", "mine"} <= set(plan["kept"])
    assert outside.exists()
    assert (folder / "file").is_symlink()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(mirror, folder, tmp_path):
    outside = write(tmp_path / "outside", {"b.csv": b"mine"}) / "b.csv"
    folder.mkdir()
    (folder / "b.csv").symlink_to(outside)
    mirror()
    assert outside.read_bytes() == b"mine"
    assert content(folder) == FIRST


def test_the_record_is_not_uploaded(mirror, folder, hook, make_repo):
    mirror()
    assert hook.mirror(folder, CommitRequest(make_repo(), ()))["plan"]["added"] == sorted(FIRST)


def test_a_link_in_the_place_of_a_folder_is_refused_before_anything_is_deleted(hub, repo, hook, folder, tmp_path):
    first = {"a": TEXT, "x": TEXT}
    set_tree(hub, repo, first)
    hook.mirror_download(folder, repo, exclude=".gitattributes")
    (tmp_path / "outside").mkdir()
    (folder / "d").symlink_to(tmp_path / "outside")
    set_tree(hub, repo, {"a/b": TEXT, "d/new": TEXT, "x": TEXT})
    with pytest.raises(XetInputError, match=r"d/new cannot be written to .*: d is a file there"):
        hook.mirror_download(folder, repo, exclude=".gitattributes", max_delete_share=1)
    assert content(folder) == first
    assert list((tmp_path / "outside").iterdir()) == []
