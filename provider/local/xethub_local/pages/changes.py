"""The changes between two commits: the files, their sizes, and the lines of small text files."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import unified_diff

from xethub_local.display import count_text, size_text
from xethub_local.metadata.history import Commit
from xethub_local.metadata.trees import Entry
from xethub_local.pages.files import text_of
from xethub_local.pages.frame import empty, pages_of, size
from xethub_local.pages.html import Column, Html, link, table, tag
from xethub_local.pages.repository import RepositoryView, part_shown

_MAX_DIFF_BYTES = 64 * 1024
_MAX_DIFF_LINES = 1_000
_MAX_DIFFS = 20
_CLASSES = {"+": "added", "-": "deleted", "@": "hunk"}


@dataclass(frozen=True)
class Change:
    """A file that was added, changed or deleted; ``before`` or ``after`` is ``None`` if it does not exist there."""

    path: str
    before: Entry | None
    after: Entry | None

    @property
    def kind(self) -> str:
        """``added``, ``changed`` or ``deleted``."""
        return "added" if self.before is None else "deleted" if self.after is None else "changed"


def changes_between(view: RepositoryView, before: Commit | None, after: Commit) -> list[Change]:
    """Return the changes between two commits, sorted by path; without ``before`` every file is new."""
    old = _files(view, before) if before else {}
    new = _files(view, after)
    return [
        Change(path, old.get(path), new.get(path))
        for path in sorted({*old, *new})
        # Compare the content, not the commit that wrote it: writing the same content again is not a change.
        if (old[path].oid if path in old else None) != (new[path].oid if path in new else None)
    ]


def changes_shown(view: RepositoryView, changes: list[Change], after: str, before: str) -> list[object]:
    """Return a table of the changed files, and the differences of small text files."""
    if not changes:
        return [tag("h3", "Changes"), empty("No files changed.")]
    shown, page, pages = part_shown(view.request, changes)
    columns = [Column("Path", "path"), Column("Change"), Column("Before", "number"), Column("After", "number")]
    rows = [
        [
            link(view.url("blob", after if change.after else before, change.path), change.path),
            tag("span", change.kind, class_=f"label {change.kind}"),
            size(change.before.size) if change.before else "none",
            size(change.after.size) if change.after else "none",
        ]
        for change in shown
    ]
    diffs = [diff for change in shown if (diff := _diff(view, change))]
    path = str(view.request.http.scope["path"])
    return [
        tag("h3", "Changes ", tag("span", _counted(changes), class_="muted")),
        table("Changed files", columns, rows),
        pages_of(path, page, pages),
        diffs[:_MAX_DIFFS],
        tag("p", f"Differences of {count_text(len(diffs) - _MAX_DIFFS, 'more file')} are not shown.", class_="muted")
        if len(diffs) > _MAX_DIFFS
        else None,
    ]


def _files(view: RepositoryView, commit: Commit) -> dict[str, Entry]:
    entries = view.request.hub.repositories.entries(view.name, commit)
    return {entry.path: entry for entry in entries if entry.kind != "directory"}


def _counted(changes: list[Change]) -> str:
    kinds = [change.kind for change in changes]
    found = [f"{kinds.count(kind):,} {kind}" for kind in ("added", "changed", "deleted") if kind in kinds]
    size_after = sum(change.after.size for change in changes if change.after)
    return f"{count_text(len(changes), 'file')}: {', '.join(found)}; {size_text(size_after)} after the change"


def _diff(view: RepositoryView, change: Change) -> Html | None:
    before, after = _lines(view, change.before), _lines(view, change.after)
    if before is None or after is None:
        return None
    lines = [*unified_diff(before, after, lineterm="")][2:]  # without the file names, which the summary shows
    shown = [tag("span", f"{line}\n", class_=_CLASSES.get(line[:1])) for line in lines]
    if not shown:
        return None
    return tag(
        "details",
        tag("summary", tag("code", change.path)),
        tag("pre", shown, class_="diff", tabindex="0", aria_label=f"Lines of {change.path}"),
        open=True,
        class_="difference",
    )


def _lines(view: RepositoryView, entry: Entry | None) -> list[str] | None:
    """Return the lines of a small text file, an empty list for a missing one, and ``None`` for other files."""
    if entry is None:
        return []
    if entry.xet_hash or entry.size > _MAX_DIFF_BYTES:
        return None
    text = text_of(view.request.hub.repositories.blob(entry.oid))
    # Only \n ends a line, as in git.
    lines = text.split("\n") if text is not None else None
    if lines is None or len(lines) > _MAX_DIFF_LINES:
        return None
    return lines[:-1] if lines and not lines[-1] else lines
