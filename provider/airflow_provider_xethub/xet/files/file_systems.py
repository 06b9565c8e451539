"""Which file systems this machine has, and which of them no other machine reads.

Source: ``proc_pid_mountinfo(5)``. Elsewhere than on Linux nothing is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

MEMORY = frozenset({"tmpfs", "ramfs"})

LOCAL = MEMORY | {
    *("apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "overlay", "reiserfs", "ufs", "xfs"),
    *("fuse-overlayfs", "fuse.fuse-overlayfs", "zfs"),
}
"""File systems that no other machine reads. Any other type counts as a network file system: it may be one."""

MOUNTS = "/proc/self/mountinfo"


def of_path(path: Path, mounts: str = MOUNTS) -> str | None:
    """Return the type of the file system that a folder is on; ``None`` where it is unknown (not Linux).

    :param mounts: a file as ``proc_pid_mountinfo(5)`` describes it.
    """
    real = os.path.realpath(path)
    kind, longest = None, 0
    for fields, found in _mounts(mounts):
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        is_above = point == "/" or real == point or real.startswith(f"{point}/")
        if is_above and len(point) >= longest:  # a later mount hides an earlier one
            kind, longest = found, len(point)
    return kind


def by_device(mounts: str = MOUNTS) -> dict[int, str]:
    """Return the type of the file system of each mounted device, by ``st_dev``.

    Files of some file systems, such as btrfs and overlay, may have other devices, which are not in the result.
    """
    found: dict[int, str] = {}
    for fields, kind in _mounts(mounts):
        major, _, minor = fields[2].partition(":")
        device = os.makedev(int(major), int(minor))
        found[device] = kind if found.get(device, kind) == kind else ""
    return found


def _mounts(mounts: str) -> Iterator[tuple[list[str], str]]:
    """Yield the fields of each mount before the separator, and the type of its file system."""
    try:
        lines = Path(mounts).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        yield before.split(" "), after.split(" ")[0]
