"""``xethub-local put`` takes the files of a folder that an upload takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError, XetSourceError
from airflow_provider_xethub.xet.files.sources import collect
from airflow_provider_xethub.xet.process.temporary_names import new_name
from xethub_local.cli.arguments import CommandError
from xethub_local.cli.source_files import LeftOut, SourceFolder

BLOB = "0123456789abcdef0123456789abcdef01234567"
FOLDERS = ["sub", ".git", ".cache", "huggingface", ".locks", "models--acme--m", "a.csv"]
FILES = [
    "a.csv",
    "b.txt",
    ".GIT",
    ".hidden",
    "huggingface",
    "models--",
    "models--acme--m",
    ".xethub-mirror.json",
    "xethub-mirror.json",
    new_name("b.txt"),
    "x.xetpart",
    f"{BLOB}.incomplete",
    f"x.{BLOB}.0a1b2c3d.incomplete",
    "x.incomplete",
]
PATHS = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(FILES)).map(
    lambda each: "/".join([*each[0], each[1]])
)
LINKS = st.tuples(PATHS, st.sampled_from([".", "sub", "a.csv", "sub/a.csv", "..", "../outside", "missing"]))
PATTERNS = st.sampled_from(["*.csv", "sub/", "sub", "s?b", "dri?", "*/b.txt", ".locks/*", "*", "sub/*/", "[ab].*"])


def make_tree(folder: Path, paths: list[str], links: list[tuple[str, str]]) -> Path:
    """Make as much of it as is possible: a name is a file or a folder."""
    source = folder / "in"
    source.mkdir()
    (folder / "outside").write_text("x")
    for path, target in [*((path, "") for path in paths), *links]:
        try:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            if target:
                (source / path).symlink_to(source / target)
            else:
                (source / path).touch(exist_ok=False)
        except (FileExistsError, NotADirectoryError):
            pass
    return source


def by_command(source: Path, exclude: list[str], follow_links: bool) -> list[str] | str:
    try:
        return [path for _, path in SourceFolder(source, exclude, LeftOut(), follow_links=follow_links).files()]
    except CommandError:
        return "refused"  # whichever of several reasons comes first


def by_upload(source: Path, exclude: list[str], follow_links: bool) -> list[str] | str:
    try:
        files = collect(source, exclude=exclude or None, follow_links=follow_links)
    except XetSourceError as error:
        return [] if "no file found" in str(error) else "refused"
    except XetInputError:
        return "refused"
    return [file.path_in_repo for file in files]


@given(st.lists(PATHS, max_size=6), st.lists(LINKS, max_size=3), st.lists(PATTERNS, max_size=2), st.booleans())
@example([".cache/huggingface/x", "sub/.cache/huggingface/x", "a.csv"], [], [], False)
@example(["sub/a.csv"], [("b.txt", "sub"), ("sub/b.txt", "..")], [], True)
def test_a_folder_has_the_same_files_for_both(
    paths: list[str], links: list[tuple[str, str]], exclude: list[str], follow_links: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = make_tree(Path(folder), paths, links)
        assert by_command(source, exclude, follow_links) == by_upload(source, exclude, follow_links)


def test_the_name_of_the_folder_counts_as_for_an_upload(tmp_path: Path) -> None:
    for name in (".cache", ".git", ".locks"):
        (tmp_path / name / "huggingface").mkdir(parents=True)
        (tmp_path / name / "huggingface/a").touch()
        (tmp_path / name / "b").touch()
        assert by_command(tmp_path / name, [], False) == by_upload(tmp_path / name, [], False)
    assert by_command(tmp_path / ".cache", [], False) == ["b"]
