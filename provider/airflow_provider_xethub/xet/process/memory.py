"""The memory of this process, and how much more there is: in its control groups and on the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Return the resident size of this process in bytes."""
    try:
        # Uploads ask for each block: psutil takes ten times as long.
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        import psutil

        return int(psutil.Process().memory_info().rss)


def available(root: Path = _ROOT) -> int:
    """Return how many bytes more this process may take before the host or a control group of it is full.

    :param root: where ``proc`` and ``sys`` are mounted.
    """
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what is left in each control group with a limit, of version 1 or 2, that this process belongs to.

    The files are those of the kernel's ``Documentation/admin-guide/cgroup-v1/memory.rst`` and ``cgroup-v2.rst``. In a
    container the path of the group may not exist, because only the part below the container's own is mounted: then the
    ancestors that exist count, and the mounted root is among them.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
            files = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mounts = ["sys/fs/cgroup/memory"]
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for group in (own, *own.parents):
                if ".." not in group.parts and (left := _left(root / mount / group, *files)) is not None:
                    yield left


def _left(group: Path, limit_file: str, usage_file: str, reclaimable: str) -> int | None:
    """Return what is left in a control group; ``None`` if it has no limit.

    Cached files that nobody has used for a while count as free: the kernel drops them first.
    """
    try:
        limit, usage = (group / limit_file).read_text().strip(), int((group / usage_file).read_text())
        if limit == "max":
            return None
        statistics = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
        return int(limit) - usage + int(statistics.get(reclaimable, 0))
    except (OSError, ValueError):
        return None
