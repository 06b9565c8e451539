"""The plan of a mirror: what it adds, changes, removes and keeps, and when it is refused. Pure: no I/O.

Both directions use the same rule. *Wanted* are the selected files of the side that is copied, *there* are the files of
the side that becomes equal to it. All paths are paths in the repository.

* Files that ``patterns`` and ``exclude`` do not select are neither copied nor removed.
* Protected files are copied, but never removed.
* A file is never removed by way of another one: where a file would take the place of a folder with files that stay, or
  the other way round, the mirror is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.message_text import counted, shortened, size
from airflow_provider_xethub.xet.path_patterns import Selection, matches
from airflow_provider_xethub.xet.records import XetMirrorPlan
from airflow_provider_xethub.xet.repo import check_path, folders_above

ALWAYS_PROTECTED = (".gitattributes", "README.md")
"""Files in the root of a repository that the Hub or its users write there: the rules of storage, and the card."""

MAX_DELETE_SHARE = 0.5
"""Default of the largest share of files that a mirror removes."""

MOST_SHOWN = 50
"""Paths of each kind in the table of a plan."""

_MAX_NAMED = 5


class Paths(Protocol):
    """Paths that can be searched, and iterated several times."""

    def __contains__(self, path: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True)
class Rules:
    """What a mirror may touch.

    :param selection: selects by the path below the mirrored folder.
    :param protect: patterns of paths below the mirrored folder that are never removed.
    :param max_delete_share: refuse to remove more than this share of the files that it may remove.
    :param allow_empty: whether the side that is copied may have no file.
    :param folder: the mirrored folder of the repository, without a slash at its end. Empty: the root.
    :param always_protected: paths in the repository that are never removed.
    """

    selection: Selection
    protect: Sequence[str] = ()
    max_delete_share: float = MAX_DELETE_SHARE
    allow_empty: bool = False
    folder: str = ""
    always_protected: Collection[str] = ()

    def relative(self, path: str) -> str:
        """Return the path below the mirrored folder."""
        return path[len(self.folder) + 1 :] if self.folder else path

    def full(self, relative: str) -> str:
        """Return the path in the repository."""
        return f"{self.folder}/{relative}" if self.folder else relative

    def selects(self, path: str) -> bool:
        """Return whether the mirror may touch a path in the repository."""
        return self.selection.takes(self.relative(path))

    def protects(self, path: str) -> bool:
        """Return whether a path in the repository is never removed."""
        return path in self.always_protected or matches(self.relative(path), self.protect)


def rules(
    patterns: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    protect: str | Sequence[str] | None = None,
    max_delete_share: float = MAX_DELETE_SHARE,
    path_in_repo: str | None = None,
    *,
    allow_empty: bool = False,
    always_protected: Collection[str] = (),
) -> Rules:
    """Check the arguments of a mirror.

    :raises XetInputError: one of them is empty or of the wrong type; ``None`` stands for its default.
    """
    protected = arguments.selection("protect", protect, arguments.REMEDIES["protect"]) or []
    share = arguments.share("max_delete_share", max_delete_share)
    folder = (arguments.string("path_in_repo", path_in_repo) or "").strip("/")
    if folder:
        check_path(folder)
    return Rules(Selection(patterns, exclude), protected, share, allow_empty, folder, always_protected)


@dataclass(frozen=True)
class Plan:
    """What a mirror does. All paths are sorted.

    :param added: wanted, and not there.
    :param changed: wanted, and there with other content.
    :param removed: there, and not wanted.
    :param unchanged: there with the wanted content.
    :param kept: there and not wanted, but protected, or not known to be from an earlier mirror.
    :param size: bytes of the added and changed files.
    """

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    unchanged: Sequence[str]
    kept: Sequence[str]
    size: int

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.added or self.changed or self.removed)

    def as_record(self, repo: str, oid: str) -> XetMirrorPlan:
        """Return the plan as a JSON value.

        :param repo: the ``hf://`` URI of the repository and revision.
        :param oid: the commit that was compared; empty for a bucket.
        """
        return {
            "repo": repo,
            "oid": oid,
            "added": list(self.added),
            "changed": list(self.changed),
            "removed": list(self.removed),
            "kept": list(self.kept),
            "unchanged": len(self.unchanged),
            "bytes": self.size,
        }


class Comparison:
    """Collects what both sides have, each path once and in any order, and makes a plan of it.

    It keeps paths only, so that a mirror of many files takes about a hundred bytes for each.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._added: list[str] = []
        self._changed: list[str] = []
        self._unchanged: list[str] = []
        self._removed: list[str] = []
        self._kept: list[str] = []
        self._size = 0

    def add_wanted(self, path: str, size: int, *, is_there: bool, is_equal: bool) -> None:
        """Add a file that is to be there.

        :param size: its size.
        :param is_there: whether there is a file of this path.
        :param is_equal: whether that file has the wanted content.
        """
        if is_equal:
            self._unchanged.append(path)
            return
        (self._changed if is_there else self._added).append(path)
        self._size += size

    def add_stray(self, path: str, *, is_untouchable: bool) -> None:
        """Add a file that is there and not wanted.

        :param is_untouchable: whether it must not be removed, because it is not from an earlier mirror.
        """
        if self._rules.selects(path):
            is_kept = is_untouchable or self._rules.protects(path)
            (self._kept if is_kept else self._removed).append(path)

    def plan(self) -> Plan:
        """Return the plan."""
        for paths in (self._added, self._changed, self._removed, self._unchanged, self._kept):
            paths.sort()
        return Plan(self._added, self._changed, self._removed, self._unchanged, self._kept, self._size)


def compare(
    wanted: Mapping[str, int],
    there: Collection[str],
    equal: Collection[str],
    rules: Rules,
    untouchable: Collection[str] = (),
) -> Plan:
    """Compare both sides.

    :param wanted: the size of each file that is to be there, by path. All of them are selected.
    :param there: the paths of all files that are there, also of those that are not selected.
    :param equal: the paths of files that are there with the wanted content.
    :param untouchable: paths that are there and must not be removed, because they are not from an earlier mirror.
    """
    found, present, same = Comparison(rules), set(there), set(equal)
    for path, count in wanted.items():
        found.add_wanted(path, count, is_there=path in present, is_equal=path in same)
    for path in present - wanted.keys():
        found.add_stray(path, is_untouchable=path in untouchable)
    return found.plan()


def check(plan: Plan, wanted: Paths, there: Paths, rules: Rules, where: str, *, has_folders: bool) -> None:
    """Refuse a mirror that would remove what nobody meant to remove.

    :param wanted, there: the paths of both sides, as for :func:`compare`. They are searched for each folder, and may be
        too many for memory.
    :param where: what would be changed, for the message.
    :param has_folders: whether a name there is either a file or a folder; in buckets and object stores, it can be both.
    :raises XetInputError: too many files would be removed, or a file that stays is in the way of another one.
    """
    at_risk = sum(1 for path in there if rules.selects(path) and not rules.protects(path))
    share = len(plan.removed) / at_risk if at_risk else 0.0
    if share > rules.max_delete_share:
        raise XetInputError(
            f"The mirror would remove {len(plan.removed)} of {counted(at_risk, 'file')} of {where} ({share:.0%}): "
            f"more than max_delete_share={rules.max_delete_share:g} allows. Nothing was changed. Check the source; if "
            f"this is meant, set max_delete_share={_rounded_up(share):g}. It would remove "
            f"{shortened(plan.removed, _MAX_NAMED)}."
        )
    if has_folders:
        _check_clashes(wanted, there, set(plan.removed), where)


def _check_clashes(wanted: Paths, there: Paths, removed: Collection[str], where: str) -> None:
    """Refuse a file in the place of a folder that stays, and a folder in the place of a file that stays."""

    def stays(path: str) -> bool:
        return path in there and path not in removed and path not in wanted

    clashes = _clashes((path for path in there if stays(path)), lambda folder: folder in wanted)
    if clash := min(clashes, default=None):
        path, above = clash
        raise XetInputError(
            f"{above} cannot be written to {where}: {path} is in a folder of that name, and the mirror does not "
            f"remove it. Nothing was changed. Remove {path} first, or exclude {above}."
        )
    clashes = _clashes(wanted, lambda folder: folder in wanted or stays(folder))
    if clash := min(clashes, default=None):
        path, above = clash
        raise XetInputError(
            f"{path} cannot be written to {where}: {above} is a file there, and the mirror does not remove it. "
            f"Nothing was changed. Remove {above} first, or exclude one of them."
        )


def _clashes(paths: Iterable[str], is_file: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield paths with a folder above them that is a file."""
    checked, found = "", None
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder != checked:
            # Files of one folder mostly follow one another.
            checked = folder
            found = next((each for each in folders_above(path) if is_file(each)), None)
        if folder and found is not None:
            yield path, found


def summary(plan: XetMirrorPlan) -> str:
    """Return the plan in one line."""
    parts = [f"{len(plan[kind])} {kind}" for kind in _KINDS]  # type: ignore[literal-required]
    text = f"{', '.join(parts)}, {plan['unchanged']} unchanged"
    return f"{text}, {len(plan['kept'])} kept" if plan["kept"] else text


def table(plan: XetMirrorPlan, *, sends: bool) -> str:
    """Return the plan as a table for the log.

    :param sends: whether the bytes are sent to the Hub, where deduplication may save some of them.
    """
    lines = [
        f"{kind:<8} {path if path.isprintable() else ascii(path)}"
        for kind in (*_KINDS, "kept")
        for path in _first(plan[kind])  # type: ignore[literal-required]
    ]
    if sends:
        # The client of CAS finds out what is there already only by uploading.
        lines.append(f"at most {size(plan['bytes'])} to send; CAS may have parts of it already")
    else:
        lines.append(f"at most {size(plan['bytes'])} to receive")
    return "\n".join([summary(plan), *lines])


_KINDS = ("added", "changed", "removed")


def _first(paths: Sequence[str]) -> Iterator[str]:
    yield from paths[:MOST_SHOWN]
    if len(paths) > MOST_SHOWN:
        yield f"… and {len(paths) - MOST_SHOWN} more"


def _rounded_up(share: float) -> float:
    return min(1.0, (int(share * 100) + 1) / 100)
