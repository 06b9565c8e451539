"""The changes of a pull request as a git diff."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import unified_diff

from xethub_local.metadata.trees import Entry, pointer_text

_MAX_BYTES = 1024 * 1024
_NOTHING = "/dev/null"


def diff_text(before: dict[str, Entry], after: dict[str, Entry], read: Callable[[str], bytes]) -> str:
    """Return the diff between two trees.

    :param read: returns the content of a regular file, given its git id.
    """
    lines: list[str] = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if (old.oid if old else None) != (new.oid if new else None):
            lines += _file(path, old, new, read)
    return "".join(f"{line}\n" for line in lines)


def _file(path: str, old: Entry | None, new: Entry | None, read: Callable[[str], bytes]) -> Iterator[str]:
    yield f"diff --git a/{path} b/{path}"
    if old is None:
        yield "new file mode 100644"
    if new is None:
        yield "deleted file mode 100644"
    yield f"index {old.oid[:7] if old else '0' * 7}..{new.oid[:7] if new else '0' * 7}"
    names = (f"a/{path}" if old else _NOTHING, f"b/{path}" if new else _NOTHING)
    texts = (_lines(old, read), _lines(new, read))
    if texts[0] is None or texts[1] is None:
        yield f"Binary files {names[0]} and {names[1]} differ"
        return
    yield from unified_diff(texts[0], texts[1], *names, lineterm="")


def _lines(entry: Entry | None, read: Callable[[str], bytes]) -> list[str] | None:
    """Return the lines that git stores; ``None`` for binary and for large files."""
    if entry is None:
        return []
    if entry.sha256 is not None:
        return pointer_text(entry.sha256, entry.size).splitlines()
    if entry.size > _MAX_BYTES:
        return None
    try:
        text = read(entry.oid).decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.removesuffix("\n").split("\n") if text else []
