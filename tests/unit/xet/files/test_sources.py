from __future__ import annotations

import os
import threading

import pytest

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError, XetSourceError
from airflow_provider_xethub.xet.files.digest_memory import FileState
from airflow_provider_xethub.xet.files.object_sources import SAMPLE_BYTES
from airflow_provider_xethub.xet.files.sources import check_unchanged, collect, collect_folder, read_unchanged
from support.failing_disk import fail_at


def write(folder, *paths, content="x"):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def targets(*args, **kwargs) -> list[str]:
    return [file.path_in_repo for file in collect(*args, **kwargs)]


# --- what is found, and where it goes


def test_a_file_is_described_as_it_lies_there(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 4)
    (file,) = collect(tmp_path / "data.bin")
    assert (file.path, file.path_in_repo, file.size) == (tmp_path / "data.bin", "data.bin", 1024)
    assert file.state == FileState.at(tmp_path / "data.bin")
    assert file.sample == (bytes(range(256)) * 4)[:SAMPLE_BYTES]


@pytest.mark.parametrize(
    ("path_in_repo", "target"),
    [(None, "a.txt"), ("", "a.txt"), ("b.csv", "b.csv"), ("d/b.csv", "d/b.csv"), ("d/", "d/a.txt"), ("d//", "d/a.txt")],
)
def test_a_single_file_goes_to_its_path_or_with_a_slash_into_a_folder(tmp_path, path_in_repo, target):
    write(tmp_path, "a.txt")
    assert targets(str(tmp_path / "a.txt"), path_in_repo) == [target]
    assert targets([tmp_path / "a.txt"], path_in_repo) == [target]


@pytest.mark.parametrize("path_in_repo", ["to", "to/"])
def test_everything_else_goes_into_a_folder(tmp_path, path_in_repo):
    write(tmp_path, "s/a.txt", "s/sub/b.txt")
    assert targets(tmp_path / "s", path_in_repo) == ["to/a.txt", "to/sub/b.txt"]
    assert targets([tmp_path / "s/a.txt", tmp_path / "s/sub/b.txt"], path_in_repo) == ["to/a.txt", "to/b.txt"]
    assert targets(f"{tmp_path}/s/*.txt", path_in_repo) == ["to/a.txt"]


def test_a_file_in_the_home_folder_is_a_single_file_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(write(tmp_path, "a.txt")))
    assert targets("~/a.txt", "b.csv") == ["b.csv"]
    assert targets("~/*.txt") == ["a.txt"]


def test_a_folder_keeps_its_structure_without_git(tmp_path):
    write(tmp_path, "z.txt", "a/b/c/d.txt", ".hidden", ".git/config", "a/.git/config", ".gitignore")
    assert targets(tmp_path) == [".gitignore", ".hidden", "a/b/c/d.txt", "z.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt"]),
        ("?.txt", ["a.txt"]),
        ("[ab].txt", ["a.txt"]),
        ("*/*.txt", ["s/b.txt"]),
        ("s/*", ["b.txt", "c.bin"]),
        ("s/**/*.txt", ["b.txt", "t/u/d.txt"]),
        ("**/*.txt", ["a.txt", "s/b.txt", "s/t/u/d.txt"]),
        ("**", ["a.txt", "s/b.txt", "s/c.bin", "s/t/u/d.txt"]),
    ],
)
def test_a_glob_finds_files_below_its_part_before_the_first_wildcard(tmp_path, monkeypatch, pattern, found):
    write(tmp_path, "a.txt", "s/b.txt", "s/c.bin", "s/t/u/d.txt", "s/.git/e.txt")
    assert targets(f"{tmp_path}/{pattern}") == found
    monkeypatch.chdir(tmp_path)
    assert targets(pattern) == found
    assert targets(f"./{pattern}") == found


def test_a_glob_that_names_hidden_folders_still_leaves_git_out(tmp_path):
    write(tmp_path, ".git/config", ".github/workflow.yml", "a/.git/config")
    assert targets(f"{tmp_path}/.*/*") == [".github/workflow.yml"]
    with pytest.raises(XetSourceError, match="matches no file"):
        collect(f"{tmp_path}/*/.git/*")


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    write(tmp_path, "a[1].txt", "a1.txt")
    assert targets(tmp_path / "a[1].txt") == ["a[1].txt"]


def test_a_list_may_mix_all_of_it(tmp_path):
    write(tmp_path, "a.txt", "folder/b.txt", "globbed/c.txt")
    assert targets([tmp_path / "a.txt", str(tmp_path / "folder"), f"{tmp_path}/globbed/*"]) == [
        "a.txt",
        "b.txt",
        "c.txt",
    ]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("*.txt", ["a.txt", "s/b.txt"]),
        (["*.bin", "a.*"], ["a.txt", "s/c.bin"]),
        ("s/*", ["s/b.txt", "s/c.bin"]),
        (None, ["a.txt", "s/b.txt", "s/c.bin"]),
    ],
)
def test_patterns_choose_among_the_paths_below_the_source(tmp_path, patterns, found):
    write(tmp_path, "a.txt", "s/b.txt", "s/c.bin")
    assert targets(tmp_path, None, patterns) == found
    assert targets(tmp_path, "to", patterns) == [f"to/{path}" for path in found]


@pytest.mark.parametrize(
    "name",
    ["with space.txt", "ünïcödé.txt", "日本語.csv", "emoji 🎉.bin", ".leading", "x" * 200, "a'b\"c", "#?%&", "-dash"],
)
def test_unusual_names_are_fine(tmp_path, name):
    write(tmp_path, f"s/{name}")
    assert targets(tmp_path / "s") == [name]
    assert targets(tmp_path / "s" / name) == [name]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("back\\slash", "contains a backslash"),
        ("new\nline", "contains a control character"),
        (os.fsdecode(b"latin-\xe9"), "is not valid Unicode"),
    ],
)
def test_names_that_a_repository_cannot_have_are_refused(tmp_path, name, why):
    write(tmp_path, "good.txt")
    (tmp_path / name).touch()
    with pytest.raises(XetInputError, match=f"in a repository is not valid: it {why}"):
        collect(tmp_path)


@pytest.mark.parametrize("path_in_repo", ["/", "/abs", "../up", "a/../b", "./a", "a\\b"])
def test_a_path_in_the_repository_that_leaves_it_is_refused(tmp_path, path_in_repo):
    with pytest.raises(XetInputError, match="in a repository is not valid"):
        collect(write(tmp_path, "a.txt") / "a.txt", path_in_repo)


def test_two_files_for_one_path_are_refused_and_one_given_twice_is_not(tmp_path):
    write(tmp_path, "one/a.txt", "two/a.txt")
    with pytest.raises(XetInputError, match=r"one/a.txt and .*two/a.txt would both become a.txt in the repository"):
        collect([tmp_path / "one", tmp_path / "two"])
    assert targets([tmp_path / "one", tmp_path / "one" / "a.txt"]) == ["a.txt"]


# --- what is not there


def test_all_that_is_wrong_is_named_in_one_error(tmp_path):
    write(tmp_path, "here.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    given = ["gone.txt", "gone.d/", "*.csv", "here.txt", "pipe", "dangling"]
    with pytest.raises(XetSourceError, match=r"^5 sources cannot be read") as caught:
        collect([f"{tmp_path}/{each}" for each in given])
    message = str(caught.value)
    for text in ("gone.txt: does not exist", "gone.d/: does not exist", "*.csv: matches no file"):
        assert f"{tmp_path}/{text}" in message
    assert f"{tmp_path}/pipe: is not a regular file" in message
    assert f"{tmp_path}/dangling: no such file or directory" in message
    assert "here.txt" not in message


def test_of_very_many_missing_sources_twenty_are_named(tmp_path):
    with pytest.raises(XetSourceError, match=r"25 sources.* and 5 more$") as caught:
        collect([tmp_path / f"gone-{number:02}" for number in range(25)])
    assert str(caught.value).count("does not exist") == 20


def test_a_device_is_refused_without_being_read():
    with pytest.raises(XetSourceError, match="/dev/zero: is not a regular file"):
        collect("/dev/zero")


def test_nothing_found_is_an_error(tmp_path):
    with pytest.raises(XetEmptySourceError, match=f"{tmp_path}: no file found"):
        collect(tmp_path)
    with pytest.raises(XetEmptySourceError, match=r"\*\.csv: matches no file"):
        collect(f"{tmp_path}/*.csv")
    with pytest.raises(XetEmptySourceError, match="no file found"):
        collect(write(tmp_path, "a.txt"), None, "*.csv")


@pytest.mark.parametrize("source", ["", [], (), [""], ["a.txt", ""]])
def test_an_empty_source_is_not_the_working_folder(tmp_path, monkeypatch, source):
    monkeypatch.chdir(write(tmp_path, "a.txt"))
    with pytest.raises(XetInputError, match=r"source is (an )?empty"):
        collect(source)


def test_a_source_that_cannot_be_a_path_is_refused():
    with pytest.raises(XetSourceError, match="does not exist"):
        collect("~no-such-user/a.txt")
    with pytest.raises(XetInputError, match="source contains a NUL character"):
        collect("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path):
    write(tmp_path, "a.txt", "shut/b.txt")
    (tmp_path / "a.txt").chmod(0)
    (tmp_path / "shut").chmod(0)
    with pytest.raises(XetSourceError) as caught:
        collect(tmp_path)
    (tmp_path / "shut").chmod(0o700)
    assert "a.txt: permission denied" in str(caught.value)
    assert "shut: permission denied" in str(caught.value)


# --- what changes meanwhile


def grow(path):
    path.write_text("more than before")


def rewrite(path):
    path.write_text("y")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [grow, rewrite, lambda path: path.write_text(""), lambda path: path.unlink()])
def test_a_file_that_changed_is_named(tmp_path, change):
    files = list(collect(write(tmp_path, "a.txt", "b.txt")))
    check_unchanged(files, [1, 1])
    change(tmp_path / "b.txt")
    with pytest.raises(XetSourceError, match=r"b.txt changed while being uploaded. Nothing was published") as caught:
        check_unchanged(files, [1, 1])
    assert "a.txt" not in str(caught.value)
    with pytest.raises(XetSourceError, match=r"changed while being uploaded|can no longer be read: no such file"):
        read_unchanged([files[1]], threading.Event())


@pytest.mark.parametrize("sent", [0, 2])
def test_a_file_of_which_more_or_less_was_sent_changed(tmp_path, sent):
    with pytest.raises(XetSourceError, match="changed while being uploaded"):
        check_unchanged(collect(write(tmp_path, "a.txt")), [sent])


def test_an_unchanged_file_is_read(tmp_path):
    (file,) = collect(write(tmp_path, "a.txt", content="text"))
    assert read_unchanged([file], threading.Event()) == [b"text"]


# --- a disk that fails


@pytest.mark.parametrize("find", [collect, collect_folder])
def test_a_source_that_cannot_be_read_now_is_neither_missing_nor_empty(tmp_path, monkeypatch, find):
    source = write(tmp_path / "in", "a.txt")
    fail_at(monkeypatch, os, "stat", "/in")
    with pytest.raises(XetSourceError, match=r"/in.*: ?input/output error") as caught:
        find(source, None, None, None)
    assert caught.value.retryable
    assert not isinstance(caught.value, XetEmptySourceError)
