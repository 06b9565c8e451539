"""Mirrors of random trees: both sides become equal, a dry run predicts it, and a second run does nothing."""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import binary, write
from support.examples import examples
from support.repository_trees import read_tree, set_tree

COMMIT = "POST .*/commit/.*"
NAMES = st.sampled_from(
    ["a", "A", "b.csv", "ä b", "a\u0308 b", "#%20?.bin", "..c", ".d", "[e]*", "日本.csv", "README.md"]
)
CONTENTS = st.sampled_from([b"", b"x,y\n", b"y,x\n", b"\0x", b"\0y", b"\0" + binary(300)])
PATTERNS = st.sampled_from(["*.csv", "a*", "a/", "*", "[[]e]*/*", "*%20*", "*/*", "A"])
SOME = st.none() | st.lists(PATTERNS, min_size=1, max_size=2)
FOLDERS = st.sampled_from(["", "data/in", "a"])


def flat(tree: dict, above: str = "") -> dict[str, bytes]:
    """Return the files of nested folders by path."""
    found = {}
    for name, each in tree.items():
        found |= flat(each, f"{above}{name}/") if isinstance(each, dict) else {above + name: each}
    return found


TREES = st.recursive(
    st.dictionaries(NAMES, CONTENTS, max_size=4),
    lambda inner: st.dictionaries(NAMES, CONTENTS | inner, max_size=4),
    max_leaves=4,
).map(flat)
"""Files by path, where no file is also a folder."""


def matches(path, patterns):
    return any(fnmatchcase(path, each + "*" if each.endswith("/") else each) for each in patterns or ())


def is_tree(paths):
    """Whether no file is the folder of another one."""
    return not any(path[:at] in paths for path in paths for at, char in enumerate(path) if char == "/")


def below(tree, folder):
    return {f"{folder}/{path}" if folder else path: content for path, content in tree.items()}


def selected(tree, patterns, exclude, folder=""):
    """The part of a tree in a folder that a mirror may touch, with full paths."""
    start = f"{folder}/" if folder else ""
    inside = {path: path[len(start) :] for path in tree if path.startswith(start)}
    return {
        path: tree[path]
        for path, relative in inside.items()
        if (patterns is None or matches(relative, patterns)) and not matches(relative, exclude)
    }


@pytest.fixture
def fresh(tmp_path):
    def make(name, files):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).mkdir()
        return write(tmp_path / name, files)

    return make


@pytest.mark.hypothesis
@pytest.mark.parametrize("repo_type", ["dataset", "bucket"])
def test_a_repository_becomes_equal_to_a_source(hub, hook, make_repo, fresh, repo_type):
    @settings(max_examples=examples(12))
    @given(ours=TREES, theirs=TREES, patterns=SOME, exclude=SOME, protect=SOME, folder=FOLDERS)
    def each(ours, theirs, patterns, exclude, protect, folder):
        repo, source = make_repo("dataset"), fresh("source", ours)
        before = theirs
        set_tree(hub, repo, before)
        if repo_type == "bucket":
            repo = make_repo("bucket")
            if before:
                hook.publish(fresh("before", before), CommitRequest(repo, ()))
        start = f"{folder}/" if folder else ""
        protected = {path for path in before if matches(path[len(start) :], protect)}
        protected |= {"README.md"} & before.keys() if repo_type == "dataset" else set()
        gone = selected(before, patterns, exclude, folder).keys() - protected
        wanted = selected(below(ours, folder), patterns, exclude, folder)
        expected = {path: content for path, content in before.items() if path not in gone} | wanted
        options = {
            "path_in_repo": folder or None,
            "patterns": patterns,
            "exclude": exclude,
            "protect": protect,
            "max_delete_share": 1,
            "allow_empty": True,
        }
        request = CommitRequest(repo, ())
        if repo_type == "dataset" and (folder in before or not is_tree(expected)):
            with pytest.raises(XetInputError):
                hook.mirror(source, request, **options)
            assert read_tree(hub, repo) == before
            return
        plan = hook.mirror(source, request, dry_run=True, **options)
        assert read_tree(hub, repo) == before
        result = hook.mirror(source, request, **options)
        assert read_tree(hub, repo) == expected
        assert result["plan"] == plan
        changed = {path for path in wanted.keys() & before.keys() if before[path] != wanted[path]}
        assert plan["added"] == sorted(wanted.keys() - before.keys())
        assert plan["changed"] == sorted(changed)
        assert plan["removed"] == result["deleted"] == sorted(gone - wanted.keys())
        assert plan["bytes"] == sum(len(wanted[path]) for path in (*plan["added"], *plan["changed"]))
        assert sorted(file["path"] for file in result["files"]) == sorted((*plan["added"], *plan["changed"]))
        hub.log.clear()
        assert not hook.mirror(source, request, **options)["created"]
        assert not hub.log.requests(f"{COMMIT}|POST .*/batch|(POST|PUT) /cas/.*")

    each()


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", ["folder", "object storage"])
def test_a_destination_becomes_equal_to_a_repository(hub, hook, make_repo, fresh, kind):
    @settings(max_examples=examples(12))
    @given(
        first=TREES,
        second=TREES,
        mine=TREES,
        patterns=SOME,
        exclude=SOME,
        protect=SOME,
        folder=st.sampled_from(["", "a"]),
    )
    def each(first, second, mine, patterns, exclude, protect, folder):
        repo, root = make_repo("dataset"), fresh("destination", mine)
        exclude = [*(exclude or ()), ".gitattributes"]
        start = len(folder) + 1 if folder else 0
        here, put = dict(mine), set()
        for tree in (first, second):
            set_tree(hub, repo, tree)
            options = {
                "path_in_repo": folder or None,
                "patterns": patterns,
                "exclude": exclude,
                "protect": protect,
                "max_delete_share": 1,
                "allow_empty": True,
            }
            where = root if kind == "folder" else f"file://{root}"
            wanted = {path[start:]: each for path, each in selected(tree, patterns, exclude, folder).items()}
            gone = {path for path in put - wanted.keys() if path in selected(here, patterns, exclude)}
            gone -= {path for path in gone if matches(path, protect)}
            expected = {path: each for path, each in here.items() if path not in gone} | wanted
            if folder in tree or not is_tree(expected):
                with pytest.raises(XetInputError):
                    hook.mirror_download(where, repo, **options)
                assert content(root) == here
                return
            plan = hook.mirror_download(where, repo, dry_run=True, **options)
            assert content(root) == here
            result = hook.mirror_download(where, repo, **options)
            assert content(root) == expected
            assert result["plan"] == plan
            assert plan["removed"] == sorted(f"{folder}/{path}" if folder else path for path in gone)
            assert plan["unchanged"] == sum(1 for path, each in wanted.items() if here.get(path) == each)
            hub.log.clear()
            again = hook.mirror_download(where, repo, **options)["plan"]
            assert (again["added"], again["changed"], again["removed"]) == ([], [], [])
            assert not hub.log.requests("GET (/cas|.*/resolve)/.*")
            here, put = expected, (put - gone) | wanted.keys()

    each()


def content(folder):
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".xethub-mirror.json"}
