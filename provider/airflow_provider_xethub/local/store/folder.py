"""Small files that a data folder has one of, written by whoever comes first."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can enter: private repositories are in it. One that is there stays as it is.

    :raises OSError: it cannot be made.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was faster
            folder.mkdir(mode=0o700)


def write_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of ``path``; where there is none yet, write what ``make`` returns, for its owner only.

    Of several processes that start on one folder one writes, and all return the same.

    :raises OSError: the folder cannot be read or written.
    """
    if not path.exists():
        # A hard link appears whole and only once.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as new:
            new.write(make())
            new.flush()
            os.fchmod(new.fileno(), 0o600)
            with contextlib.suppress(FileExistsError):
                os.link(new.name, path)
    return path.read_bytes()
