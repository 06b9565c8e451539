"""Which files go to CAS, and which are left out: the patterns mean what they mean to git itself."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from xethub_local.metadata.upload_modes import (
    default_gitattributes,
    ignored_paths,
    lfs_rules,
    upload_mode,
)

PATTERNS = [
    "*.csv",
    "dir",
    "dir/",
    "dir/*",
    "/dir/*",
    "/a.csv",
    "a/**/b",
    "**/x.bin",
    "dir/**",
    "saved_model/**/*",
    "*",
    "*tfevents*",
    "a?c.txt",
    "[ab].txt",
    "[!a].txt",
    "data/[0-9]*.csv",
    "\\#x",
    "*.tar.gz",
    "foo/bar",
    "/foo",
    "**",
    "dir/**/",
    "x[[:space:]]y",
    "*.{csv,txt}",
    "ab\\*c",
    "/*",
    "[[:digit:]].txt",
]
PATHS = [
    "a.csv",
    "d/a.csv",
    "dir",
    "dir/x",
    "dir/x/y",
    "q/dir/x",
    "q/dir",
    "a/b",
    "a/c/b",
    "a/c/d/b",
    "x.bin",
    "z/x.bin",
    "z/z/x.bin",
    "saved_model/a",
    "saved_model/a/b",
    "q/saved_model/a",
    "events.tfevents.1",
    "abc.txt",
    "a.txt",
    "b.txt",
    "c.txt",
    "data/1x.csv",
    "data/x.csv",
    "#x",
    "t.tar.gz",
    "foo/bar",
    "foo/bar/baz",
    "q/foo/bar",
    "foo",
    "ab*c",
    "abxc",
    "1.txt",
    "neg",
    "*.{csv,txt}",
    "x y",
    "a b.bin",
    "\u00e9/\u65e5.csv",
]


@pytest.fixture(scope="module")
def git_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def ask_git(folder: Path, *command: str) -> list[str]:
    asked = "\0".join(PATHS) + "\0"
    done = subprocess.run(["git", *command], cwd=folder, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.split("\0")[:-1]


def some(seed: int) -> list[str]:
    """Return each pattern alone for the first seeds, later a few of them."""
    return [PATTERNS[seed]] if seed < len(PATTERNS) else random.Random(seed).choices(PATTERNS, k=4)


@pytest.mark.parametrize("seed", range(60))
def test_gitattributes_mean_what_they_mean_to_git(git_folder: Path, seed: int) -> None:
    chosen = random.Random(seed)
    settings = ["filter=lfs diff=lfs -text", "-filter", "!filter", "text", "filter=other"]
    lines = [f"{pattern} {chosen.choice(settings[: 1 if seed < len(PATTERNS) else 5])}" for pattern in some(seed)]
    text = "\n".join(["# comment", *lines, '"a b.bin" filter=lfs', ""])
    (git_folder / ".gitattributes").write_text(text)
    answers = ask_git(git_folder, "check-attr", "-z", "--stdin", "filter")
    expected = {path for path, answer in zip(answers[::3], answers[2::3], strict=True) if answer == "lfs"}
    assert {path for path in PATHS if lfs_rules(text)(path)} == expected, text


@pytest.mark.parametrize("seed", range(60))
def test_gitignore_means_what_it_means_to_git(git_folder: Path, seed: int) -> None:
    chosen = random.Random(seed)
    text = "".join(f"{chosen.choice(['', '', '!'])}{pattern}\n" for pattern in some(seed)) + "# comment\n\n"
    (git_folder / ".gitignore").write_text(text)
    expected = set(ask_git(git_folder, "check-ignore", "--no-index", "-z", "--stdin"))
    assert {path for path in PATHS if ignored_paths(text)(path)} == expected, text


@pytest.mark.parametrize("line", ["[", "!", "\\", "[a", "a\\", "[z-a]", "\0", "*" * 1000, '"', "[attr]lfs filter=lfs"])
def test_a_line_that_is_no_pattern_is_passed_over(line: str) -> None:
    assert ignored_paths(f"{line}\nx.txt\n")("x.txt")
    assert lfs_rules(f"{line} filter=lfs\nx.txt filter=lfs\n")("x.txt")


@pytest.mark.parametrize(
    ("path", "size", "sample", "mode"),
    [
        ("a.txt", 5, b"hello", "regular"),
        ("a.txt", 5, b"he\0lo", "lfs"),
        ("a.txt", 5, b"\xff\xfe\x00a", "lfs"),
        ("cut.txt", 600, b"x" * 511 + "\u00e9".encode()[:1], "regular"),
        ("a.txt", 10 * 1024 * 1024, b"hello", "regular"),
        ("a.txt", 10 * 1024 * 1024 + 1, b"hello", "lfs"),
        ("sub/a.parquet", 5, b"hello", "lfs"),
        ("a.parquet", 0, b"", "regular"),
        ("saved_model/x/y", 5, b"hello", "lfs"),
        ("notes.lfs.txt", 5, b"hello", "lfs"),
        ("logs.tar.old", 5, b"hello", "lfs"),
        ("drawing.png", 5, b"hello", "regular"),
    ],
)
def test_binary_and_large_files_go_to_cas(path: str, size: int, sample: bytes, mode: str) -> None:
    assert upload_mode(size, sample, lfs_rules(default_gitattributes("models"))(path)) == mode


def test_media_go_to_cas_by_name_in_datasets_only() -> None:
    assert lfs_rules(default_gitattributes("datasets"))("drawing.png")
    assert lfs_rules(default_gitattributes("spaces"))("drawing.png") is None


def test_the_last_matching_line_of_gitattributes_counts() -> None:
    rules = lfs_rules("# c\n*.csv filter=lfs\nsmall/*.csv -filter -diff\n\n*.md text\n")
    assert [rules(path) for path in ("a.csv", "x/a.csv", "small/a.csv", "a.md")] == [True, True, False, None]
