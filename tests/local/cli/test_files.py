"""``xethub-local put``, ``get`` and ``ls``: on the data folder itself."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xethub_local.cli import get as cli_get
from xethub_local.cli.main import main
from xethub_local.server import LocalHub

BINARY = bytes(range(256)) * 2000


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A data folder with an empty dataset and an empty bucket."""
    data = tmp_path / "hub"
    for repo in ("dataset:acme/corpus", "bucket:acme/raw"):
        assert main(["create-repo", repo, "--folder", str(data)]) == 0
    capsys.readouterr()
    return data


@pytest.fixture
def run(folder: Path, run_on, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run a command in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return run_on(folder)


CONTROLS, SHOWN = "c1\x9b31m bidi\u202e.txt", r"c1\x9b31m bidi\u202e.txt"


def test_control_characters_in_names_are_shown_and_not_obeyed(run, tmp_path: Path) -> None:
    where = tmp_path / "names"
    where.mkdir()
    for name in (CONTROLS, "größe 🧑‍🚀.txt"):
        (where / name).write_text("content")
    run("put", str(where), "dataset:acme/corpus")
    listed = run("ls", "dataset:acme/corpus")
    assert {line.split("\t")[-1] for line in listed.splitlines()} == {".gitattributes", "größe 🧑‍🚀.txt", SHOWN}
    assert run("get", f"dataset:acme/corpus:{CONTROLS}", "-") == "content"  # data is data
    assert SHOWN in run("get", f"dataset:acme/corpus:{CONTROLS}x", "-", status=1)
    (where / "red\x1b[31m\x07.txt").touch()
    refused = run("put", str(where), "dataset:acme/corpus", status=1)
    assert r"red\x1b[31m\x07.txt: " in refused
    assert "\x1b" not in refused


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a text, a binary file and an empty file."""
    folder = tmp_path / "source"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "notes.txt").write_text("a note\n")
    (folder / "deep/data.bin").write_bytes(BINARY)
    (folder / "deep/er/empty.txt").write_bytes(b"")
    return folder


def listed(run, place: str) -> dict[str, list[str]]:
    lines = [line.split("\t") for line in run("ls", place).splitlines()]
    return {path: rest for *rest, path in lines if path != ".gitattributes"}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_in_and_comes_out_as_it_was(run, source: Path) -> None:
    printed = run("put", "--message", "First", str(source), "dataset:acme/corpus")
    assert printed.startswith("Committed 3 files (512 kB). Commit ")
    found = listed(run, "dataset:acme/corpus")
    assert found["notes.txt"] == ["7", "inline", "-"]
    assert found["deep/data.bin"][:2] == [str(len(BINARY)), "xet"]
    assert len(found["deep/data.bin"][2]) == 64
    assert found["deep/er/empty.txt"] == ["0", "inline", "-"]
    assert run("get", "dataset:acme/corpus", "copy").startswith("Copied 4 files")
    copy = tree(Path("copy"))
    copy.pop(".gitattributes")
    assert copy == tree(source)
    assert list(Path("copy").rglob("*.part")) == []


def test_what_is_there_already_is_not_committed_again(run, source: Path, folder: Path) -> None:
    run("put", str(source), "dataset:acme/corpus")
    before = commits(folder)
    assert run("put", str(source), "dataset:acme/corpus").startswith("Nothing to commit:")
    assert commits(folder) == before
    (source / "notes.txt").write_text("changed\n")
    assert "Committed 1 file (8 B); 2 unchanged." in run("put", str(source), "dataset:acme/corpus")
    assert len(commits(folder)) == len(before) + 1


def commits(folder: Path) -> list[str]:
    with LocalHub(folder) as hub:
        return [commit.title for commit in hub.repositories.commits("datasets/acme/corpus", "main")]


def test_the_message_is_the_title_of_one_commit(run, source: Path, folder: Path) -> None:
    run("put", "--message", "Second edition", str(source), "dataset:acme/corpus")
    assert commits(folder) == ["Second edition", "initial commit"]
    run("put", str(source / "notes.txt"), "dataset:acme/corpus:again.txt")
    assert commits(folder)[0] == "Upload again.txt with xethub-local"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("dataset:acme/corpus", "notes.txt"),
        ("dataset:acme/corpus:", "notes.txt"),
        ("dataset:acme/corpus:other.txt", "other.txt"),
        ("dataset:acme/corpus:new/", "new/notes.txt"),
        ("dataset:acme/corpus:deep", "deep/notes.txt"),
        ("dataset:acme/corpus@main:a/b.txt", "a/b.txt"),
        ("dataset:acme/corpus:odd:na@me.txt", "odd:na@me.txt"),
        ("bucket:acme/raw:x/y.txt", "x/y.txt"),
        ("bucket:acme/raw:there", "there/notes.txt"),
    ],
)
def test_a_file_goes_where_the_target_says(run, source: Path, target: str, path: str) -> None:
    run("put", str(source / "deep"), "dataset:acme/corpus:deep")
    run("put", str(source / "deep"), "bucket:acme/raw:there")
    run("put", str(source / "notes.txt"), target)
    assert path in listed(run, target.partition("/")[0] + "/" + target.partition("/")[2].partition(":")[0])


def test_several_files_go_into_a_folder(run, source: Path) -> None:
    run("put", str(source / "notes.txt"), str(source / "deep/data.bin"), "dataset:acme/corpus:both")
    assert set(listed(run, "dataset:acme/corpus")) == {"both/notes.txt", "both/data.bin"}
    assert set(listed(run, "dataset:acme/corpus:both/data.bin")) == {"both/data.bin"}


def test_two_sources_of_one_path_are_refused(run, source: Path) -> None:
    message = run("put", str(source / "notes.txt"), str(source / "notes.txt"), "dataset:acme/corpus", status=2)
    assert "would both become notes.txt" in message


def test_an_empty_argument_is_not_everything(run, source: Path, folder: Path, monkeypatch) -> None:
    """As an unset variable of a shell script leaves it."""
    monkeypatch.chdir(source)
    before = commits(folder)
    assert "a source is empty" in run("put", "", "dataset:acme/corpus", status=2)
    assert "--message is empty" in run("put", "--message", "", "notes.txt", "dataset:acme/corpus", status=2)
    assert commits(folder) == before
    run("put", ".", "dataset:acme/corpus")
    assert "the destination is empty" in run("get", "dataset:acme/corpus", "", status=2)
    for place in ("dataset:acme/corpus:", "dataset:acme/corpus:/"):
        assert "omit the ':'" in run("get", place, "copy", status=2)
    assert "is not of the form" in run("ls", "", status=2)
    assert not Path("copy").exists()


def test_a_bucket_takes_files_without_commits(run, source: Path) -> None:
    assert run("put", str(source), "bucket:acme/raw:in") == "Stored 3 files (512 kB).\n"
    assert run("put", str(source), "bucket:acme/raw:in") == "Stored 0 files (0 B); 3 unchanged.\n"
    assert set(listed(run, "bucket:acme/raw:in/deep")) == {"in/deep/data.bin", "in/deep/er/empty.txt"}
    run("get", "bucket:acme/raw:in", "copy")
    assert tree(Path("copy")) == tree(source)
    assert "omit --message" in run("put", "--message", "x", str(source), "bucket:acme/raw", status=2)


def test_a_file_of_a_bucket_may_have_the_name_of_a_folder(run, source: Path) -> None:
    run("put", str(source / "notes.txt"), "bucket:acme/raw:logs")
    run("put", str(source / "notes.txt"), "bucket:acme/raw:logs.json")
    run("put", str(source / "deep"), "bucket:acme/raw:logs/")
    inside = {"logs/data.bin", "logs/er/empty.txt"}
    assert set(listed(run, "bucket:acme/raw")) == {"logs", "logs.json", *inside}
    assert set(listed(run, "bucket:acme/raw:logs")) == {"logs"}
    assert set(listed(run, "bucket:acme/raw:logs/")) == inside
    run("get", "bucket:acme/raw:logs", "one.txt")
    assert Path("one.txt").read_text() == "a note\n"
    run("get", "bucket:acme/raw:logs/", "copy")
    assert tree(Path("copy")) == tree(source / "deep")
    assert "is a file, not a folder" in run("get", "bucket:acme/raw:logs.json/", "no", status=1)
    assert "'log' does not exist" in run("get", "bucket:acme/raw:log", "no", status=1)


def test_a_branch_and_a_tag_are_told_apart(run, source: Path, folder: Path) -> None:
    with LocalHub(folder) as hub:
        hub.repositories.create_branch("datasets/acme/corpus", "draft")
        hub.repositories.create_tag("datasets/acme/corpus", "v1")
    run("put", str(source), "dataset:acme/corpus@draft")
    assert listed(run, "dataset:acme/corpus") == {}
    assert len(listed(run, "dataset:acme/corpus@draft")) == 3
    assert "tag or a commit" in run("put", str(source), "dataset:acme/corpus@v1", status=1)
    assert "does not exist" in run("put", str(source), "dataset:acme/corpus@none", status=1)


def test_the_same_bytes_are_stored_once_however_they_came(run, source: Path, folder: Path) -> None:
    """A client cuts files elsewhere than ``put`` does; the Xet hash of what is there already is taken."""
    from huggingface_hub import HfApi

    with LocalHub(folder) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token())
        api.upload_file(path_or_fileobj=BINARY, path_in_repo="a.bin", repo_id="acme/corpus", repo_type="dataset")
    run("put", str(source / "deep/data.bin"), "dataset:acme/corpus:b.bin")
    found = listed(run, "dataset:acme/corpus")
    assert found["a.bin"] == found["b.bin"]
    assert run("put", str(source / "deep/data.bin"), "dataset:acme/corpus:a.bin").startswith("Nothing to commit")


def test_gitattributes_that_go_in_too_decide_how_files_are_stored(run, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/.gitattributes").write_text("*.txt filter=lfs\n")
    (tmp_path / "s/a.txt").write_text("text")
    run("put", str(tmp_path / "s"), "dataset:acme/corpus")
    assert listed(run, "dataset:acme/corpus")["a.txt"][1] == "xet"


def test_gits_own_folder_stays_out(run, source: Path) -> None:
    (source / ".git").mkdir()
    (source / ".git/config").write_text("")
    run("put", str(source), "dataset:acme/corpus")
    assert len(listed(run, "dataset:acme/corpus")) == 3


def test_standard_input_and_output_are_streams_of_bytes(folder: Path) -> None:
    command = [sys.executable, "-m", "xethub_local.cli"]
    end = ["--folder", str(folder)]
    subprocess.run([*command, "put", "-", "dataset:acme/corpus:x.bin", *end], input=BINARY, check=True, timeout=60)
    done = subprocess.run(
        [*command, "get", "dataset:acme/corpus:x.bin", "-", *end], check=True, capture_output=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (BINARY, b"")


def test_standard_input_needs_a_name(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    assert "standard input has no file name" in run("put", "-", "dataset:acme/corpus", status=2)
    assert "only once" in run("put", "-", "-", "dataset:acme/corpus:x", status=2)


def test_one_file_goes_to_a_file_or_a_folder_like_cp(run, source: Path) -> None:
    run("put", str(source), "dataset:acme/corpus")
    Path("there").mkdir()
    for destination in ([], ["renamed.bin"], ["there"], ["new/"], ["deep/in/new.bin"]):
        run("get", "dataset:acme/corpus:deep/data.bin", *destination)
    assert set(tree(Path())) == {"data.bin", "renamed.bin", "there/data.bin", "new/data.bin", "deep/in/new.bin"}
    assert {*tree(Path()).values()} == {BINARY}


def test_a_folder_comes_out_under_its_own_name(run, source: Path) -> None:
    run("put", str(source), "dataset:acme/corpus")
    run("get", "dataset:acme/corpus:deep")
    run("get", "dataset:acme/corpus:deep/", "other")
    run("get", "dataset:acme/corpus")
    assert set(tree(Path("deep"))) == set(tree(Path("other"))) == {"data.bin", "er/empty.txt"}
    assert "deep/data.bin" in tree(Path("corpus"))


def test_files_that_are_there_and_equal_are_left_alone(run, source: Path) -> None:
    run("put", str(source), "dataset:acme/corpus:s")
    run("get", "dataset:acme/corpus:s", "copy")
    before = Path("copy/deep/data.bin").stat().st_mtime_ns
    Path("copy/notes.txt").write_text("b note\n")
    assert run("get", "dataset:acme/corpus:s", "copy") == "Copied 1 file (7 B) to copy; 2 unchanged.\n"
    assert Path("copy/deep/data.bin").stat().st_mtime_ns == before
    assert tree(Path("copy")) == tree(source)


def test_nothing_is_written_outside_of_the_destination(run, source: Path, tmp_path: Path) -> None:
    run("put", str(source), "dataset:acme/corpus")
    (tmp_path / "outside").mkdir()
    Path("copy").mkdir()
    Path("copy/deep").symlink_to(tmp_path / "outside")
    assert "a symbolic link leads there" in run("get", "dataset:acme/corpus", "copy", status=1)
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "victim").write_text("old")
    Path("copy2").mkdir()
    Path("copy2/notes.txt").symlink_to(tmp_path / "victim")
    run("get", "dataset:acme/corpus", "copy2")
    assert (tmp_path / "victim").read_text() == "old"
    assert Path("copy2/notes.txt").read_text() == "a note\n"


def test_a_copy_that_breaks_off_leaves_nothing(run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("put", str(source), "dataset:acme/corpus:s")
    Path("copy/deep").mkdir(parents=True)
    Path("copy/deep/data.bin").write_text("old")

    def breaks_off(*_: object):
        yield BINARY[:1000]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli_get, "_content", breaks_off)
    assert "No space left on device" in run("get", "dataset:acme/corpus:s/deep", "copy/deep", status=1)
    assert tree(Path("copy")) == {"deep/data.bin": b"old"}


def test_bytes_that_are_not_what_was_committed_are_not_kept(run, source: Path, folder: Path) -> None:
    run("put", str(source / "deep/data.bin"), "dataset:acme/corpus")
    digest = hashlib.sha256(b"other").hexdigest()
    from xethub_local.metadata.commits import PutXet

    with LocalHub(folder) as hub:
        (entry,) = hub.repositories.entries(
            "datasets/acme/corpus", hub.repositories.resolve("datasets/acme/corpus", "main"), "data.bin"
        )
        hub.commits.commit(
            "datasets/acme/corpus", "main", [PutXet("bad.bin", entry.xet_hash or "", digest, entry.size)], title="bad"
        )
    assert "damaged in the data folder" in run("get", "dataset:acme/corpus:bad.bin", status=1)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["put", "none.txt", "dataset:acme/corpus"], "the source none.txt does not exist"),
        (["put", ".", "dataset:acme/corpus"], "no files found in ."),
        (["put", ".", "dataset:acme/none"], "datasets/acme/none does not exist"),
        (["get", "dataset:acme/none"], "xethub-local create-repo"),
        (["get", "dataset:acme/corpus:none"], "'none' does not exist"),
        (["get", "bucket:acme/raw:none"], "'none' does not exist"),
        (["get", "dataset:acme/corpus@none"], "Revision 'none' does not exist"),
        (["get", "dataset:acme/corpus:.gitattributes/", "x"], "is a file, not a folder"),
        (["ls", "dataset:acme/corpus:none"], "'none' does not exist"),
    ],
)
def test_what_is_not_there_is_named(run, arguments: list[str], message: str) -> None:
    assert message in run(*arguments, status=1)


def test_a_folder_does_not_go_to_standard_output(run) -> None:
    assert "only a single file can be written to standard output" in run("get", "dataset:acme/corpus", "-", status=2)


def test_a_file_that_cannot_be_read_is_named(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("x")

    really_open = Path.open

    def refused(self: Path, *arguments: Any, **named: Any) -> object:
        if self == tmp_path / "f":
            raise PermissionError(13, "Permission denied", str(self))
        return really_open(self, *arguments, **named)

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "open", refused)
    assert f"cannot read {tmp_path / 'f'}: Permission denied." in run(
        "put", str(tmp_path / "f"), "bucket:acme/raw", status=1
    )


def test_both_work_while_the_server_runs(run, source: Path, folder: Path) -> None:
    import requests

    with LocalHub(folder) as hub:
        run("put", str(source), "dataset:acme/corpus")
        url = f"{hub.url}/datasets/acme/corpus/resolve/main/deep/data.bin"
        assert requests.get(url, timeout=20).content == BINARY
        run("get", "dataset:acme/corpus:deep/data.bin")
        assert Path("data.bin").read_bytes() == BINARY
