"""What must exist: the content of every repository, and the changes that may have been made to it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Tree = Mapping[str, bytes]


@dataclass(frozen=True)
class Change:
    """What one task, or somebody else, does to one repository.

    :param repo: name of the repository, such as ``datasets/local/a``.
    :param puts: contents by path.
    :param deletes: paths to delete.
    :param mirrored: a folder with a trailing slash, in which nothing but ``puts`` remains.
    """

    repo: str
    puts: Tree = field(default_factory=dict)
    deletes: frozenset[str] = frozenset()
    mirrored: str | None = None

    def apply(self, tree: Tree) -> dict[str, bytes]:
        """Return the tree after the change."""
        folder = self.mirrored
        kept = {
            path: each
            for path, each in tree.items()
            if path not in self.deletes and (folder is None or not path.startswith(folder))
        }
        return {**kept, **self.puts}


def unexplained_commits(
    before: Tree, trees: Sequence[Tree], changes: Sequence[Change], *, may_be_parts: bool = False
) -> list[str]:
    """Return what is wrong with the commits that were made since ``before``.

    Each must be exactly one of the changes, all of it, and no change may be made twice.

    :param trees: the tree of each new commit, oldest first.
    :param may_be_parts: whether a change may become several commits, each with some of its paths: an upload is divided
        if the Hub says that the commit is too large.
    """
    wrong: list[str] = []
    left = list(changes)
    for number, tree in enumerate(trees, 1):
        made = next((change for change in left if change.apply(before) == tree), None)
        if made is None and may_be_parts and tree != before and _is_part(before, tree, left):
            pass
        elif made is None:
            wrong.append(f"commit {number} of {len(trees)} is not one whole change: {difference(before, tree)}")
        elif tree == before:
            wrong.append(f"commit {number} of {len(trees)} changes nothing: a change was committed twice")
        else:
            left.remove(made)
        before = tree
    return wrong


def _is_part(before: Tree, after: Tree, changes: Sequence[Change]) -> bool:
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    return any(
        changed and all(after.get(path) == wanted.get(path) for path in changed)
        for wanted in [change.apply(before) for change in changes]
    )


def torn_paths(before: Tree, after: Tree, changes: Sequence[Change]) -> list[str]:
    """Return the paths of a bucket that have neither their earlier content nor that of a change.

    A bucket has no commits: a change may be visible in part while it is made, but never in part of a file.
    """
    possible = [before, *(change.apply(before) for change in changes)]
    return [
        path
        for path in sorted({*before, *after, *(path for tree in possible for path in tree)})
        if after.get(path) not in [tree.get(path) for tree in possible]
    ]


def lost_changes(tree: Tree, acknowledged: Iterable[Sequence[Change]]) -> list[str]:
    """Return what is missing from the tree though a task that did it reported success.

    :param acknowledged: alternatives, one of which must have been done: a source may change while it is uploaded.
    """
    missing = []
    for alternatives in acknowledged:
        differences = [difference(change.apply(tree), tree) for change in alternatives]
        if SAME not in differences:
            missing.append(" or ".join(differences))
    return missing


SAME = "no difference"


def difference(wanted: Tree, found: Tree) -> str:
    """Say how two trees differ, in a line."""
    lines = [f"missing {path!r}" for path in sorted(wanted.keys() - found.keys())]
    lines += [f"unexpected {path!r}" for path in sorted(found.keys() - wanted.keys())]
    lines += [
        f"{path!r} has {len(found[path])} bytes that differ from the expected {len(wanted[path])}"
        for path in sorted(wanted.keys() & found.keys())
        if wanted[path] != found[path]
    ]
    return ", ".join(lines[:6]) + (f" and {len(lines) - 6} more" if len(lines) > 6 else "") or SAME


class Model:
    """The trees as they were last verified, by repository, and every version that a path ever had there."""

    def __init__(self) -> None:
        self.trees: dict[str, dict[str, bytes]] = {}
        self.versions: dict[str, list[Tree]] = {}
        """Trees since the beginning of the current step, oldest first: what a reader may have seen."""

    def begin_step(self) -> None:
        """Forget the earlier versions: a reader that starts now must not see them."""
        self.versions = {repo: [tree] for repo, tree in self.trees.items()}

    def settle(self, repo: str, trees: Sequence[Tree]) -> None:
        """Remember what was found and explained; the last of ``trees`` is the newest."""
        self.versions.setdefault(repo, []).extend(trees)
        if trees:
            self.trees[repo] = dict(trees[-1])
