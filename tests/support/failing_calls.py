"""Makes the n-th system call of a process fail, with a small preloaded library that the C compiler here builds.

It counts the calls on paths below certain folders and on internet sockets, whoever makes them: Python, the transfer
client, SQLite. Several processes share one count, such as the forks of one process.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")

CALLS = (
    "open",
    "create",
    "stat",
    "list",
    "read",
    "write",
    "resize",
    "sync",
    "close",
    "rename",
    "remove",
    "make",
    "socket",
    "connect",
    "send",
    "receive",
)
"""Kinds of calls, in the order that the library numbers them."""

ON_SOCKETS = frozenset(["socket", "connect", "send", "receive"])

ERRORS = {
    "open": errno.EACCES,
    "create": errno.ENOSPC,
    "stat": errno.EIO,
    "list": errno.EIO,
    "read": errno.EIO,
    "write": errno.ENOSPC,
    "resize": errno.ENOSPC,
    "sync": errno.EIO,
    "close": errno.EIO,
    "rename": errno.EIO,
    "remove": errno.EACCES,
    "make": errno.ENOSPC,
    "socket": errno.EMFILE,
    "connect": errno.ECONNREFUSED,
    "send": errno.ECONNRESET,
    "receive": errno.ECONNRESET,
}
"""What each kind of call fails with."""

OTHER_ERRORS = {
    "open": errno.EMFILE,
    "create": errno.EMFILE,
    "stat": errno.EACCES,
    "list": errno.EACCES,
    "write": errno.EIO,
    "resize": errno.EIO,
    "sync": errno.ENOSPC,
    "close": errno.EDQUOT,
    "rename": errno.ENOSPC,
    "remove": errno.EIO,
    "make": errno.EACCES,
    "connect": errno.ETIMEDOUT,
    "send": errno.EPIPE,
    "receive": 0,  # the end of the connection
}
"""What they may fail with, too; others have only one error."""

_HEAD = struct.Struct(f"6i{len(CALLS)}i")
_ENTRY = struct.Struct("2i116s")
_MOST = 16384


@dataclass(frozen=True)
class Call:
    """A system call that was counted: its kind, and the path, or ``socket``."""

    kind: str
    path: str


def can_build() -> bool:
    """Return whether calls of this machine can be made to fail: it is Linux, and has a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


class FailingCalls:
    """Controls the library in other processes.

    :param folder: an empty folder for the library and its control file.
    :param below: only calls on paths below these folders count.
    :ivar environment: what the processes must have in their environment.
    """

    def __init__(self, folder: Path, below: Sequence[Path]) -> None:
        library, control = folder / "failing_calls.so", folder / "control"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        control.write_bytes(bytes(_HEAD.size + _MOST * _ENTRY.size))
        with control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "XETHUB_FAILING_CALLS": str(control),
            "XETHUB_FAILING_BELOW": os.pathsep.join(str(each.resolve()) for each in below),
        }

    def arm(self, number: int = 0, *, errors: Mapping[str, int] = ERRORS, and_later: bool = False) -> None:
        """Count from 1 again, and let one call fail.

        :param number: which call; 0: none.
        :param errors: what each kind of call fails with; 0: it returns 0.
        :param and_later: let all later calls fail, too, that would fail with the same error.
        """
        for at in range(self.count):
            _ENTRY.pack_into(self._memory, _HEAD.size + at * _ENTRY.size, 0, 0, b"")
        given = [errors.get(kind, ERRORS[kind]) for kind in CALLS]
        _HEAD.pack_into(self._memory, 0, 1, number, and_later, 0, 0, -1, *given)

    def disarm(self) -> None:
        """Let all calls succeed, and count none."""
        self._memory[:4] = bytes(4)

    @property
    def count(self) -> int:
        """How many calls there were since :meth:`arm`."""
        return min(self._head()[3], _MOST)

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self._head()[4]

    def calls(self) -> list[Call]:
        """Return the calls since :meth:`arm`, in order."""
        found = [_ENTRY.unpack_from(self._memory, _HEAD.size + at * _ENTRY.size) for at in range(self.count)]
        return [Call(CALLS[kind], path.rstrip(b"\0").decode(errors="replace")) for kind, _, path in found]

    def close(self) -> None:
        self._memory.close()

    def _head(self) -> tuple[int, ...]:
        return _HEAD.unpack_from(self._memory)
