"""What is uploaded of a folder: one rule, however the folder is named and whoever uploads it."""

from __future__ import annotations

import logging
import os
import stat

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetSourceError
from airflow_provider_xethub.hooks.storage import open_storage
from airflow_provider_xethub.xet.files import sources
from airflow_provider_xethub.xet.files.sources import collect
from airflow_provider_xethub.xet.process.temporary_names import new_name
from support.builders import write
from xethub_local.cli.main import main

BLOB = "0123456789abcdef0123456789abcdef01234567"
XET = BLOB[:24] * 2 + BLOB[:16]
TAKEN = ["a.txt", "alias.txt", "sub/b.txt", "vendor/c.txt"]
LEFT_OUT = [
    ".git/config",
    "vendor/.git",
    ".cache/huggingface/download/a.txt.metadata",
    "sub/.cache/huggingface/.gitignore",
    f"sub/{BLOB}.incomplete",
    f"sub/x.{BLOB}.0a1b2c3d.incomplete",
    ".locks/models--acme--m/x.lock",
]


@pytest.fixture
def tree(tmp_path):
    """A folder with everything in it that is left out, and links that stay in it."""
    names = [name for name in TAKEN if name != "alias.txt"]
    folder = write(tmp_path / "in", dict.fromkeys([*names, *LEFT_OUT, f"sub/{new_name('b.txt')}"], b"x"))
    (folder / "alias.txt").symlink_to("a.txt")
    (folder / "latest").symlink_to("sub")
    (folder / "sub/up").symlink_to("..")
    return folder


def by_folder(folder, **options):
    return collect(folder, **options)


def by_glob(folder, **options):
    return collect(f"{folder}/**", **options)


def by_list(folder, **options):
    return collect([folder / "sub/b.txt", folder], **options)


def by_storage(folder, **options):
    return collect(f"file://{folder}/", open_storage=open_storage, **options)


def by_storage_glob(folder, **options):
    return collect(f"file://{folder}/**", open_storage=open_storage, **options)


WAYS = [by_folder, by_glob, by_storage, by_storage_glob]


def found(files) -> list[str]:
    return [file.path_in_repo for file in files]


# --- what is left out


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_name_a_folder_finds_the_same(tree, way, caplog):
    with caplog.at_level(logging.INFO, sources.__name__):
        assert found(way(tree)) == TAKEN
    text = caplog.text
    assert text.count("Left out of the upload") == 1
    assert "links to folders (2): latest, sub/up" in text
    assert f"sub/{BLOB}.incomplete" in text
    assert ("git's own (2): .git, vendor/.git" in text) == (way in (by_folder, by_storage)), "globs skip hidden names"


def test_a_list_of_folders_follows_the_rule_too(tree):
    assert found(by_list(tree)) == ["a.txt", "alias.txt", "b.txt", "sub/b.txt", "vendor/c.txt"]


def test_the_command_line_follows_the_rule(tree, tmp_path, capsys):
    end = ["--folder", str(tmp_path / "hub")]
    assert main(["create-repo", "dataset:acme/d", *end]) == 0
    assert main(["put", str(tree), "dataset:acme/d", *end]) == 0
    assert "links to folders (2): latest, sub/up" in capsys.readouterr().out
    assert main(["ls", "dataset:acme/d", *end]) == 0
    assert [line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()] == [".gitattributes", *TAKEN]


def test_lock_files_and_names_that_only_look_similar_are_uploaded(tmp_path):
    kept = [
        "poetry.lock",
        "report.incomplete",
        ".xetpart.csv",
        "x.git/a",
        ".gitignore",
        ".github/w.yml",
        "huggingface/a",
    ]
    kept += [".cache/other/a", ".locks/a", "a.xetpart"]
    write(tmp_path, dict.fromkeys(kept, b"x"))
    assert found(collect(tmp_path)) == sorted(kept)


def test_a_folder_that_is_named_itself_is_what_somebody_wants(tmp_path):
    write(tmp_path, {".cache/huggingface/hub/a": b"x", ".cache/b": b"x"})
    assert found(collect(tmp_path / ".cache/huggingface")) == ["hub/a"]
    assert found(collect(tmp_path / ".cache")) == ["b"]


def test_where_everything_is_left_out_the_error_says_what(tmp_path):
    write(tmp_path, {"s/.git/config": b"x"})
    for source in (tmp_path / "s", f"{tmp_path}/s/.*/*", f"{tmp_path}/s/.*"):
        with pytest.raises(XetSourceError, match=r"no file.*left out: git's own \(1\): \.git|matches no file"):
            collect(source)


# --- links


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["secret.txt", "folder", "/proc/self/environ"])
def test_a_link_that_leads_out_of_the_source_is_refused_by_name(tmp_path, way, target):
    write(tmp_path, {"in/a.txt": b"x", "secret.txt": b"x", "folder/b.txt": b"x"})
    (tmp_path / "in/innocent.txt").symlink_to(tmp_path / target)
    with pytest.raises(XetInputError, match=r"1 link in the source leads out of it: .*in/innocent.txt -> ") as caught:
        way(tmp_path / "in")
    assert "follow_links=True" in str(caught.value)
    assert not caught.value.retryable
    assert found(way(tmp_path / "in", exclude="innocent.txt")) == ["a.txt"]
    assert found(way(tmp_path / "in", patterns="a*")) == ["a.txt"]


def test_a_link_through_another_one_leads_where_the_last_one_does(tmp_path):
    write(tmp_path, {"in/a.txt": b"x", "secret.txt": b"x"})
    (tmp_path / "in/one").symlink_to("two")
    (tmp_path / "in/two").symlink_to("../secret.txt")
    with pytest.raises(XetInputError, match="2 links in the source lead out of it"):
        collect(tmp_path / "in")


def test_the_neighbour_with_a_longer_name_is_outside(tmp_path):
    write(tmp_path, {"in/a.txt": b"x", "in-old/b.txt": b"x"})
    (tmp_path / "in/link.txt").symlink_to("../in-old/b.txt")
    with pytest.raises(XetInputError, match="leads out of it"):
        collect(tmp_path / "in")


def test_a_link_that_is_named_is_followed(tmp_path):
    write(tmp_path, {"v3/a.txt": b"x", "v3/s/b.txt": b"x"})
    (tmp_path / "latest").symlink_to("v3")
    (tmp_path / "link.txt").symlink_to("v3/a.txt")
    assert found(collect(tmp_path / "latest")) == found(collect(f"{tmp_path}/latest/**")) == ["a.txt", "s/b.txt"]
    assert found(collect(tmp_path / "link.txt")) == ["link.txt"]


def test_follow_links_follows_all_but_those_that_lead_back(tmp_path, tree, caplog):
    write(tmp_path, {"other/d.txt": b"x"})
    (tree / "sub/out").symlink_to(tmp_path / "other")
    (tmp_path / "other/home").symlink_to(tree)
    with caplog.at_level(logging.INFO, sources.__name__):
        files = found(collect(tree, follow_links=True))
    below = ["b.txt", "out/d.txt"]
    assert files == sorted([*(name for name in TAKEN), "sub/out/d.txt", *(f"latest/{name}" for name in below)])
    assert "links back to a folder that they are in (4): " in caplog.text
    assert found(collect(f"{tree}/**/*.txt", follow_links=True)) == files


def test_two_folders_that_link_to_each_other_end(tmp_path):
    write(tmp_path, {"a/1": b"x", "b/2": b"x"})
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    assert found(collect(tmp_path, follow_links=True)) == ["a/1", "a/b/2", "b/2", "b/a/1"]


def test_a_link_to_itself_is_named(tmp_path):
    write(tmp_path, {"a": b"x"})
    (tmp_path / "self").symlink_to("self")
    for options in ({}, {"follow_links": True}):
        with pytest.raises(XetSourceError, match="self: too many levels of symbolic links"):
            collect(tmp_path, **options)


@pytest.mark.parametrize("way", WAYS)
def test_the_files_of_a_snapshot_in_the_cache_link_to_its_blobs(tmp_path, way):
    cache = write(tmp_path / "models--acme--m", {f"blobs/{BLOB}": b"content", "other/x": b"x"})
    write(
        tmp_path / "blobs", {f"{XET[:2]}/{XET}": b"shared", "aa/" + XET: b"x", f"{XET[:2]}/{XET}.refs": b"x", "z": b"x"}
    )
    snapshot = cache / "snapshots" / BLOB
    (snapshot / "sub").mkdir(parents=True)
    (snapshot / "config.json").symlink_to(f"../../blobs/{BLOB}")
    (snapshot / "sub/model.bin").symlink_to(f"../../../blobs/{BLOB}")
    (cache / "blobs" / XET).symlink_to(f"../../blobs/{XET[:2]}/{XET}")
    (snapshot / "shared.bin").symlink_to(f"../../blobs/{XET}")
    files = [(file.path_in_repo, file.size) for file in way(snapshot)]
    assert files == [("config.json", 7), ("shared.bin", 6), ("sub/model.bin", 7)]
    assert found(way(snapshot / "sub")) == ["model.bin"]
    for name in (f"aa/{XET}", f"{XET[:2]}/{XET}.refs", "z"):
        (snapshot / f"wrong-{name.partition('/')[0]}").symlink_to(f"../../../blobs/{name}")
    (snapshot / "more").symlink_to("../../other/x")
    (snapshot / "all").symlink_to("../../blobs")
    with pytest.raises(XetInputError, match=r"5 links in the source lead out of it: .*all.*more.*wrong-"):
        way(snapshot)


@pytest.mark.parametrize("name", ["acme--m", "xmodels--acme--m", "models--"])
def test_what_only_looks_like_a_snapshot_is_none(tmp_path, name):
    folder = write(tmp_path / name, {"blobs/secret": b"x", "snapshots/1/a": b"x"})
    (folder / "snapshots/1/link").symlink_to("../../blobs/secret")
    with pytest.raises(XetInputError, match="leads out of it"):
        collect(folder / "snapshots/1")


def test_object_storage_refuses_links_to_folders_where_it_cannot_follow_them(tmp_path):
    write(tmp_path, {"in/a.txt": b"x", "out/b.txt": b"x"})
    (tmp_path / "in/link").symlink_to("../out")
    (tmp_path / "in/b.txt").symlink_to("../out/b.txt")
    with pytest.raises(XetInputError, match=r"in/link \(a link to a folder"):
        by_storage(tmp_path / "in", follow_links=True)
    assert found(by_storage(tmp_path / "in", follow_links=True, exclude="link")) == ["a.txt", "b.txt"]


# --- what is chosen


@pytest.mark.parametrize("way", [by_folder, by_storage])
@pytest.mark.parametrize(
    ("patterns", "exclude", "paths"),
    [
        ("photos/", None, ["photos/a.bin", "photos/x/b.bin"]),
        (None, "photos/", ["c.bin"]),
        (None, "photos/x/", ["c.bin", "photos/a.bin"]),
        (None, ["*.bin"], []),
        ("*.bin", ["photos/x/*", "c.*"], ["photos/a.bin"]),
        (["c.bin", "photos/x/"], "*/b.*", ["c.bin"]),
        ("ph*s/x", None, []),
    ],
)
def test_patterns_and_exclude_choose_by_the_same_rule(tmp_path, way, patterns, exclude, paths):
    write(tmp_path, {"photos/a.bin": b"x", "photos/x/b.bin": b"x", "c.bin": b"x"})
    if paths:
        assert found(way(tmp_path, patterns=patterns, exclude=exclude)) == paths
    else:
        with pytest.raises(XetSourceError, match=r"no file found.*'(ph\*s/x|\*\.bin)'"):
            way(tmp_path, patterns=patterns, exclude=exclude)


def test_a_pattern_that_matches_nothing_is_named(tmp_path, caplog):
    write(tmp_path, {"photos/a.bin": b"x"})
    assert found(collect(tmp_path, patterns=["photo/", "*.bin"])) == ["photos/a.bin"]
    assert "No file of the source matches 'photo/'." in caplog.text
    with pytest.raises(XetSourceError, match="no file found that matches 'photo/'"):
        collect(tmp_path, patterns="photo/")


@pytest.mark.parametrize("name", ["patterns", "exclude"])
@pytest.mark.parametrize("empty", [[], "", [""], ["*.csv", ""]])
def test_an_empty_choice_is_refused(tmp_path, name, empty):
    write(tmp_path, {"a.csv": b"x"})
    with pytest.raises(XetInputError, match=f"^{name} is empty"):
        collect(tmp_path, **{name: empty})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_is_not_meant_need_not_be_readable(tmp_path):
    write(tmp_path, {"a/a.csv": b"x", "shut/b.csv": b"x"})
    (tmp_path / "shut").chmod(0)
    try:
        assert found(collect(tmp_path, exclude="shut/")) == found(collect(tmp_path, patterns="a/")) == ["a/a.csv"]
        with pytest.raises(XetSourceError, match="shut: permission denied"):
            collect(tmp_path)
    finally:
        (tmp_path / "shut").chmod(stat.S_IRWXU)


# --- what no repository can have


def test_a_file_that_would_also_be_a_folder_is_refused(tmp_path):
    write(tmp_path, {"1/a": b"x", "2/a/b": b"x", "3/a-b": b"x"})
    with pytest.raises(XetInputError, match=r"^a would be both a file and the folder of a/b"):
        collect([tmp_path / "1", tmp_path / "2"])
    assert found(collect([tmp_path / "1", tmp_path / "3"])) == ["a", "a-b"]


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("path_in_repo", [None, "fine.txt"])
def test_a_name_that_is_not_utf_8_is_refused_for_good(tmp_path, as_list, path_in_repo):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9")
    with open(name, "wb") as file:  # noqa: PTH123 - as an upload would get it
        file.write(b"x")
    with pytest.raises(XetInputError, match=r"is not valid UTF-8") as caught:
        collect([name] if as_list else name, path_in_repo)
    str(caught.value).encode()
    with pytest.raises(XetInputError, match="is not valid Unicode") as caught:
        collect(tmp_path)
    str(caught.value).encode()


def test_a_link_with_a_name_that_is_not_utf_8_can_be_shown(tmp_path):
    write(tmp_path, {"in/a": b"x", "out": b"x"})
    (tmp_path / "in" / os.fsdecode(b"latin-\xe9")).symlink_to("../out")
    with pytest.raises(XetInputError, match="leads out of it") as caught:
        collect(tmp_path / "in")
    str(caught.value).encode()


@pytest.mark.parametrize("text", ["['a.csv', 'b.csv']", '["a.csv"]', "[]"])
def test_a_list_that_a_template_made_a_string_of_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(write(tmp_path, {"a.csv": b"x"}))
    for arguments in ({"source": text}, {"source": ".", "patterns": text}, {"source": ".", "exclude": text}):
        with pytest.raises(XetInputError, match="is a list that a template turned into a string"):
            collect(**arguments)
    assert found(collect("[ab].csv")) == ["a.csv"]


@pytest.mark.parametrize("source", [None, b"a", {"a": 1}, 7, iter(["a"])])
def test_what_is_no_path_is_refused(source):
    with pytest.raises(XetInputError, match="source must be"):
        collect(source)


# --- as arguments of operators and commands


@pytest.fixture
def run_command(tmp_path, capsys):
    """Runs ``xethub-local`` in a data folder with a dataset, and returns what it prints."""

    def run(*arguments, status=0):
        assert main([*arguments, "--folder", str(tmp_path / "hub")]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    run("create-repo", "dataset:acme/d")
    return run


def test_the_command_line_refuses_and_chooses_by_the_same_rule(tmp_path, run_command):
    folder = write(tmp_path / "in", {"a.csv": b"x", "drafts/b.csv": b"x"})
    write(tmp_path, {"out/c.csv": b"x"})
    (folder / "link").symlink_to("../out")
    put = ("put", str(folder), "dataset:acme/d")
    message = run_command(*put, status=1)
    assert "1 link in the source leads out of it" in message
    assert "--follow-links" in message
    run_command(*put, "--exclude", "link", "--exclude", "drafts/")
    assert "a.csv" in run_command("ls", "dataset:acme/d")
    assert "drafts" not in run_command("ls", "dataset:acme/d")
    run_command(*put, "--follow-links")
    assert "link/c.csv" in run_command("ls", "dataset:acme/d")
    assert "exclude is empty" in run_command(*put, "--exclude", "", status=2)


@pytest.mark.parametrize(
    ("make", "text"), [(os.mkfifo, "is not a regular file"), (lambda path: path.symlink_to("x"), "no such")]
)
def test_the_command_line_names_what_it_cannot_read(tmp_path, run_command, make, text):
    write(tmp_path / "in", {"a.csv": b"x"})
    make(tmp_path / "in/odd")
    assert f"in/odd: {text}" in run_command("put", str(tmp_path / "in"), "dataset:acme/d", status=1)
